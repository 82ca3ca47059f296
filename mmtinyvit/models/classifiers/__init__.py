"""Classifiers: students of a store or of a teacher beside them, and several teachers as one."""
from .deit_distill import DeiTDistillClassifier
from .distill import DistillClassifier, DistillTimmClassifier
from .ensemble import EnsembleClassifier
from .frozen_teacher import FrozenTeacher

__all__ = ['DeiTDistillClassifier', 'DistillClassifier', 'DistillTimmClassifier', 'EnsembleClassifier', 'FrozenTeacher']
