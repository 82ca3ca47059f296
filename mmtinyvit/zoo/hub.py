"""The published models in mmpretrain's own list, once both libraries are imported, in either order.

mmpretrain asks nobody else for models, and importing it from here would take seconds: so an import hook waits until the
user does.
"""
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from mmtinyvit.compat import ImportHook
from mmtinyvit.errors import UserError
from mmtinyvit.paths import mim_root

__all__ = ['join_model_hub']

HUB = 'mmpretrain.apis.model'


def join_model_hub() -> None:
    """Add the metafiles to ``mmpretrain.list_models``: now, or when mmpretrain is imported."""
    if HUB in sys.modules:
        _join(sys.modules[HUB])
    else:
        sys.meta_path.insert(0, ImportHook(_joined, HUB))


@contextmanager
def _joined(hub: ModuleType) -> Iterator[None]:
    yield
    _join(hub)


def _join(hub: ModuleType) -> None:
    try:
        root = mim_root()
    except UserError:  # the package folder alone, without metafiles: mmpretrain works as if it were not there
        return
    hub.ModelHub.register_model_index(root / 'model-index.yml', config_prefix=root)
