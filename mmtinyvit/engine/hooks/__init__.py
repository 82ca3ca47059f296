"""Hooks: one verb each."""
from .epoch_clock import EpochClockHook
from .sparse_logit_distill import SparseLogitDistillHook

__all__ = ['EpochClockHook', 'SparseLogitDistillHook']
