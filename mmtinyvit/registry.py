"""The map of the library: one child registry per MMEngine root, all in scope ``mmtinyvit``.

A config names our parts with the prefix, ``type='mmtinyvit.TinyViT'``, from any default scope and without
``custom_imports``: MMEngine imports this module when it meets the prefix, and each registry imports its ``locations``
on first use. Only MMEngine is imported here, and the versions of all are checked.
"""
from mmengine import registry as roots
from mmengine.registry import Registry

from .compat import check_libraries

__all__ = [
    'DATASETS', 'DATA_SAMPLERS', 'HOOKS', 'LOOPS', 'METRICS', 'MODELS', 'OPTIM_WRAPPER_CONSTRUCTORS', 'TRANSFORMS'
]

check_libraries()


def _child(name: str, parent: Registry, location: str) -> Registry:
    return Registry(name, parent=parent, scope='mmtinyvit', locations=[location])


# ---------------------------------------------------------------- data: datasets, samplers, replayed transforms
DATASETS = _child('dataset', roots.DATASETS, 'mmtinyvit.datasets')
DATA_SAMPLERS = _child('data sampler', roots.DATA_SAMPLERS, 'mmtinyvit.datasets')
TRANSFORMS = _child('transform', roots.TRANSFORMS, 'mmtinyvit.datasets')

# ---------------------------------------------------------------- models: backbones, heads, losses, classifiers
MODELS = _child('model', roots.MODELS, 'mmtinyvit.models')

# ---------------------------------------------------------------- engine: hooks, loops, optimisation
HOOKS = _child('hook', roots.HOOKS, 'mmtinyvit.engine')
LOOPS = _child('loop', roots.LOOPS, 'mmtinyvit.engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child('optimizer wrapper constructor', roots.OPTIM_WRAPPER_CONSTRUCTORS,
                                    'mmtinyvit.engine')

# ---------------------------------------------------------------- evaluation
METRICS = _child('metric', roots.METRICS, 'mmtinyvit.evaluation')
