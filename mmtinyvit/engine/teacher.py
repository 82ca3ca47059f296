"""Teacher: a frozen classifier that is asked about named views, and answers with records."""
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS
from timm.utils import unwrap_model
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmtinyvit.datasets.identity import (
    canary_digest,
    dataset_identity,
    iter_keys,
    library_versions,
    pipeline_identity,
    plain_json,
)
from mmtinyvit.datasets.mixing import partners_of_view
from mmtinyvit.datasets.view_dataset import ViewDataset
from mmtinyvit.datasets.views import find_seeded_augment
from mmtinyvit.errors import UserError
from mmtinyvit.models.classifiers.teachers import class_logits
from mmtinyvit.models.data_preprocessors import SeededMixing, view_names
from mmtinyvit.store import Record, key_hash
from mmtinyvit.store.layout import is_canary

from .record_rule import RecordRule, sparsify
from .workers import quiet_workers

__all__ = ['Teacher', 'teacher_identity']

Batch = dict[str, Any]


class Teacher:
    """A classifier beside the views that it is asked about.

    A *batch* is a dict with ``inputs``, ``(B, 3, H, W)`` as packed, before any normalisation, and ``data_samples``, B
    samples that bear the views' names. With mixing, each sample that is asked about is followed by its partner.

    Args:
        model: A classifier whose ``tensor`` mode returns logits ``(B, C)``; put into eval mode.
        dataset: Config or MMEngine dataset, with one ``SeededAugment`` and ``PackViewInputs`` at the end.
        rule: Which classes a record keeps; None keeps all.
        mixing: Arguments of ``SeededMixing``; None for views of single images.
        amp: Run under autocast: bfloat16 on a CPU, float16 on a GPU.
    """

    def __init__(self, model: nn.Module, dataset: Any, rule: RecordRule | None = None, mixing: dict | None = None,
                 amp: bool = False) -> None:
        self.model = unwrap_model(model).to(memory_format=torch.channels_last)  # convolutions run about twice as fast
        self.model.eval()
        self.dataset = ViewDataset(DATASETS.build(dataset) if isinstance(dataset, dict) else dataset)
        self.augment = find_seeded_augment(self.dataset.dataset)
        self.rule = rule
        self.mixing = SeededMixing(**mixing) if mixing else None
        self.amp = amp
        self._partners: tuple[int, np.ndarray] | None = None

    # ---------------------------------------------------------------- the views
    def keys(self) -> Iterator[str]:
        """The keys of all samples, in order."""
        return iter_keys(self.dataset.dataset, self.augment.key_root)

    def fingerprints(self, model_config: dict) -> dict:
        """Dataset, pipeline, teacher, record rule and library versions, as plain JSON for a manifest."""
        classes = getattr(self.dataset.dataset, 'metainfo', {}).get('classes')
        return dict(
            dataset=dataset_identity(self.keys(), classes),
            pipeline=pipeline_identity(self.dataset.dataset, self.mixing.config if self.mixing else None),
            teacher=teacher_identity(self.model, model_config, self.amp),
            versions=library_versions(), **(self.rule.identity() if self.rule else {}))

    def items(self, view: int, positions: np.ndarray) -> list[tuple[int, int]]:
        """The items of the dataset that make a batch: of each position, with mixing followed by its partner's."""
        if self.mixing:
            if self._partners is None or self._partners[0] != view:
                self._partners = view, partners_of_view(len(self.dataset), self.augment.base_seed, view)
            positions = np.stack([positions, self._partners[1][positions]], 1).ravel()
        return [(view, int(i)) for i in positions]

    def batches(self, view: int, positions: np.ndarray, batch_size: int,
                num_workers: int = 0) -> Iterator[tuple[np.ndarray, Batch]]:
        """Load and replay one view of the samples at ``positions``; yields positions and batch, in order."""
        parts = [positions[i:i + batch_size] for i in range(0, len(positions), batch_size)]
        loader = quiet_workers(DataLoader(
            self.dataset, batch_sampler=[self.items(view, part) for part in parts],
            num_workers=num_workers if len(parts) > num_workers else 0, collate_fn=self.collate))
        yield from zip(parts, loader, strict=True)

    def select(self, batch: Batch, rows: Sequence[int]) -> Batch:
        """The part of a training's batch that ``rows`` ask about; with mixing, neighbours there are partners.

        Raises:
            UserError: The last image has no partner.
        """
        rows = [member for row in rows for member in ((row, row ^ 1) if self.mixing else (row, ))]
        if max(rows) >= len(batch['data_samples']):
            raise UserError(f'A batch of {len(batch["data_samples"])} images cannot be mixed in pairs: use an even '
                            'batch size and mmtinyvit.PairedSampler.')
        return self.collate([dict(inputs=batch['inputs'][row], data_samples=batch['data_samples'][row])
                             for row in rows])

    @staticmethod
    def collate(items: list[dict]) -> Batch:
        """Stack packed samples; runs in the loader's workers."""
        shapes = {tuple(item['inputs'].shape) for item in items}
        if len(shapes) > 1:
            raise UserError(f'The views of one batch have different shapes, {sorted(shapes)}: end the transforms with '
                            'a crop or resize to a fixed size.')
        return dict(inputs=torch.stack([item['inputs'] for item in items]),
                    data_samples=[item['data_samples'] for item in items])

    @classmethod
    def collate_views(cls, items: list[list[dict]]) -> list[Batch]:
        """One batch for each view of images that came with several; runs in the loader's workers."""
        return [cls.collate(views) for views in zip(*items, strict=True)]

    # ---------------------------------------------------------------- asking
    def ask(self, batch: Batch) -> Record:
        """What the model says about a batch.

        Returns:
            Record: One row for each sample that is asked about, NumPy arrays, before any codec; with mixing, with the
            hashes of the partners.
        """
        step = 2 if self.mixing else 1
        samples, logits = batch['data_samples'][::step], self.logits(batch)
        if self.rule is None:
            record = sparsify(logits, logits.shape[1])
        else:
            record = self.rule(logits, self.augment.base_seed, samples[0].view, [s.sample_key for s in samples])
        if not self.mixing:
            return record
        partners = [key_hash(sample.sample_key) for sample in batch['data_samples'][1::2]]
        return record._replace(partner_hash=np.array(partners, np.uint64))

    @torch.inference_mode()
    def logits(self, batch: Batch) -> Tensor:
        """Logits ``(n, C)`` of the samples that are asked about."""
        preprocessor = self.model.data_preprocessor
        inputs = preprocessor.cast_data(batch['inputs'])
        if self.mixing:  # before the teacher's normalisation and size, as the student does
            inputs = self.mixing(inputs.float(), view_names(batch['data_samples']))[0][::2]
        inputs = preprocessor(dict(inputs=inputs), False)['inputs']  # leaves the samples alone
        device = inputs.device.type
        with torch.autocast(device, torch.bfloat16 if device == 'cpu' else torch.float16, enabled=self.amp):
            return class_logits(self.model, inputs)

    def canaries(self, batch: Batch, positions: np.ndarray, samples_per_shard: int) -> dict[int, bytes]:
        """Digests of the pixels of those samples of a batch that a store keeps one of, by position in the store."""
        inputs = batch['inputs'][::2 if self.mixing else 1]
        return {position: canary_digest(image) for position, image in zip(positions.tolist(), inputs, strict=True)
                if is_canary(position, samples_per_shard)}

    def probe(self, view: int) -> int:
        """Replay one sample twice and ask the model about it.

        Returns:
            int: The number of classes, C.

        Raises:
            UserError: The two images differ, so that no training could replay them.
        """
        first, again = self.dataset[view, 0], self.dataset[view, 0]
        if canary_digest(first['inputs']) != canary_digest(again['inputs']):
            raise UserError(f'The pipeline gave two different images for view {view} of the same sample: a random '
                            'transform stands outside SeededAugment, or has a generator of its own.')
        return self.logits(self.collate([first] * (2 if self.mixing else 1))).shape[1]


