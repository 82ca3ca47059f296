"""What a training starts from: a checkpoint whose head is mapped, left out, or must fill the model."""
from collections.abc import Collection, Mapping, Sequence

import torch
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from timm.utils import unwrap_model
from torch import Tensor, nn

from mmtinyvit.config import nearest
from mmtinyvit.engine.label_check import num_outputs, training_outputs
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import (
    ClassList,
    checkpoint_classes,
    list_classes,
    match_classes,
    require_classes,
    same_classes,
    spell_classes,
    spell_matches,
)
from mmtinyvit.models.weights import PRETRAINED, UnfilledError, fill_module
from mmtinyvit.registry import HOOKS

__all__ = [
    'MapHeadHook', 'NewHeadHook', 'RequireWeightsHook', 'fresh_parts', 'head_tensors', 'how_to_start_anew', 'map_rows',
    'starts_training', 'state_of'
]

HEADS = ('head.fc', 'head')  # where a linear classifier lies: mmpretrain; Cream


def starts_training(runner: Runner) -> bool:
    """Whether the checkpoint is what a new training starts from, neither a test's nor that of an interrupted one."""
    return isinstance(runner._train_loop, BaseLoop) and not runner._resume


def state_of(checkpoint: dict) -> dict[str, Tensor]:
    """The tensors of a checkpoint: the very dict, so that a hook can change it."""
    return next((checkpoint[name] for name in ('state_dict', 'model') if name in checkpoint), checkpoint)


def _head_layers(model: nn.Module) -> tuple[str, ...]:
    """Where a linear classifier lies in the checkpoints that a model takes; a network of timm is asked for its own."""
    network = getattr(unwrap_model(model), 'model', None)
    if not hasattr(network, 'get_classifier'):
        return HEADS
    heads = network.get_classifier()
    inside = {part for head in (heads if isinstance(heads, tuple | list) else [heads]) for part in head.modules()}
    return tuple(name for name, part in network.named_modules() if part in inside
                 and isinstance(part, nn.Linear | nn.Conv2d) and len(part.weight) == network.num_classes)


def head_tensors(model: nn.Module, state: Collection[str]) -> list[str]:
    """Names of the tensors in a checkpoint for ``model`` that have a row for each class."""
    return [f'{layer}.{kind}' for layer in _head_layers(model) for kind in ('weight', 'bias')
            if f'{layer}.{kind}' in state]


def fresh_parts(runner: Runner) -> tuple[str, ...]:
    """Prefixes of what may start anew: what :class:`RequireWeightsHook` names, and the head with a new head."""
    if not starts_training(runner):
        return ()
    named = next((hook.fresh for hook in runner.hooks if isinstance(hook, RequireWeightsHook)), ())
    new = any(isinstance(hook, NewHeadHook) for hook in runner.hooks)
    return named + tuple(f'{layer}.' for layer in _head_layers(runner.model) if new)


def how_to_start_anew(error: UnfilledError, place: str = '') -> str:
    """What to say after ``error`` of the part of a model under ``place``, where a training begins."""
    named = [place + pattern for pattern in error.fresh]
    example = f', here fresh={named}' if named else ''
    return f'What may start anew is named by fresh= of mmtinyvit.RequireWeightsHook in custom_hooks{example}.'


def _names_weights(config: object) -> bool:
    """Whether a model's config has an ``init_cfg`` of type ``Pretrained``, or what timm reads, but for its teacher."""
    if isinstance(config, Mapping):
        return (config.get('type') in PRETRAINED or any(map(config.get, ('pretrained', 'checkpoint_path')))
                or any(_names_weights(value) for name, value in config.items() if name != 'teacher'))
    return isinstance(config, list | tuple) and any(map(_names_weights, config))


