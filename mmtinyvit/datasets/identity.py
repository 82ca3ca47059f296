"""What a dataset and a pipeline *are*, as short JSON that two runs can compare."""
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import Any

import numpy as np
import torch

from ..store.keys import check_keys
from .load_image import LoadImage
from .view_dataset import find_pipeline
from .views import find_seeded_augment, iter_transforms, sample_key

__all__ = ['canary_digest', 'classes_hash', 'dataset_identity', 'in_blocks', 'iter_keys', 'library_versions',
           'pipeline_identity', 'plain_json']

REPLAY_LIBRARIES = ('numpy', 'torch', 'torchvision', 'timm', 'opencv-python', 'opencv-python-headless', 'pillow',
                    'mmcv', 'mmpretrain', 'onedl-mmcv', 'onedl-mmpretrain', 'mmtinyvit')


def iter_keys(dataset: Any, key_root: str | None) -> Iterator[str]:
    """The keys of all samples, in the dataset's order."""
    if hasattr(dataset, 'iter_sample_keys'):
        return iter(dataset.iter_sample_keys())
    find_pipeline(dataset)  # refuses what has no names
    return (sample_key(dataset.get_data_info(i), key_root) for i in range(len(dataset)))


def in_blocks(keys: Iterable[str], size: int = 65_536) -> Iterator[list[str]]:
    """The keys in lists: 14 million at once would be more than a gigabyte of Python strings."""
    keys = iter(keys)
    while block := list(islice(keys, size)):
        yield block


def dataset_identity(keys: Iterable[str], classes: list[str] | None) -> dict:
    """Number, order and classes of a dataset: of its keys, and of the class names in the order of the labels.

    Raises:
        UserError: A key is not UTF-8, or has a line break; it is named.
    """
    order, count = hashlib.sha256(), 0
    for block in in_blocks(keys):
        text = ''.join(f'{key}\n' for key in block).encode(errors='surrogatepass')
        order.update(text)
        if text.count(b'\n') != len(block) or not _is_utf8(text):
            check_keys(block, count)
        count += len(block)
    return dict(num_samples=count, order_hash=order.hexdigest(),
                num_classes=None if classes is None else len(classes), classes_hash=classes_hash(classes))


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def classes_hash(classes: Sequence[str] | None) -> str | None:
    """SHA-256 of the class names in the order of the labels; None if there are no labels."""
    return None if classes is None else hashlib.sha256('\n'.join(map(str, classes)).encode()).hexdigest()


def pipeline_identity(dataset: Any, mixing: dict | None) -> dict:
    """The transforms that make a view, and how views are mixed, as plain JSON; ``min_side`` where images are reduced.

    The decoder and the libraries' versions show in the canaries, not here. The size at which images are decoded does
    not show there if the canaries are small images, which are not reduced.
    """
    identity = dict(transforms=plain_json(find_seeded_augment(dataset).transforms_cfg), mixing=plain_json(mixing))
    sides = [load.min_side for load in iter_transforms(dataset) if isinstance(load, LoadImage)]
    if not any(sides):
        return identity  # as in stores that were saved before there was min_side
    return identity | {'min_side': sides[0] if len(set(sides)) == 1 else sides}


def plain_json(value: Any) -> Any:
    """A config value as JSON types; functions and classes become their names."""
    if isinstance(value, dict):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str):
        return str(value)  # also where it is more than that, such as a torch.TorchVersion
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return getattr(value, '__qualname__', str(value))


def library_versions() -> dict[str, str]:
    """The installed versions of every library that can change what a seed means."""
    versions = {}
    for name in REPLAY_LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def canary_digest(inputs: torch.Tensor) -> bytes:
    """16 bytes that stand for the pixels of a replayed view, shape and type included.

    Args:
        inputs: ``(3, H, W)``, as packed, before normalisation.
    """
    array = inputs.contiguous().numpy()
    digest = hashlib.blake2b(f'{array.dtype.str} {array.shape}'.encode(), digest_size=16)
    digest.update(array)
    return digest.digest()
