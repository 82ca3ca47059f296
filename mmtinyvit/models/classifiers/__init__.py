"""Classifiers: students that learn from a store."""
from .distill import DistillClassifier, DistillTimmClassifier

__all__ = ['DistillClassifier', 'DistillTimmClassifier']
