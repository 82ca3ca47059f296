"""Weights from a file or URL, and the check that a module got all of its own: half a network trains without a word."""
import argparse
import pickle
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse

import fsspec
import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from torch import Tensor, nn

from mmtinyvit.errors import UserError

__all__ = ['fill_module', 'read_state_dict']

SHOWN = 12  # names of each kind in an error; all of them go to the log
_QUOTED = re.compile(r'"([^"]+)"')
_SHAPES = re.compile(r'size mismatch for (\S+): .*?torch\.Size\((\[.*?\])\).*?torch\.Size\((\[.*?\])\)')


class _PlainConfig:
    """Reads the training configuration (yacs) that the original packs beside the weights as a plain dict."""

    def __new__(cls) -> OrderedDict:
        return OrderedDict()


class _Curve:
    """Stands in for ``HistoryBuffer``, which restores the methods of its whole class: those of this process stay."""

    def __setstate__(self, state: dict) -> None:
        pass


def _ignored(*_) -> None:
    """Stands in for ``getattr``, which MMEngine's checkpoints ask for to restore curves that nobody reads here."""


# What checkpoints of MMEngine, MAE and Cream hold beside tensors, and what is read in its place.
HARMLESS = [
    (_Curve, 'mmengine.logging.history_buffer.HistoryBuffer'), (_ignored, 'builtins.getattr'),
    (_PlainConfig, 'yacs.config.CfgNode'), argparse.Namespace, np.ndarray, np.dtype,
    np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0],  # how NumPy restores an array and a number
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64, np.uint32)),
]


def read_state_dict(source: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, read without running code from it.

    Args:
        source: A file, a ``.safetensors`` file, a URL, which is downloaded once into torch's cache, or an address of
            fsspec such as ``s3://``. The tensors may be bare, or lie under ``'state_dict'`` or ``'model'``.

    Raises:
        UserError: It cannot be had, is damaged, or holds no state dict.
    """
    source = str(source)
    try:
        with torch.serialization.safe_globals(HARMLESS):
            if source.endswith('.safetensors') and '://' not in source:
                from safetensors.torch import load_file
                checkpoint = load_file(source)
            elif source.startswith(('http://', 'https://')):
                checkpoint = _download(source)
            elif '://' in source:
                with fsspec.open(source, 'rb') as file:
                    checkpoint = torch.load(file, map_location='cpu', weights_only=True)
            else:
                checkpoint = torch.load(source, map_location='cpu', weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f'There is no checkpoint {source}: check the path.') from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, ImportError) as error:
        reason = ' '.join(str(error).split())[:120]
        raise UserError(f'{source} is no checkpoint of tensors and plain values, or it is damaged ({reason}): get it '
                        'again.') from error
    for name in ('state_dict', 'model'):
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(name), Mapping):
            checkpoint = checkpoint[name]
            break
    if not isinstance(checkpoint, Mapping) or not any(isinstance(value, Tensor) for value in checkpoint.values()):
        raise UserError(f'{source} holds no state dict: give a checkpoint of a model.')
    return {key.removeprefix('module.'): value for key, value in checkpoint.items() if isinstance(value, Tensor)}


def _download(url: str) -> Mapping:
    """Downloaded by the first process, read by all; a damaged file is not kept."""
    file = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(url).path).name)
    if is_main_process() and not file.exists():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file))
        except (URLError, OSError) as error:
            raise UserError(f'The checkpoint {url} cannot be downloaded ({getattr(error, "reason", error)}): check the '
                            'address and the connection, or name a local file.') from error
    barrier()
    try:
        return torch.load(file, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError):
        file.unlink(missing_ok=True)
        raise


def fill_module(module: nn.Module, state_dict: Mapping[str, Tensor], source: str, fresh: Iterable[str] = ()) -> int:
    """Load ``state_dict`` into ``module`` and make sure that nothing was left as it was.

    Args:
        module: May rename tensors on loading, as :class:`.TinyViT` does.
        state_dict: The tensors.
        source: Where they come from, for the error.
        fresh: Prefixes of what may be missing: parts that start anew.

    Returns:
        int: How many tensors of the module were filled.

    Raises:
        UserError: Tensors are missing, unknown or of another shape; names them. BatchNorm's ``num_batches_tracked``
            does not count.
    """
    missing, unknown, shapes = [], [], []
    try:
        module.load_state_dict(dict(state_dict), strict=True)
    except RuntimeError as error:
        if 'Error(s) in loading state_dict' not in str(error):
            raise
        for line in str(error).splitlines():
            quoted = [name for name in _QUOTED.findall(line) if not name.endswith('num_batches_tracked')]
            if 'Missing key(s)' in line:
                missing = quoted
            elif 'Unexpected key(s)' in line:
                unknown = quoted
            elif found := _SHAPES.search(line):
                name, theirs, ours = found.groups()
                shapes.append(f'{name} is {theirs} instead of {ours}')
    unfilled = [name for name in missing if not name.startswith(tuple(fresh))]
    names = [name for name in module.state_dict() if not name.endswith('num_batches_tracked')]
    if unfilled or unknown or shapes:
        for title, found in (('Missing', unfilled), ('Unknown', unknown), ('Other shapes', shapes)):
            if found:
                print_log(f'{title} in {source}: {", ".join(found)}', logger='current')
        raise UserError(f'The checkpoint {source} does not fill {type(module).__name__}: of {len(names)} tensors '
                        f'{_count(unfilled, "missing")}, {_count(shapes, "of another shape")}, and '
                        f'{_count(unknown, "unknown")}; give the checkpoint of the same network.')
    return len(names) - len(missing)


def _count(names: list[str], what: str) -> str:
    shown = ', '.join(names[:SHOWN]) + (', ...' if len(names) > SHOWN else '')
    return f'{len(names)} are {what}' + (f' ({shown})' if names else '')
