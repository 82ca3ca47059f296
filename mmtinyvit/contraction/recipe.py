"""The seed's recipe, and what a contraction makes of it: keys to learn from and to judge by, and short recipes."""
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import nn

from mmtinyvit.apis import networks
from mmtinyvit.datasets.identity import iter_keys
from mmtinyvit.datasets.indexed_images import NamedSamples
from mmtinyvit.datasets.load_teacher_logits import LoadTeacherLogits, use_store
from mmtinyvit.datasets.seeding import rng_scope
from mmtinyvit.datasets.view_dataset import ViewDataset
from mmtinyvit.datasets.views import find_seeded_augment, iter_transforms
from mmtinyvit.engine.store_check import complete_views
from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore

from .architecture import Architecture
from .counts import count_macs, count_parameters

__all__ = ['Keys', 'Recipe']

BACKBONES = ('mmtinyvit.TinyViT', 'TinyViT')
FEWEST_KEYS = 16  # to judge by: fewer tell nothing
JUDGED_VIEWS = 4  # of each key to judge by, at most
LENGTHS = ('begin', 'end', 'T_max', 'step_size', 'milestones', 'total_iters')  # of schedulers, in epochs or iterations


@dataclass(frozen=True)
class Keys:
    """The store's samples in two parts: files with a key a line.

    Args:
        training: To learn from.
        judging: Held out, to judge by.
        views: To judge by, all of them complete in the store.
        share: Of all keys, to learn from.
    """
    training: Path
    judging: Path
    views: tuple[int, ...]
    share: float


