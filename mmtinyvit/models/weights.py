"""The rule that a checkpoint fills a module, or is refused: half a network trains without a word."""
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain
from typing import Any

from mmengine.logging import print_log
from mmengine.model import PretrainedInit, update_init_info
from mmpretrain.models import TimmClassifier
from torch import Tensor, isfinite, isnan, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmtinyvit.errors import UserError

from .checkpoint_keys import convert_vit_state_dict, unwrap_checkpoint
from .checkpoints import read_checkpoint, read_state_dict

__all__ = ['PRETRAINED', 'PretrainedMixin', 'UnfilledError', 'fill_module', 'fill_part', 'fill_vit',
           'pretrained_parts', 'starts_anew', 'timm_as_init_cfg']

PRETRAINED = ('Pretrained', 'mmengine.Pretrained', PretrainedInit)
SHOWN = 12  # names of each kind in an error; all of them go to the log
SUGGESTED = 6  # patterns for `fresh`: more are no sentence


class UnfilledError(UserError):
    """A checkpoint does not fill a module.

    Attributes:
        fresh: What ``fresh`` would have to name so that it does; empty if that cannot help, or would be much.
    """
    fresh: tuple[str, ...] = ()


def fill_module(module: nn.Module, state_dict: Mapping[str, Tensor], source: str, fresh: Iterable[str] = (),
                is_part: bool = False) -> int:
    """Load ``state_dict`` into ``module`` and make sure that nothing was left as it was.

    Weights that are NaN or infinite are taken, with a warning that names them: some networks have parameters that they
    never use.

    Args:
        module: May rename tensors on loading, as :class:`.TinyViT` does.
        state_dict: The tensors; their names are unwrapped by
            :func:`~mmtinyvit.models.checkpoint_keys.unwrap_checkpoint`.
        source: Where they come from, for the error.
        fresh: What may be missing, or of another shape or kind: parts that start anew, see :func:`starts_anew`.
        is_part: Whether the tensors may be of more than the module; then those that none of its children has a name
            for do not count.

    Returns:
        int: How many tensors of the module were filled.

    Raises:
        UnfilledError: Tensors are missing, unknown or of another shape; names them. Buffers of integers may be missing:
            they count, as ``num_batches_tracked`` of BatchNorm, or are indices that the constructor computes.
        UserError: Tensors are of another kind, as integers for fractions.
    """
    shapes: list[str] = []
    kinds: list[str] = []
    state_dict = unwrap_checkpoint(state_dict, module.state_dict())
    # each runs behind the hooks of its module that rename tensors
    with ExitStack() as hooks:
        for part in module.modules():
            hooks.enter_context(part.register_load_state_dict_pre_hook(partial(_leave_out_others, shapes, kinds)))
        found = module.load_state_dict(state_dict, strict=False)
    if isinstance(module, TimmClassifier):  # whose checkpoints leave out the name of the network within
        for names in (shapes, kinds, found.missing_keys, found.unexpected_keys):
            names[:] = [name.removeprefix('model.') for name in names]
    other = {line.split()[0] for line in shapes + kinds}
    shapes, kinds = ([line for line in lines if not starts_anew(line.split()[0], fresh)] for lines in (shapes, kinds))
    if kinds:
        raise UserError(f'The checkpoint {source} has integers where {type(module).__name__} has fractions, or the '
                        f'reverse: {", ".join(kinds[:SHOWN])}; give the weights as they were before they were '
                        'quantised.')
    own = module.state_dict()
    names = [name for name, value in own.items() if value.is_floating_point() or value.is_complex()]
    missing = [name for name in found.missing_keys if name in names and name not in other]
    children = {name.split('.')[0] for name in own}
    unknown = [name for name in found.unexpected_keys if not name.endswith('num_batches_tracked')
               and (name.split('.')[0] in children or not is_part)]
    unfilled = [name for name in missing if not starts_anew(name, fresh)]
    if unfilled or unknown or shapes:
        for title, found in (('Missing', unfilled), ('Unknown', unknown), ('Other shapes', shapes)):
            if found:
                print_log(f'{title} in {source}: {", ".join(found)}', logger='current')
        error = UnfilledError(f'The checkpoint {source} does not fill {type(module).__name__}: of {len(names)} tensors '
                              f'{_count(unfilled, "missing")}, {_count(shapes, "of another shape")}, and '
                              f'{_count(unknown, "unknown")}; give the checkpoint of the same network.')
        if not unknown:
            error.fresh = _modules_of([*unfilled, *(line.split()[0] for line in shapes)], names)
        raise error
    _warn_of_no_numbers(module, other.union(missing), source)
    return len(names) - len(other.union(missing))


