"""What a config of mmdet needs beyond one of mmpretrain: mmdet itself, and mmcv's compiled operators."""
from importlib import import_module
from importlib.util import find_spec

from mmtinyvit.errors import UserError

__all__ = ['require_detection', 'require_operators']


def require_detection(what: str) -> None:
    """Make sure that detectors can be built here.

    Args:
        what: What needs them, for the error.

    Raises:
        UserError: mmdet is not installed, or onedl-mmcv was built without its operators.
    """
    if find_spec('mmdet') is None:
        raise UserError(f'{what} needs mmdet, which is not installed: run `make env` in a clone, or '
                        '`pip install onedl-mmdetection`.')
    require_operators(what)


def require_operators(what: str) -> None:
    """Make sure that mmcv has its compiled operators.

    Args:
        what: What needs them, for the error.

    Raises:
        UserError: onedl-mmcv was built without them.
    """
    try:
        import torch  # noqa: F401  the operators link against it
        import_module('mmcv._ext')
    except ImportError as error:
        raise UserError(f"{what} needs mmcv's compiled operators, which this environment does not have ({error}): run "
                        '`make env` in a clone, or `pip install --no-build-isolation --no-cache-dir --force-reinstall '
                        '--no-deps onedl-mmcv` where torch is installed.') from error
