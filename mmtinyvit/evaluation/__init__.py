"""Metrics, and the class maps between ImageNet's label layouts."""
from .class_map import IN21K_LAYOUTS, MappedAccuracy, in21k_to_in1k_index, synsets

__all__ = ['IN21K_LAYOUTS', 'MappedAccuracy', 'in21k_to_in1k_index', 'synsets']
