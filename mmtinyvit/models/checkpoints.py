"""Checkpoint files, wherever they lie, read without running code from them: by this library and by MMEngine.

Importing this module makes it MMEngine's reader, for ``load_from``, ``resume``, ``init_cfg`` and whatever else asks
MMEngine for a checkpoint.
"""
import argparse
import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.parse import urlparse

import fsspec
import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import class_names
from mmtinyvit.zoo.download import Report, fetch, local_path
from mmtinyvit.zoo.index import entry_at

from .checkpoint_keys import open_containers, unwrap_checkpoint

__all__ = ['fetch_weights', 'load_checkpoint', 'read_checkpoint', 'read_state_dict']


def _method(owner: type, name: str) -> object:
    """Stands in for ``getattr``, with which MMEngine's curves restore their methods, and which could reach anything."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'mean', 'current'):
        raise UnpicklingError(f'it asks for the attribute {name}')
    return getattr(owner, name)


# What checkpoints of MMEngine, MAE and Cream hold beside tensors, and what is read in its place.
_RECONSTRUCT, _SCALAR = np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]  # NumPy's, of arrays and numbers
HARMLESS = [
    HistoryBuffer, (_method, 'builtins.getattr'), (dict, 'mmengine.config.config.ConfigDict'),
    (OrderedDict, 'yacs.config.CfgNode'), argparse.Namespace, slice, np.ndarray, np.dtype,
    *((function, f'numpy.{core}.multiarray.{name}') for core in ('core', '_core')  # NumPy 1 and 2
      for function, name in ((_RECONSTRUCT, '_reconstruct'), (_SCALAR, 'scalar'))),
    *{type(np.dtype(code)) for code in np.typecodes['All']},
    # NumPy's generators, and what restores them
    *(getattr(np.random, name) for name in ('Generator', 'RandomState', 'SeedSequence', 'MT19937', 'PCG64', 'PCG64DXSM',
                                            'Philox', 'SFC64')),
    *(getattr(np.random._pickle, name) for name in ('__bit_generator_ctor', '__generator_ctor', '__randomstate_ctor')),
    np.random.bit_generator.__pyx_unpickle_SeedSequence,
]


def read_state_dict(source: str | Path) -> dict[str, Tensor]:
    """The tensors of :func:`read_checkpoint`, without what training wrapped around the network's names."""
    return unwrap_checkpoint(read_checkpoint(source)[0])


