"""Metrics, and the class maps between ImageNet's label layouts."""
from .class_map import IN21K_LAYOUTS, MappedAccuracy, in21k_to_in1k_index, synsets
from .few_shot import few_shot_accuracy, sample_episodes

__all__ = ['IN21K_LAYOUTS', 'MappedAccuracy', 'few_shot_accuracy', 'in21k_to_in1k_index', 'sample_episodes', 'synsets']