@dataclass(frozen=True)
class Recipe:
    """A distillation recipe with a TinyViT student.

    Args:
        cfg: The recipe.
        classes: Of the head that is counted with the parameters; None for the recipe's own.

    Raises:
        UserError: It has no such student, or counts no epochs.
    """
    cfg: Config
    classes: int | None = None

    def __post_init__(self) -> None:
        name, backbone = self.cfg.filename, (self.cfg.get('model') or {}).get('backbone') or {}
        if backbone.get('type') not in BACKBONES:
            raise UserError(f'The student of {name} is {backbone.get("type", "none")}, and a contraction shrinks '
                            'mmtinyvit.TinyViT: give a distillation recipe with such a student.')
        init = backbone.get('init_cfg') or ()
        if any(each.get('type') == 'Pretrained' for each in ([init] if isinstance(init, dict) else init)):
            raise UserError(f'init_cfg of the student in {name} loads the weights of one architecture, and a '
                            "contraction has many: leave it out; --checkpoint gives the seed's weights to its "
                            'children.')
        if not (self.cfg.get('train_cfg') or {}).get('max_epochs'):
            raise UserError(f'train_cfg of {name} counts no epochs: a contraction needs by_epoch=True and max_epochs.')

    # ---------------------------------------------------------------- the student
    @cached_property
    def seed(self) -> Architecture:
        return Architecture.of_backbone(self.cfg.model.backbone)

    @cached_property
    def num_classes(self) -> int:
        return self.cfg.model.head.num_classes

    @cached_property
    def size(self) -> tuple[int, int]:
        """H and W of what the student sees. Raises :class:`UserError` if the closed counts do not hold for it."""
        model = self.build(self.seed)
        sample = ViewDataset(self.dataset)[self.views[0], 0]
        batch = dict(inputs=sample['inputs'][None], data_samples=[sample['data_samples']])
        size = tuple(model.data_preprocessor(batch, False)['inputs'].shape[-2:])
        built = networks.count_parameters(model), networks.count_macs(model, size)
        counted = count_parameters(self.seed, self.num_classes), count_macs(self.seed, size, self.num_classes)
        if built != counted:
            raise UserError(f'The student of {self.cfg.filename} has {built[0]:,} parameters, and a TinyViT with a '
                            f'linear head has {counted[0]:,}: take LinearClsHead, and the last stage alone.')
        return size

    def parameters(self, architecture: Architecture) -> int:
        """With a head of :attr:`classes`."""
        return count_parameters(architecture, self.classes or self.num_classes)

    def macs(self, architecture: Architecture) -> int:
        return count_macs(architecture, self.size, self.num_classes)

    def build(self, architecture: Architecture) -> nn.Module:
        """The student with another architecture, on the CPU."""
        init_default_scope(self.cfg.get('default_scope', 'mmpretrain'))
        cfg = self.with_student(architecture)
        model = cfg.model
        if cfg.get('data_preprocessor') is not None:
            model.setdefault('data_preprocessor', cfg.data_preprocessor)
        return MODELS.build(model)

    def draw(self, architecture: Architecture, seed: int) -> nn.Module:
        """The same with random weights, which are those of the seed whatever was drawn before."""
        with rng_scope(seed):
            model = self.build(architecture)  # draws some, such as those of convolutions
            model.init_weights()
        return model

    def with_student(self, architecture: Architecture) -> Config:
        """The recipe, with this student and without ``load_from``, whose weights fit the seed alone; else as it is."""
        cfg = Config(copy.deepcopy(self.cfg.to_dict()), filename=self.cfg.filename, format_python_code=False)
        backbone = cfg.model.backbone
        for name in ('window_sizes', 'mlp_ratio', 'mbconv_expand_ratio'):
            backbone.pop(name, None)  # they would replace those of the arch
        backbone.arch = architecture.arch
        cfg.model.head.in_channels = architecture.dims[-1]
        cfg.load_from = None
        return cfg

    # ---------------------------------------------------------------- the data
    @cached_property
    def dataset(self) -> Any:
        """The training's dataset, with its store.

        Raises :class:`UserError` if it reads no store, asks a teacher, or cannot leave out samples.
        """
        init_default_scope(self.cfg.get('default_scope', 'mmpretrain'))
        dataset = DATASETS.build(self.cfg.train_dataloader.dataset)
        if not any(isinstance(transform, LoadTeacherLogits) for transform in iter_transforms(dataset)):
            raise UserError(f'{self.cfg.filename} reads no store: a contraction needs a distillation recipe, with '
                            'mmtinyvit.LoadTeacherLogits in its pipeline, as in configs/tinyvit/distill_in21k.py.')
        if not isinstance(dataset, NamedSamples):
            raise UserError(f'{type(dataset).__name__} cannot leave out the samples that candidates are judged by: '
                            'take mmtinyvit.IndexedImages, ImageFolder or ImageNet, without a wrapper.')
        reader = use_store(dataset, self.cfg)
        if reader.mode != 'stored':
            raise UserError(f'mode={reader.mode!r} of {self.cfg.filename} asks a teacher, once for each candidate: '
                            "save the store first, set mode='stored', and put mmtinyvit.SparseLogitDistillHook in the "
                            'place of CacheLogitsHook.')
        return dataset

    @cached_property
    def stores(self) -> list[LogitStore]:
        return use_store(self.dataset, self.cfg).stores

    @cached_property
    def views(self) -> tuple[int, ...]:
        """To judge by. Raises :class:`UserError` if the stores have no complete view in common."""
        hook = next((hook for hook in self.cfg.get('custom_hooks') or () if hook.get('views') is not None), {})
        return tuple(complete_views(self.stores, hook.get('views'))[:JUDGED_VIEWS])

    def hold_out(self, folder: Path, share: float, training_share: float = 1., seed: int = 0) -> Keys:
        """Draw the keys to judge by, and those to learn from, and write both into files of ``folder``.

        Args:
            folder: Is made.
            share: Of the keys, to judge by.
            training_share: Of the others, to learn from.
            seed: Of the draws.

        Raises:
            UserError: The store mixes pairs, or would have too few keys to judge by or to learn from.
        """
        mixing = next((store for store in self.stores if store.mixing), None)
        if mixing:
            raise UserError(f'The store {mixing.root} mixes pairs of all its samples, so that none can be held out: '
                            'save a store without mixing.')
        total = len(self.dataset)
        judging = round(total * share)
        if judging < FEWEST_KEYS:
            enough = -(-FEWEST_KEYS * 1000 // total) / 1000
            advice = f'give --held-out {enough:g} or more' if enough < 0.6 else 'save more images'
            raise UserError(f'The store {self.stores[0].root} has {total:,} keys here, of which --held-out {share:g} '
                            f'leaves {judging} to judge by, and {FEWEST_KEYS} are the fewest that tell anything: '
                            f'{advice}.')
        learning, batch = round((total - judging) * training_share), self.cfg.train_dataloader.get('batch_size') or 1
        if learning < batch:
            raise UserError(f'The store {self.stores[0].root} has {total:,} keys here, of which --held-out {share:g} '
                            f'and --share {training_share:g} leave {learning:,} to learn from, fewer than one batch of '
                            f'{batch}: give a smaller --held-out or a larger --share.')
        order = np.random.default_rng(seed).permutation(total)
        part = np.zeros(total, np.int8)  # 14 million keys do not belong in memory
        part[order[:judging]] = 1
        part[order[judging:judging + learning]] = 2
        folder.mkdir(parents=True, exist_ok=True)
        keys = Keys(folder / 'training.txt', folder / 'judging.txt', self.views, learning / total)
        parts = [path.with_suffix('.part') for path in (keys.judging, keys.training)]
        with parts[0].open('w', encoding='utf-8') as judged, parts[1].open('w', encoding='utf-8') as learnt:
            files = (None, judged, learnt)
            for which, key in zip(part, iter_keys(self.dataset, find_seeded_augment(self.dataset).key_root),
                                  strict=True):
                if which:
                    files[which].write(f'{key}\n')
        for written, path in zip(parts, (keys.judging, keys.training), strict=True):
            written.replace(path)  # a trial may be reading the same list
        return keys

    # ---------------------------------------------------------------- short recipes
    def candidate(self, architecture: Architecture, keys: Keys, epochs: int, labelled: bool, seed: int) -> Config:
        """The recipe of a candidate: the schedule shrunk to ``epochs``, on the keys to learn from.

        Args:
            labelled: Whether it is judged on the labelled set of the recipe's validation.
            seed: Of the training, if the recipe has none.
        """
        cfg, ratio = self.with_student(architecture), epochs / self.cfg.train_cfg.max_epochs
        dataset = cfg.train_dataloader.dataset
        for name in ('share', 'share_seed', 'indices'):  # the list has what they leave
            dataset.pop(name, None)
        dataset.keep = str(keys.training.resolve())
        schedulers = cfg.get('param_scheduler') or []
        for scheduler in [schedulers] if isinstance(schedulers, dict) else schedulers:
            of_units = ratio if scheduler.get('by_epoch', True) else ratio * keys.share  # an epoch has fewer iterations
            scheduler.update({name: _shrunk(scheduler[name], of_units) for name in LENGTHS if name in scheduler})
            if scheduler.get('begin') and scheduler.get('end') and scheduler['begin'] >= scheduler['end']:
                scheduler['begin'] = scheduler['end'] - 1  # both are one epoch now
        cfg.train_cfg.update(max_epochs=epochs, val_begin=epochs + 1, val_interval=1)
        if not labelled:
            cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
        cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
        hooks = cfg.setdefault('default_hooks', {})
        hooks.update(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1))
        randomness = cfg.get('randomness') or {}
        cfg.randomness = randomness if randomness.get('seed') is not None else randomness | dict(seed=seed)
        cfg.update(resume=False, log_level='WARNING')
        cfg.visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
        return cfg


def _shrunk(length: Any, ratio: float) -> Any:
    if isinstance(length, Sequence):
        return [_shrunk(each, ratio) for each in length]
    return length if not length else max(1, round(length * ratio))