def starts_anew(name: str, fresh: Iterable[str]) -> bool:
    """Whether ``fresh`` names a tensor: by how its name begins, where ``*`` stands for anything."""
    return any(fnmatchcase(name, f'{pattern}*') for pattern in fresh)


def _modules_of(names: Collection[str], own: Collection[str]) -> tuple[str, ...]:
    """What ``fresh`` would say of some tensors of a network: the largest modules that have no others, if they are few.

    Blocks that differ in their number alone are one pattern, such as ``layer4.*.conv2.conv_offset.``.
    """
    found, others = {}, set(own) - set(names)
    for name in names if others else ():  # where all is missing, it is another network
        parts = name.split('.')
        heads = ('.'.join(parts[:i]) + '.' for i in range(1, len(parts)))
        whole = next((head for head in heads if not any(other.startswith(head) for other in others)), name)
        found[re.sub(r'\.\d+(?=\.)', '.*', whole)] = None
    few = len(found) <= SUGGESTED and not any(starts_anew(other, found) for other in others)
    return tuple(found) if few else ()


def fill_vit(vit: nn.Module, checkpoint: str, optional: tuple[str, ...], fresh: Iterable[str]) -> int:
    """:func:`fill_module` from a vision transformer's checkpoint, without the ``optional`` parts that ``vit`` lacks."""
    own = vit.state_dict()
    found = convert_vit_state_dict(read_state_dict(checkpoint))
    return fill_module(vit, {name: value for name, value in found.items()
                             if name in own or not name.startswith(optional)}, checkpoint, fresh)


def fill_part(part: nn.Module, checkpoint: str, prefix: str | None = None, fresh: Iterable[str] = ()) -> int:
    """:func:`fill_module` for a part of a model, from a checkpoint that may hold all of it.

    Args:
        part: For example a backbone.
        checkpoint: File or URL.
        prefix: Where the part lies in it. If it is not there, it is looked for without one, and under ``'backbone.'``.
            Tensors of parts that this one does not have are left out, such as a classifier's head.
        fresh: As for :func:`fill_module`.

    Raises:
        UserError: As :func:`fill_module`.
    """
    tensors = read_checkpoint(checkpoint)[0]
    if hasattr(part, 'timm_model') and not any('timm_model.' in name for name in tensors):
        part = part.timm_model  # a TIMMBackbone around the network whose file this is
    own = part.state_dict()
    tensors = unwrap_checkpoint(tensors, own)
    if to_ours := getattr(part, '_checkpoint_filter', None):  # other layouts of a classifier
        to_ours(tensors, '')
    wanted = f'{prefix.removesuffix(".")}.' if prefix else ''
    place = next((place for place in (wanted, '', 'backbone.') if any(place + name in tensors for name in own)), wanted)
    found = {name.removeprefix(place): value for name, value in tensors.items() if name.startswith(place)}
    return fill_module(part, found, checkpoint, fresh, is_part=True)


def timm_as_init_cfg(config: Any) -> Any:
    """A model's config that names the files for timm's networks as MMEngine does, at any depth.

    timm reads ``checkpoint_path`` while the network is built, and raises bare errors. As an ``init_cfg`` of type
    ``Pretrained`` the file is read and taken like all others. The ``file`` of a ``pretrained_cfg``, which timm fits to
    another head, stays, but is read here first. NumPy's files, which timm alone understands, stay.

    Raises:
        UserError: Such a ``file`` cannot be had, is damaged or would run code.
    """
    if isinstance(config, list | tuple):
        return type(config)(map(timm_as_init_cfg, config))
    if not isinstance(config, Mapping):
        return config
    config = type(config)({name: timm_as_init_cfg(value) for name, value in config.items()})
    if 'model_name' not in config:
        return config
    for name in ('pretrained_cfg', 'pretrained_cfg_overlay'):
        settings = config.get(name)
        if config.get('pretrained') and isinstance(settings, Mapping) and _of_torch(settings.get('file')):
            read_checkpoint(settings['file'])
    if _of_torch(config.get('checkpoint_path')):
        checkpoint = str(config.pop('checkpoint_path'))
        own = config.get('init_cfg') or []
        own = [own] if isinstance(own, Mapping) else list(own)
        if not any(settings['type'] in PRETRAINED for settings in own):  # which would be loaded over it
            own.append(dict(type='Pretrained', checkpoint=checkpoint))
        config['init_cfg'] = own
    return config


def _of_torch(path: Any) -> bool:
    return bool(path) and not str(path).lower().endswith(('.npz', '.npy'))


def pretrained_parts(module: nn.Module, place: str = '') -> Iterator[tuple[str, nn.Module, Mapping]]:
    """The parts whose ``init_cfg`` names a checkpoint; within such a part MMEngine asks no other.

    Yields:
        tuple: The prefix of the part's names, the part, and the entry of its ``init_cfg``.
    """
    found = _pretrained_settings(module)
    yield from ((place, module, settings) for settings in found)
    for name, child in module.named_children() if not found else ():
        yield from pretrained_parts(child, f'{place}{name}.')


