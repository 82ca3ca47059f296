"""The map of the library: one child registry per MMEngine root, all in scope ``mmtinyvit``.

A config names our parts with the prefix, ``type='mmtinyvit.TinyViT'``, from any default scope and without
``custom_imports``: MMEngine imports this module when it meets the prefix, and each registry imports its ``locations``
on first use. Only MMEngine is imported here.
"""
from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import EVALUATOR as MMENGINE_EVALUATOR
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import TASK_UTILS as MMENGINE_TASK_UTILS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

__all__ = [
    'DATASETS', 'DATA_SAMPLERS', 'EVALUATOR', 'HOOKS', 'LOOPS', 'METRICS', 'MODELS', 'OPTIM_WRAPPER_CONSTRUCTORS',
    'TASK_UTILS', 'TRANSFORMS'
]


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(name, parent=parent, scope='mmtinyvit', locations=list(locations))


# ---------------------------------------------------------------- data: datasets, samplers, replayed transforms
DATASETS = _child('dataset', MMENGINE_DATASETS, 'mmtinyvit.datasets')
DATA_SAMPLERS = _child('data sampler', MMENGINE_DATA_SAMPLERS, 'mmtinyvit.datasets')
TRANSFORMS = _child('transform', MMENGINE_TRANSFORMS, 'mmtinyvit.datasets')

# ---------------------------------------------------------------- models: backbones, heads, losses, classifiers
MODELS = _child('model', MMENGINE_MODELS, 'mmtinyvit.models')
TASK_UTILS = _child('task util', MMENGINE_TASK_UTILS, 'mmtinyvit.models')

# ---------------------------------------------------------------- engine: hooks, loops, optimisation
HOOKS = _child('hook', MMENGINE_HOOKS, 'mmtinyvit.engine')
LOOPS = _child('loop', MMENGINE_LOOPS, 'mmtinyvit.engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child('optimizer wrapper constructor', MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
                                    'mmtinyvit.engine')

# ---------------------------------------------------------------- evaluation
METRICS = _child('metric', MMENGINE_METRICS, 'mmtinyvit.evaluation')
EVALUATOR = _child('evaluator', MMENGINE_EVALUATOR, 'mmtinyvit.evaluation')
