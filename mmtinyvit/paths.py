"""Where the configs and tools that belong to this installation are."""
from pathlib import Path

from .errors import UserError

__all__ = ['config_root', 'mim_root']


def mim_root() -> Path:
    """The folder with ``configs/``, ``tools/`` and ``model-index.yml``.

    ``mmtinyvit/.mim`` in an installed wheel, the root of the repository in an editable install or a checkout.

    Raises:
        UserError: Neither exists, for example after copying the package folder alone.
    """
    package = Path(__file__).resolve().parent
    for root in (package / '.mim', package.parent):
        if (root / 'configs').is_dir() and (root / 'model-index.yml').is_file():
            return root
    raise UserError(f'The configs of mmtinyvit are neither in {package / ".mim"} nor in {package.parent}: '
                    'install a wheel, or run `pip install -e .` in a clone of the repository.')


def config_root() -> Path:
    """The folder ``configs/`` of this installation, see :func:`mim_root`."""
    return mim_root() / 'configs'