def map_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Select rows of a large head; a class without a match gets the mean row.

    Args:
        rows: ``(C, ...)``, weight or bias of the large head.
        index: ``(c,)`` int64, the large head's class for each class of the small one, -1 for none.

    Returns:
        Tensor: ``(c, ...)``.
    """
    mapped = rows[index.clamp(min=0)].clone()
    mapped[index < 0] = rows.float().mean(0).to(rows.dtype)
    return mapped


@HOOKS.register_module()
class MapHeadHook(Hook):
    """After loading a checkpoint whose head has another label layout, before the model takes it: keep matching rows.

    Classes are matched by synset or name, from ImageNet-21K to the 1,000, from 21,841 classes to 10,450, or between any
    two lists. Does nothing on resuming, or if the head has the model's classes already, or as many and no names.

    Args:
        source: Layout of the checkpoint's head: its name, or a file with a synset per line, see
            :func:`.class_map.synsets`; by default the classes that the checkpoint names, or the layout with as many.
        target: Layout of the model's head, likewise; by default the classes that the training names.
        index: The checkpoint's class, by name or synset, of classes of the model that are called otherwise, such as
            ``dict(fish='tench')``. The others are found by their own names.
    """

    def __init__(self, source: str | int | None = None, target: str | int | None = None,
                 index: Mapping[str, str] | None = None) -> None:
        self.source = source
        self.target = target
        self.index = {str(name): str(its) for name, its in (index or {}).items()}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        state = state_of(checkpoint)
        names = head_tensors(runner.model, state)
        wanted = num_outputs(unwrap_model(runner.model))
        if runner._resume or not names or wanted is None:
            return
        found = len(state[names[0]])
        named = checkpoint_classes(checkpoint.get('meta') or {}, checkpoint.get('teacher_store'))
        learnt = training_outputs(runner)[0] if starts_training(runner) else None
        source, target = _choose(self.source, named, found), _choose(self.target, learnt, wanted)
        if found == wanted and not self.index and (source is None or target is None or same_classes(source, target)):
            return
        try:
            source, target = (list_classes(_layout(*layout)) for layout in (
                (source, found, 'source'), (target, wanted, 'target')))
            renamed = self._renamed(source, target)
            index = torch.from_numpy(match_classes(source, renamed, several=bool(self.index)))
        except UserError as error:
            raise UserError(f'The checkpoint has a head of {found} classes and the model one of {wanted}, which '
                            'MapHeadHook cannot map (to start with a new head, replace it by mmtinyvit.NewHeadHook in '
                            f'custom_hooks): {error}') from error
        for name in names:
            state[name] = map_rows(state[name], index)
        matched = int((index >= 0).sum())
        lost = [name for name, number in zip(target, index.tolist(), strict=True) if number < 0]
        without = f' ({spell_classes(lost)})' if lost else ''
        runner.logger.info(f'Head of {found:,} classes mapped to {wanted:,}: {matched:,} rows matched by synset or '
                           f'name, {len(lost):,} set to the mean row{without}: '
                           f'{spell_matches(target, index.tolist(), source)}')

    def _renamed(self, source: Sequence[str], target: Sequence[str]) -> list[str]:
        """``target`` with what ``index`` calls its classes. Raises :class:`UserError` if that is in neither list."""
        if unknown := sorted(self.index.keys() - set(target)):
            raise UserError(f'its index names {unknown[0]}, and the model has {spell_classes(target)}'
                            f'{nearest(unknown[0], target)}: correct it.')
        named = list(self.index.values())
        require_classes(source, named, 'the checkpoint has {ours}, and its index names {theirs}', 'correct it.',
                        several=True)
        return [self.index.get(name, name) for name in target]


def _choose(layout: ClassList | None, names: Sequence[str] | None, rows: int) -> ClassList | None:
    """The classes of a head of so many rows: those that the config names, or else whoever knows as many names."""
    return names if layout is None and names and len(names) == rows else layout


def _layout(layout: ClassList | None, rows: int, argument: str) -> ClassList:
    """The layout of a head of ``rows`` classes: the one that was named, or the one of this size."""
    classes = len(list_classes(rows if layout is None else layout))
    if classes != rows:
        raise UserError(f'its {argument} {layout} has {classes} classes: name the layout of a head of {rows}.')
    return rows if layout is None else layout


@HOOKS.register_module()
class NewHeadHook(Hook):
    """After loading a checkpoint to start training from, before the model takes it: leave its classifier out.

    For a linear probe, or another set of classes. The head may then start anew. Does nothing in a test or on resuming.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if not starts_training(runner):
            return
        state = state_of(checkpoint)
        names = head_tensors(runner.model, state)
        if names:
            runner.logger.info(f"The checkpoint's head of {len(state[names[0]]):,} classes is left out")
        for name in names:
            del state[name]


@HOOKS.register_module()
class RequireWeightsHook(Hook):
    """Before training: refuse to start from random weights, or from a checkpoint that does not fill the model.

    MMEngine trains without a word if ``load_from`` is not set, and only warns of tensors that do not match. Runs after
    :class:`MapHeadHook`, before the model takes the checkpoint. Weights that the model's ``init_cfg`` names do, too.

    Args:
        fresh: How the names of the parameters begin that may start anew, for example ``('neck.', )``, or with ``*`` for
            anything ``('backbone.layer4.*.conv2.conv_offset.', )``. With :class:`NewHeadHook` the head is one of them.
        unused: Prefixes of what the checkpoint may hold beyond the model, for example what only pretraining needs.
    """
    priority = 'LOW'

    def __init__(self, fresh: Sequence[str] = (), unused: Sequence[str] = ()) -> None:
        self.fresh = tuple(fresh)
        self.unused = tuple(unused)
        self.loaded = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self.loaded = True
        model = unwrap_model(runner.model)
        starts = starts_training(runner)
        state = {name: value for name, value in state_of(checkpoint).items()
                 if not (starts and name.startswith(self.unused))}
        source = str(runner._load_from or f'that {runner.work_dir}/last_checkpoint names')
        fresh = fresh_parts(runner)
        try:
            filled = fill_module(model, state, source, fresh)
        except UnfilledError as error:
            raise UserError(f'{error} {how_to_start_anew(error)}') from error
        runner.logger.info(f'{filled} tensors of {type(model).__name__} filled from {source}')

    def before_train(self, runner: Runner) -> None:
        if not (self.loaded or _names_weights(runner.cfg.get('model'))):
            raise UserError('This recipe starts from trained weights: name them with --cfg-options '
                            'load_from=CHECKPOINT, or take mmtinyvit.RequireWeightsHook out of custom_hooks to start '
                            'from random ones.')
