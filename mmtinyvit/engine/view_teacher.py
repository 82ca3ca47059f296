"""ViewTeacher: a model and the views that it is asked about."""
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.model import is_model_wrapper
from mmengine.registry import DATASETS
from torch import Tensor, nn

from mmtinyvit.datasets.identity import (
    canary_digest,
    dataset_identity,
    find_seeded_augment,
    iter_keys,
    library_versions,
    pipeline_identity,
)
from mmtinyvit.datasets.mixing import partners_of_view
from mmtinyvit.datasets.view_dataset import ViewDataset
from mmtinyvit.errors import UserError
from mmtinyvit.models.data_preprocessors import SeededMixing

from .teacher import teacher_identity

__all__ = ['ViewTeacher']


class ViewTeacher:
    """Asks a teacher about named views.

    Args:
        model: A classifier whose ``tensor`` mode returns logits ``(B, C)``; put into eval mode.
        dataset: Config or MMEngine dataset, with one ``SeededAugment`` and ``PackViewInputs`` at the end.
        mixing: Arguments of ``SeededMixing`` but its seed; None for views of single images.
        amp: Run under autocast: bfloat16 on a CPU, float16 on a GPU.
    """

    def __init__(self, model: nn.Module, dataset: Any, mixing: dict | None = None, amp: bool = False) -> None:
        model = model.module if is_model_wrapper(model) else model
        model.eval()
        self.model = model.to(memory_format=torch.channels_last)  # convolutions run about twice as fast
        self.dataset = ViewDataset(DATASETS.build(dataset) if isinstance(dataset, dict) else dataset)
        self.augment = find_seeded_augment(self.dataset.dataset)
        self.mixing = SeededMixing(**mixing, base_seed=self.augment.base_seed) if mixing else None
        self.amp = amp
        self._partners: tuple[int, np.ndarray] | None = None

    def keys(self) -> Iterator[str]:
        """The keys of all samples, in order."""
        return iter_keys(self.dataset.dataset, self.augment.key_root)

    def fingerprints(self, model_config: dict) -> dict:
        """Dataset, pipeline, teacher and library versions, as plain JSON for a manifest."""
        classes = getattr(self.dataset.dataset, 'metainfo', {}).get('classes')
        return dict(
            dataset=dataset_identity(self.keys(), classes),
            pipeline=pipeline_identity(self.augment, self.mixing.config if self.mixing else None),
            teacher=teacher_identity(self.model, model_config, self.amp),
            versions=library_versions())

    def names(self, view: int, positions: np.ndarray) -> list[tuple[int, int]]:
        """What ``ViewDataset`` is asked for; with mixing, each sample is followed by its partner."""
        if self.mixing:
            if self._partners is None or self._partners[0] != view:
                self._partners = view, partners_of_view(len(self.dataset), self.augment.base_seed, view)
            positions = np.stack([positions, self._partners[1][positions]], 1).ravel()
        return [(view, int(i)) for i in positions]

    def probe(self, view: int) -> int:
        """Replay one sample twice and ask the teacher about it.

        Returns:
            int: The teacher's number of classes.

        Raises:
            UserError: The two images differ, so that no training could replay them.
        """
        first, again = self.dataset[view, 0], self.dataset[view, 0]
        if canary_digest(first['inputs']) != canary_digest(again['inputs']):
            raise UserError(f'The pipeline gave two different images for view {view} of the same sample: a random '
                            'transform stands outside SeededAugment, or has a generator of its own.')
        return self.logits(self.collate([first] * (2 if self.mixing else 1))).shape[1]

    @torch.inference_mode()
    def logits(self, data: dict) -> Tensor:
        """Logits ``(B, C)`` of a collated batch; of mixed pairs, only the first image's."""
        samples = data['data_samples']
        preprocessor = self.model.data_preprocessor
        inputs = preprocessor.cast_data(data['inputs'])
        if self.mixing:  # before the teacher's normalisation and size, as the student does
            inputs = self.mixing(inputs.float(), [sample.sample_key for sample in samples], samples[0].view)[0][::2]
        inputs = preprocessor(dict(inputs=inputs), False)['inputs']  # leaves the samples alone
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        device = inputs.device.type
        with torch.autocast(device, torch.bfloat16 if device == 'cpu' else torch.float16, enabled=self.amp):
            logits = self.model(inputs, mode='tensor')
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise UserError(f'The teacher {type(self.model).__name__} does not return logits (B, C) in tensor mode: '
                            'give it one classification head.')
        return logits

    @staticmethod
    def collate(items: list[dict]) -> dict:
        """Stack packed samples; runs in the loader's workers."""
        shapes = {tuple(item['inputs'].shape) for item in items}
        if len(shapes) > 1:
            raise UserError(f'The views of one batch have different shapes, {sorted(shapes)}: end the transforms with '
                            'a crop or resize to a fixed size.')
        return dict(inputs=torch.stack([item['inputs'] for item in items]),
                    data_samples=[item['data_samples'] for item in items])

    @classmethod
    def collate_views(cls, items: list[list[dict]]) -> list[dict]:
        """One batch for each view of images that came with several; runs in the loader's workers."""
        return [cls.collate(views) for views in zip(*items, strict=True)]