def read_checkpoint(source: str | Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a checkpoint, and what it says about itself.

    Args:
        source: As for :func:`load_checkpoint`.

    Returns:
        tuple: The tensors, and the checkpoint's ``'meta'``, with ``'teacher_store'`` if it was trained from a store.

    Raises:
        UserError: It cannot be had, is damaged, or holds no state dict.
    """
    checkpoint = load_checkpoint(source)
    meta = dict(checkpoint.get('meta') or {})
    if 'teacher_store' in checkpoint:
        meta['teacher_store'] = checkpoint['teacher_store']
    return checkpoint['state_dict'], meta


def load_checkpoint(source: str | Path, map_location: Any = 'cpu') -> dict:
    """A checkpoint in MMEngine's form.

    Args:
        source: A file, a ``.safetensors`` file, a URL, see :func:`fetch_weights`, an address of fsspec such as
            ``s3://``, or a name that MMEngine knows such as ``torchvision://resnet50``. The tensors may be bare, or lie
            in entries like ``'model'``: see :func:`~mmtinyvit.models.checkpoint_keys.open_containers`.
        map_location: As of ``torch.load``.

    Returns:
        dict: ``'state_dict'``, the tensors under the names that they have there, and the other entries that are no
        tensors.

    Raises:
        UserError: It cannot be had, is damaged, holds more than :data:`HARMLESS` things, or holds no state dict of
            plain tensors.
    """
    content = _content(str(source), map_location)
    tensors = open_containers(content) if isinstance(content, Mapping) else {}
    tensors = {name: value for name, value in tensors.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f'{source} holds no state dict: give a checkpoint of a model.')
    _require_plain(tensors, source)
    others = {name: value for name, value in content.items() if not isinstance(value, Tensor)}
    if not isinstance(others.get('meta', {}), Mapping):  # of another program
        del others['meta']
    return others | dict(state_dict=tensors)


def fetch_weights(url: str, folder: str | Path | None = None, mirror: str | None = None,
                  report: Report | None = None) -> Path:
    """Download a checkpoint, unless it is here already, and refuse one that is damaged or would run code.

    Args:
        url: Where it was published.
        folder: Where to keep it; see :func:`~mmtinyvit.zoo.download.checkpoint_folder`.
        mirror: Address of a folder that has the same file.
        report: See :func:`~mmtinyvit.zoo.download.fetch`, which also says what is raised.
    """
    path, entry = local_path(url, folder), entry_at(url)
    address = f'{mirror.rstrip("/")}/{path.name}' if mirror else url
    return fetch(address, path, entry and entry.sha256, report, check=lambda part: _load(part, address, 'cpu'))


# ---------------------------------------------------------------- reading
def _content(source: str, map_location: Any = 'cpu') -> Any:
    """What lies at ``source``, as it lies there; of a published file also the names of its classes."""
    address = _address(source)
    if not address.startswith(('http://', 'https://')):
        return _load(address if '://' in address else Path(address).expanduser(), source, map_location)
    # torch's own cache may be all that a machine without a network has
    cached, entry = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(address).path).name), entry_at(address)
    path = cached if cached.is_file() and entry is None else fetch_weights(address)
    content = _load(path, address, map_location)
    if source.startswith('mmcls://'):  # MMEngine's name of the backbone alone
        tensors = open_containers(content)
        return dict(state_dict={name.removeprefix('backbone.'): value for name, value in tensors.items()
                                if name.startswith('backbone.')})
    if entry:
        layout = 'fall11' if entry.data == 'ImageNet-21k' else 'in1k'
        content = dict(content, meta=dict(dataset_meta=dict(classes=class_names(layout))))
    return content


def _address(source: str) -> str:
    """The URL or path behind a name of MMEngine's hubs; any other source as it is."""
    scheme, _, name = source.partition('://')
    if scheme in ('torchvision', 'modelzoo'):
        known = mmengine_checkpoint.get_torchvision_models()
    elif scheme in ('open-mmlab', 'openmmlab'):
        known = mmengine_checkpoint.get_external_models()
        name = mmengine_checkpoint.get_deprecated_model_names().get(name, name)
    elif scheme == 'mmcls':
        known = mmengine_checkpoint.get_mmcls_models()
    else:
        return source
    if name not in known:
        raise UserError(f'MMEngine knows no checkpoint {source}: give the path of a file, or its URL.')
    return known[name]


def _load(path: str | Path, name: str, map_location: Any) -> Any:
    """The content of a file that is called ``name``; the errors of reading are turned into sentences."""
    try:
        if name.endswith('.safetensors') and '://' not in str(path):
            from safetensors import safe_open
            with safe_open(path, 'pt') as file:
                meta = (file.metadata() or {}).get('mmtinyvit')
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return dict(state_dict=tensors, meta=json.loads(meta) if meta else {})
        remote = fsspec.open(path, 'rb') if '://' in str(path) else nullcontext(path)
        with torch.serialization.safe_globals(HARMLESS), remote as file:
            return torch.load(file, map_location=map_location, weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f'There is no checkpoint {name}: check the path.') from error
    except Exception as error:  # damaged bytes make each reader fail in its own way
        if code := re.search(r'GLOBAL (\S+) (was not an allowed|whose module)', str(error)):
            raise UserError(f'{name} is no checkpoint of tensors and plain values: it holds {code[1]}, and to read '
                            'that may run code; get its state dict alone, or, if you trust whoever wrote it, allow '
                            'that type with torch.serialization.add_safe_globals in a module of custom_imports.'
                            ) from error
        empty = isinstance(path, Path) and path.is_file() and not path.stat().st_size
        said = ' '.join(str(error).rpartition('WeightsUnpickler error:')[2].split())
        said = re.split(r'\. | Check the documentation', said)[0][:120]
        reason = 'it is empty' if empty else said or type(error).__name__
        raise UserError(f'{name} is no checkpoint of tensors and plain values, or it is damaged ({reason}): get it '
                        'again.') from error


def _require_plain(tensors: Mapping[str, Any], source: str | Path) -> None:
    """Raises :class:`UserError` if a tensor is of a kind that no module of dense parameters can take."""
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            continue
        kind, way = next(((kind, way) for odd, kind, way in (
            (value.is_nested, 'nested', 'one tensor for each of its parts'),
            (value.is_quantized, 'quantised', 'its dequantize(), or the network before it was quantised'),
            (value.is_meta, 'on the meta device, without values', 'a network that has weights'),
            (value.layout is not torch.strided, 'sparse', 'its to_dense()'),
            (type(value) not in (Tensor, nn.Parameter), f'a {type(value).__name__}', 'a plain tensor')) if odd),
            (None, None))
        if kind:
            raise UserError(f'The tensor {name} of {source} is {kind}, and networks here have plain, dense ones: save '
                            f'{way}.')


@CheckpointLoader.register_scheme(
    ['', 'http://', 'https://', r'(\S+\:)?s3://', 'modelzoo://', 'torchvision://', 'open-mmlab://', 'openmmlab://',
     'mmcls://'], force=True)
def load_from_mmtinyvit(source: str, map_location: Any = None) -> Any:
    """What MMEngine's ``load_checkpoint``, ``load_from``, ``resume`` and ``init_cfg`` read with.

    The content is left as it is, but for a ``'state_dict'`` where the tensors lie in another entry.
    """
    content = _content(source, map_location)
    tensors = open_containers(content) if isinstance(content, Mapping) else content
    if isinstance(tensors, Mapping):
        _require_plain(tensors, source)
    return content if tensors is content else dict(content, state_dict=tensors)