def _pretrained_settings(module: nn.Module) -> list[Mapping]:
    return [settings for settings in _init_settings(module) if settings['type'] in PRETRAINED]


def _init_settings(module: nn.Module) -> list[Mapping]:
    found = getattr(module, 'init_cfg', None)
    return [found] if isinstance(found, Mapping) else list(found or ())


def _leave_out_others(shapes: list[str], kinds: list[str], module: nn.Module, state_dict: dict, prefix: str,
                      *_) -> None:
    """Before loading one module: take out tensors of another shape or kind than its own, and note both."""
    for name, own in chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False)):
        given = state_dict.get(prefix + name)
        if not isinstance(given, Tensor):
            continue
        if own.ndim and given.shape != own.shape:
            shapes.append(f'{prefix}{name} is {list(given.shape)} instead of {list(own.shape)}')
            del state_dict[prefix + name]
        elif _kind(given) != _kind(own) and name != 'num_batches_tracked':
            kinds.append(f'{prefix}{name} is {given.dtype} instead of {own.dtype}'.replace('torch.', ''))
            del state_dict[prefix + name]


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()


def _warn_of_no_numbers(module: nn.Module, unfilled: Collection[str], source: str) -> None:
    """Name the parameters that are NaN or infinite, and the buffers that are NaN: masks may have infinities."""
    values = chain(((name, value, isfinite) for name, value in module.named_parameters()),
                   ((name, value, lambda value: ~isnan(value)) for name, value in module.named_buffers()))
    found = [name for name, value, sound in values if value.is_floating_point() and not value.is_meta
             and name not in unfilled and not sound(value).all()]
    if found:
        print_log(f'The checkpoint {source} has NaN or infinite weights: {", ".join(found[:SHOWN])}'
                  f'{", ..." * (len(found) > SHOWN)} of {type(module).__name__}; what is computed with them is NaN, '
                  'too. If its training diverged, take an earlier checkpoint.', 'current', logging.WARNING)


def _count(names: list[str], what: str) -> str:
    shown = ', '.join(names[:SHOWN]) + (', ...' if len(names) > SHOWN else '')
    return f'{len(names)} are {what}' + (f' ({shown})' if names else '')


class PretrainedMixin:
    """For a backbone: ``init_cfg=dict(type='Pretrained', ...)`` fills every tensor, or is an error.

    It stands before MMEngine's ``BaseModule`` among the bases.
    """
    _warned = False

    def init_weights(self) -> None:
        """Initialise as ``init_cfg`` says, once; then fill the backbone from the checkpoint it names, if any."""
        if self.is_init:
            return
        pretrained = _pretrained_settings(self)
        self.init_cfg = [settings for settings in _init_settings(self) if settings['type'] not in PRETRAINED]
        self.draw_weights()
        for settings in pretrained:
            self.load_pretrained(settings['checkpoint'], settings.get('prefix'))
            self.note_weights(f'Pretrained: load from {settings["checkpoint"]}')

    def draw_weights(self) -> None:
        """Initialise by what is left of ``init_cfg``; a backbone may add what that cannot describe."""
        super().init_weights()

    def load_pretrained(self, checkpoint: str, prefix: str | None = None) -> None:
        """Fill the backbone from a file or URL, or raise :class:`UserError`. Backbones replace it that know more."""
        filled = fill_part(self, checkpoint, prefix)
        print_log(f'{type(self).__name__}: all {filled} tensors filled from {checkpoint}', logger='current')

    def note_weights(self, origin: str) -> None:
        """Let MMEngine's log say where the weights come from."""
        if hasattr(self, '_params_init_info'):
            update_init_info(self, init_info=origin)

    def keep_statistics(self) -> None:
        """BatchNorm in eval mode, for a ``norm_eval``; warns once of statistics that no training has estimated."""
        norms = [module for module in self.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            norm.eval()
        initial = 0 if self._warned else sum(map(_has_initial_statistics, norms))
        if initial:
            self._warned = True
            print_log(f'{type(self).__name__} has norm_eval=True, which keeps the statistics of BatchNorm, and '
                      f'{initial} of its {len(norms)} have the initial ones, mean 0 and variance 1: start from trained '
                      'weights (init_cfg or load_from), or set norm_eval=False.', 'current', logging.WARNING)


def _has_initial_statistics(norm: _BatchNorm) -> bool:
    mean, variance = norm.running_mean, norm.running_var
    return mean is not None and not mean.is_meta and bool((mean == 0).all() and (variance == 1).all())
