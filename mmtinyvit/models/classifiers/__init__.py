"""Classifiers: students of a store or of a teacher beside them, and several teachers as one."""
from .students import DeiTDistillClassifier, DeiTDistillHead, DistillClassifier, DistillTimmClassifier
from .teachers import EnsembleClassifier, FrozenTeacher, build_teacher

__all__ = [
    'DeiTDistillClassifier', 'DeiTDistillHead', 'DistillClassifier', 'DistillTimmClassifier', 'EnsembleClassifier',
    'FrozenTeacher', 'build_teacher'
]
