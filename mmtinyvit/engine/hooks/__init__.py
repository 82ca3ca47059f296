"""Hooks: one verb each."""
from .epoch_clock import EpochClockHook
from .map_head import MapHeadHook
from .sparse_logit_distill import SparseLogitDistillHook

__all__ = ['EpochClockHook', 'MapHeadHook', 'SparseLogitDistillHook']
