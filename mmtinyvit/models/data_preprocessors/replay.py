"""Mixup and CutMix that can be replayed: on the device, on adjacent partners, from the pair's own seed."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from torch import Tensor

from mmtinyvit.datasets.mixing import draw_mix
from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS
from mmtinyvit.store import key_hash

__all__ = ['ReplayDataPreprocessor', 'SeededMixing']


class SeededMixing:
    """Mix the images 2i and 2i + 1 of a batch, as their names say.

    Args:
        mixup_alpha: See :func:`~mmtinyvit.datasets.mixing.draw_mix`.
        cutmix_alpha: Likewise.
        switch_prob: Likewise.
        base_seed: That of ``SeededAugment``, ``PairedSampler`` and the store.
    """

    def __init__(self, mixup_alpha: float = 0.8, cutmix_alpha: float = 1., switch_prob: float = 0.5,
                 base_seed: int = 0) -> None:
        self.config = dict(mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha, switch_prob=switch_prob)
        self.base_seed = base_seed

    def __call__(self, inputs: Tensor, keys: Sequence[str], view: int) -> tuple[Tensor, Tensor]:
        """Mix a batch of pairs.

        Args:
            inputs: ``(B, 3, H, W)`` float, B even.
            keys: ``B`` sample keys.
            view: The view.

        Returns:
            tuple: Mixed images ``(B, 3, H, W)``, and ``(B,)`` the share that each keeps of itself.
        """
        if len(keys) % 2:
            raise UserError(f'A batch of {len(keys)} images cannot be mixed in pairs: use an even batch size and '
                            'mmtinyvit.PairedSampler.')
        height, width = inputs.shape[-2:]
        mixed, keep = inputs.clone(), inputs.new_ones(len(keys))
        for a in range(0, len(keys), 2):
            b = a + 1
            if keys[a] == keys[b]:  # the odd one out is its own partner
                continue
            mix = draw_mix(keys[a], keys[b], self.base_seed, view, height, width, **self.config)
            keep[a:b + 1] = mix.keep
            if mix.box is None:
                mixed[a].mul_(mix.keep).add_(inputs[b], alpha=1 - mix.keep)
                mixed[b].mul_(mix.keep).add_(inputs[a], alpha=1 - mix.keep)
            else:
                top, bottom, left, right = mix.box
                mixed[a, :, top:bottom, left:right] = inputs[b, :, top:bottom, left:right]
                mixed[b, :, top:bottom, left:right] = inputs[a, :, top:bottom, left:right]
        return mixed, keep


@MODELS.register_module()
class ReplayDataPreprocessor(ClsDataPreprocessor):
    """``mmpretrain.ClsDataPreprocessor`` with replayed mixing in training, and an input size of its own.

    Args:
        mixing: Arguments of :class:`SeededMixing`; None mixes nothing.
        input_size: Resize the views to squares of this many pixels on the device, bicubic with antialiasing: for a
            teacher that wants larger images than the student. None leaves them as they are.
        **kwargs: Of ``ClsDataPreprocessor``. Its ``batch_augments`` draw from ambient randomness and are refused.
    """

    def __init__(self, mixing: dict | None = None, input_size: int | None = None, **kwargs) -> None:
        if kwargs.get('batch_augments'):
            raise UserError('batch_augments cannot be replayed: use mixing=dict(mixup_alpha=..., cutmix_alpha=...) of '
                            'ReplayDataPreprocessor instead.')
        super().__init__(**{**kwargs, 'to_onehot': bool(mixing and kwargs.get('num_classes'))})
        self.mixing = SeededMixing(**mixing) if mixing else None
        self.input_size = input_size

    def forward(self, data: dict, training: bool = False) -> dict:
        """Mix the pixels in training, normalise, and resize; labels are mixed too where ``num_classes`` is set."""
        mixes = training and self.mixing is not None
        if mixes:
            data = self.cast_data(data)
            samples = data['data_samples']
            _check_partners(samples)
            pixels, keys = data['inputs'].float(), [s.sample_key for s in samples]
            mixed, keep = self.mixing(pixels, keys, samples[0].view)
            data = data | dict(inputs=mixed)
        data = super().forward(data, training)
        if mixes:
            samples = data['data_samples']
            if 'gt_score' in samples[0]:
                score = torch.stack([s.gt_score for s in samples])  # (B, C)
                swapped = score.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
                score = keep[:, None] * score + (1 - keep[:, None]) * swapped
                for sample, row in zip(samples, score, strict=True):
                    sample.set_gt_score(row)
        if self.input_size is not None:
            data['inputs'] = F.interpolate(data['inputs'], (self.input_size, self.input_size), mode='bicubic',
                                           antialias=True)
        return data


def _check_partners(samples: list[DataSample]) -> None:
    """Compare the neighbours of this batch with those that the teacher saw."""
    for i, sample in enumerate(samples):
        partner = samples[i ^ 1] if i ^ 1 < len(samples) else None
        stored = sample.get('teacher_partner')
        if stored is not None and (partner is None or int(stored) != key_hash(partner.sample_key)):
            raise UserError(f'The store mixed view {sample.view} of {sample.sample_key} with another image than this '
                            'batch does: use mmtinyvit.PairedSampler with the base_seed and the dataset of the store.')
