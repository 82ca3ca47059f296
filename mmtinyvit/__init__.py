"""mmtinyvit: pretraining distillation for small vision transformers, as a plugin library for OpenMMLab."""
from typing import Any

from .compat import check_libraries, hush_libraries
from .version import __version__
from .zoo.hub import join_model_hub

__all__ = ['__version__', 'distill', 'get_config', 'get_model', 'list_models']

hush_libraries()
join_model_hub()


def __getattr__(name: str) -> Any:
    """``distill`` and the functions of ``mmtinyvit.apis.models``, which import torch, when they are first asked for."""
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    check_libraries()
    if name == 'distill':
        from .cli.distill import distill
        return distill
    from .apis import models
    return getattr(models, name)