# ---------------------------------------------------------------- identity
def teacher_identity(model: nn.Module, config: dict, amp: bool) -> dict:
    """What a teacher is: its config and the hash of its weights.

    Returns:
        dict: ``name``, ``config``, ``weights_hash`` over the names, shapes and bytes of the state dict,
        ``preprocessor`` and ``precision``, as plain JSON; of an ensemble, a list of preprocessors.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        array = tensor.detach().cpu().contiguous()
        digest.update(f'{name} {tuple(array.shape)} {array.dtype}\n'.encode())
        digest.update(array.view(-1).view(torch.uint8).numpy())
    config = _without_weights(plain_json(config))
    members = list(getattr(model, 'teachers', [])) or [model]
    configs = config.get('teachers', [config])
    name = ' + '.join(c.get('model_name') or c.get('backbone', {}).get('type') or type(m).__name__
                      for c, m in zip(configs, members, strict=True))
    preprocessors = [_preprocessing(member.data_preprocessor) for member in members]
    return dict(name=name, config=config, weights_hash=digest.hexdigest(),
                preprocessor=preprocessors if 'teachers' in config else preprocessors[0],
                precision='autocast' if amp else 'float32')


def _without_weights(config: dict) -> dict:
    """A model's config without where its weights come from, and without what is listed as its preprocessor."""
    left_out = ('init_cfg', 'data_preprocessor', 'pretrained', 'checkpoint')
    config = {name: value for name, value in config.items() if name not in left_out}
    if 'teachers' in config:  # an ensemble
        config['teachers'] = [_without_weights(member) for member in config['teachers']]
    return config


def _preprocessing(preprocessor: nn.Module) -> dict:
    """How pixels are normalised and resized, as plain JSON."""
    found = {k: getattr(preprocessor, k).flatten().tolist() for k in ('mean', 'std') if hasattr(preprocessor, k)}
    return dict(found, to_rgb=bool(getattr(preprocessor, 'to_rgb', False)),
                input_size=getattr(preprocessor, 'input_size', None))
