"""The published models in mmpretrain's own list, once both libraries are imported, in either order.

mmpretrain asks nobody else for models, and importing it from here would take seconds: so an import hook waits until the
user does.
"""
import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from mmtinyvit.errors import UserError
from mmtinyvit.paths import mim_root

__all__ = ['join_model_hub']

HUB = 'mmpretrain.apis.model'


def join_model_hub() -> None:
    """Add the metafiles to ``mmpretrain.list_models``: now, or when mmpretrain is imported."""
    if HUB in sys.modules:
        _join(sys.modules[HUB])
    else:
        sys.meta_path.insert(0, _WaitForHub())


class _WaitForHub(MetaPathFinder):
    """Leaves the import to the other finders, and joins the hub behind it."""

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != HUB:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _join(module)

        spec.loader.exec_module = exec_module
        return spec


def _join(hub: ModuleType) -> None:
    try:
        root = mim_root()
    except UserError:  # the package folder alone, without metafiles: mmpretrain works as if it were not there
        return
    hub.ModelHub.register_model_index(root / 'model-index.yml', config_prefix=root)
