"""Losses: plain tensors in, a tensor out."""
from .class_token_distillation import ClassTokenDistillationLoss, class_token_distillation_loss
from .feature_distillation import FeatureDistillationLoss, feature_distillation_loss
from .hard_distillation import HardDistillationLoss, hard_distillation_loss
from .relation_distillation import RelationDistillationLoss, relation_distillation_loss
from .soft_distillation import SoftDistillationLoss, soft_distillation_loss
from .sparse_soft_target import SparseSoftTargetLoss, sparse_soft_target_loss
from .teacher_record import TeacherRecord

__all__ = [
    'ClassTokenDistillationLoss', 'FeatureDistillationLoss', 'HardDistillationLoss', 'RelationDistillationLoss',
    'SoftDistillationLoss', 'SparseSoftTargetLoss', 'TeacherRecord', 'class_token_distillation_loss',
    'feature_distillation_loss', 'hard_distillation_loss', 'relation_distillation_loss', 'soft_distillation_loss',
    'sparse_soft_target_loss'
]
