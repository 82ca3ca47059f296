"""Losses: plain tensors in, a tensor out."""
from .sparse_soft_target import SparseSoftTargetLoss, sparse_soft_target_loss

__all__ = ['SparseSoftTargetLoss', 'sparse_soft_target_loss']
