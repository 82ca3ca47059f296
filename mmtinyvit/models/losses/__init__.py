"""Losses: plain tensors in, a tensor out."""
from .distillation import (
    HardDistillationLoss,
    SoftDistillationLoss,
    SparseSoftTargetLoss,
    hard_distillation_loss,
    soft_distillation_loss,
    sparse_soft_target_loss,
    teacher_class,
)
from .tinymim import (
    ClassTokenDistillationLoss,
    FeatureDistillationLoss,
    RelationDistillationLoss,
    class_token_distillation_loss,
    feature_distillation_loss,
    relation_distillation_loss,
)

__all__ = [
    'ClassTokenDistillationLoss', 'FeatureDistillationLoss', 'HardDistillationLoss', 'RelationDistillationLoss',
    'SoftDistillationLoss', 'SparseSoftTargetLoss', 'class_token_distillation_loss', 'feature_distillation_loss',
    'hard_distillation_loss', 'relation_distillation_loss', 'soft_distillation_loss', 'sparse_soft_target_loss',
    'teacher_class'
]
