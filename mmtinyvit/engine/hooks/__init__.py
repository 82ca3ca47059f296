"""Hooks: one verb each."""
from .average_weights import AverageWeightsHook
from .cache_logits import CacheLogitsHook
from .checkpoint import CheckpointHook
from .class_names import ClassNamesHook
from .epoch_clock import EpochClockHook
from .host_memory import HostMemoryHook
from .sparse_logit_distill import SparseLogitDistillHook
from .start import MapHeadHook, NewHeadHook, RequireWeightsHook
from .token_cache import TokenCacheHook
from .visualization import VisualizationHook

__all__ = [
    'AverageWeightsHook', 'CacheLogitsHook', 'CheckpointHook', 'ClassNamesHook', 'EpochClockHook', 'HostMemoryHook',
    'MapHeadHook', 'NewHeadHook', 'RequireWeightsHook', 'SparseLogitDistillHook', 'TokenCacheHook',
    'VisualizationHook'
]
