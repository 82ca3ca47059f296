"""What a config of mmseg needs beyond one of mmpretrain: mmseg itself, and mmcv's compiled operators."""
from importlib.util import find_spec

from mmtinyvit.apis.detection import require_operators
from mmtinyvit.errors import UserError

__all__ = ['require_segmentation']


def require_segmentation(what: str) -> None:
    """Make sure that segmenters can be built here.

    Args:
        what: What needs them, for the error.

    Raises:
        UserError: mmseg is not installed, or onedl-mmcv was built without its operators.
    """
    if find_spec('mmseg') is None:
        raise UserError(f'{what} needs mmseg, which is not installed: run `make env` in a clone, or '
                        '`pip install onedl-mmsegmentation`.')
    require_operators(what)
