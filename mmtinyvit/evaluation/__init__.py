"""Metrics, and the class maps between ImageNet's label layouts."""
from .accuracies import MappedAccuracy, RealAccuracy, real_labels
from .class_map import LAYOUTS, match_classes, synsets
from .few_shot import few_shot_accuracy, sample_episodes

__all__ = [
    'LAYOUTS', 'MappedAccuracy', 'RealAccuracy', 'few_shot_accuracy', 'match_classes', 'real_labels',
    'sample_episodes', 'synsets'
]
