"""Weights from a file or URL, and the check that a module got all of its own: half a network trains without a word."""
import argparse
import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, nullcontext
from functools import partial
from itertools import chain
from pathlib import Path

import fsspec
import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.model import PretrainedInit, update_init_info
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import class_names
from mmtinyvit.zoo.download import Report, fetch, local_path
from mmtinyvit.zoo.index import PUBLISHERS, entry_at

from .checkpoint_keys import convert_vit_state_dict, unwrap_checkpoint

__all__ = ['PretrainedMixin', 'fetch_weights', 'fill_module', 'fill_vit', 'read_checkpoint', 'read_state_dict']

PRETRAINED = ('Pretrained', 'mmengine.Pretrained', PretrainedInit)
SHOWN = 12  # names of each kind in an error; all of them go to the log


class _Ignored:
    """Stands in for MMEngine's ``HistoryBuffer``, and for ``getattr``, with which a buffer restores its methods."""

    def __init__(self, *_) -> None:
        pass

    def __setstate__(self, state: dict) -> None:
        pass


# What checkpoints of MMEngine, MAE and Cream hold beside tensors, and what is read in its place.
HARMLESS = [
    (_Ignored, 'mmengine.logging.history_buffer.HistoryBuffer'), (_Ignored, 'builtins.getattr'),
    (OrderedDict, 'yacs.config.CfgNode'), argparse.Namespace, np.ndarray, np.dtype,
    np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0],  # how NumPy restores an array and a number
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64, np.uint32)),
]


def read_state_dict(source: str | Path) -> dict[str, Tensor]:
    """The tensors of :func:`read_checkpoint`."""
    return read_checkpoint(source)[0]


def read_checkpoint(source: str | Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a checkpoint, and what it says about itself, read without running code from it.

    Args:
        source: A file, a ``.safetensors`` file, a URL, see :func:`fetch_weights`, or an address of fsspec such as
            ``s3://``. The tensors may be bare, or lie under ``'state_dict'`` or ``'model'``.

    Returns:
        tuple: The tensors, and the checkpoint's ``'meta'``, with ``'teacher_store'`` if it was trained from a store.

    Raises:
        UserError: It cannot be had, is damaged, or holds no state dict.
    """
    source = str(source)
    checkpoint = _load(fetch_weights(source) if source.startswith(('http://', 'https://')) else source, source)
    if not isinstance(checkpoint, Mapping):
        checkpoint = {}
    meta = dict(checkpoint.get('meta') or {})
    if 'teacher_store' in checkpoint:
        meta['teacher_store'] = checkpoint['teacher_store']
    tensors = {key.removeprefix('module.'): value for key, value in unwrap_checkpoint(checkpoint).items()
               if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f'{source} holds no state dict: give a checkpoint of a model.')
    return tensors, meta


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
    return fetch(address, path, entry and entry.sha256, report, check=lambda part: _load(part, address))


def _load(path: str | Path, name: str) -> Mapping:
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
            return torch.load(file, map_location='cpu', weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f'There is no checkpoint {name}: check the path.') from error
    except Exception as error:  # damaged bytes make each reader fail in its own way
        code = re.search(r'GLOBAL (\S+) was not an allowed', str(error))
        reason = f'it holds {code[1]}' if code else ' '.join(str(error).split())[:120]
        raise UserError(f'{name} is no checkpoint of tensors and plain values, or it is damaged ({reason}): get it '
                        'again.') from error


@CheckpointLoader.register_scheme([re.escape(address) for address in PUBLISHERS])
def load_from_publisher(url: str, map_location: object = None) -> dict:
    """What MMEngine's ``load_checkpoint`` and ``load_from`` do with the addresses of publishers: see above.

    Returns:
        dict: ``state_dict``, and ``meta`` with the names of the classes.
    """
    state_dict, meta = read_checkpoint(url)
    entry = entry_at(url)
    if entry:
        meta = meta | dict(dataset_meta=dict(classes=class_names('fall11' if entry.data == 'ImageNet-21k' else 'in1k')))
    return dict(state_dict=state_dict, meta=meta)


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
    shapes: list[str] = []
    # each runs behind the hooks of its module that rename tensors
    with ExitStack() as hooks:
        for part in module.modules():
            hooks.enter_context(part.register_load_state_dict_pre_hook(partial(_leave_out_other_shapes, shapes)))
        found = module.load_state_dict(dict(state_dict), strict=False)
    other = {line.split()[0] for line in shapes}
    missing = [name for name in found.missing_keys if not name.endswith('num_batches_tracked') and name not in other]
    unknown = [name for name in found.unexpected_keys if not name.endswith('num_batches_tracked')]
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


def fill_vit(vit: nn.Module, checkpoint: str, optional: tuple[str, ...], fresh: Iterable[str]) -> int:
    """:func:`fill_module` from a vision transformer's checkpoint, without the ``optional`` parts that ``vit`` lacks."""
    own = vit.state_dict()
    found = convert_vit_state_dict(read_state_dict(checkpoint))
    return fill_module(vit, {name: value for name, value in found.items()
                             if name in own or not name.startswith(optional)}, checkpoint, fresh)


def _leave_out_other_shapes(shapes: list[str], module: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Before loading one module: take out tensors of another shape than its own, and note both shapes."""
    for name, own in chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False)):
        given = state_dict.get(prefix + name)
        if isinstance(given, Tensor) and own.ndim and given.shape != own.shape:
            shapes.append(f'{prefix}{name} is {list(given.shape)} instead of {list(own.shape)}')
            del state_dict[prefix + name]


def _count(names: list[str], what: str) -> str:
    shown = ', '.join(names[:SHOWN]) + (', ...' if len(names) > SHOWN else '')
    return f'{len(names)} are {what}' + (f' ({shown})' if names else '')


class PretrainedMixin:
    """For a backbone: ``init_cfg=dict(type='Pretrained', ...)`` fills every tensor, or is an error.

    It stands before MMEngine's ``BaseModule`` among the bases. ``load_pretrained(checkpoint, prefix)`` of the backbone
    fills it from a file or URL, or raises :class:`UserError`.
    """

    def init_weights(self) -> None:
        """Initialise as ``init_cfg`` says, once; then fill the backbone from the checkpoint it names, if any."""
        if self.is_init:
            return
        configs = [self.init_cfg] if isinstance(self.init_cfg, Mapping) else list(self.init_cfg or ())
        pretrained = [settings for settings in configs if settings['type'] in PRETRAINED]
        self.init_cfg = [settings for settings in configs if settings['type'] not in PRETRAINED]
        self.draw_weights()
        for settings in pretrained:
            self.load_pretrained(settings['checkpoint'], settings.get('prefix'))
            self.note_weights(f'Pretrained: load from {settings["checkpoint"]}')

    def draw_weights(self) -> None:
        """Initialise by what is left of ``init_cfg``; a backbone may add what that cannot describe."""
        super().init_weights()

    def note_weights(self, origin: str) -> None:
        """Let MMEngine's log say where the weights come from."""
        if hasattr(self, '_params_init_info'):
            update_init_info(self, init_info=origin)
