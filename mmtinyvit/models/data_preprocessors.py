"""What happens to a batch of images on the device: replayed Mixup and CutMix, normalisation, and changes of it."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmtinyvit.datasets import ViewName, draw_mix
from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS
from mmtinyvit.store import key_hash

__all__ = ['Renormalise', 'ReplayDataPreprocessor', 'SeededMixing', 'view_names']


class SeededMixing:
    """Mix the images 2i and 2i + 1 of a batch, as their names say.

    Args:
        mixup_alpha, cutmix_alpha, switch_prob: See :func:`~mmtinyvit.datasets.mixing.draw_mix`.
        base_seed: Not needed: that of the views' names.
    """

    def __init__(self, mixup_alpha: float = 0.8, cutmix_alpha: float = 1., switch_prob: float = 0.5,
                 base_seed: int | None = None) -> None:
        self.config = dict(mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha, switch_prob=switch_prob)
        self.base_seed = base_seed

    def __call__(self, inputs: Tensor, names: Sequence[ViewName]) -> tuple[Tensor, Tensor]:
        """Mix a batch of pairs.

        Args:
            inputs: ``(B, 3, H, W)`` float, B even.
            names: ``B`` names, of the same view.

        Returns:
            tuple: Mixed images ``(B, 3, H, W)``, and ``(B,)`` the share that each keeps of itself.

        Raises:
            UserError: B is odd, or the views have another ``base_seed`` than the mixing was given.
        """
        if len(names) % 2:
            raise UserError(f'A batch of {len(names)} images cannot be mixed in pairs: use an even batch size and '
                            'mmtinyvit.PairedSampler.')
        if self.base_seed not in (None, names[0].base_seed):
            raise UserError(f'base_seed={self.base_seed} of mixing is not the {names[0].base_seed} of SeededAugment: '
                            'remove it, since mixing takes that of the views.')
        mixed, keep = inputs.clone(), inputs.new_ones(len(names))
        for a in range(0, len(names), 2):
            base_seed, view, key = names[a]
            if key == names[a + 1].key:  # the odd one out is its own partner
                continue
            mix = draw_mix(key, names[a + 1].key, base_seed, view, *inputs.shape[-2:], **self.config)
            pair, partners = mixed[a:a + 2], inputs[a:a + 2].flip(0)  # (2, 3, H, W)
            keep[a:a + 2] = mix.keep
            if mix.box is None:
                pair.mul_(mix.keep).add_(partners, alpha=1 - mix.keep)
            else:
                top, bottom, left, right = mix.box
                pair[..., top:bottom, left:right] = partners[..., top:bottom, left:right]
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
            names = view_names(samples)
            for i, sample in enumerate(samples):
                stored = sample.get('teacher_partner')
                if stored is not None and (i ^ 1 >= len(names) or int(stored) != key_hash(names[i ^ 1].key)):
                    raise UserError(f'The store mixed view {sample.view} of {sample.sample_key} with another image '
                                    'than this batch does: use mmtinyvit.PairedSampler and the dataset of the store.')
            mixed, keep = self.mixing(data['inputs'].float(), names)
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
        data['inputs'] = _resize(data['inputs'], self.input_size)
        return data


def view_names(samples: Sequence[DataSample]) -> list[ViewName]:
    """The names of packed views. Raises :class:`UserError` if they have none."""
    if not all(name in sample for sample in samples for name in ('base_seed', 'view', 'sample_key')):
        raise UserError('The samples of the batch do not say which views they are: put mmtinyvit.SeededAugment and '
                        'mmtinyvit.PackViewInputs into the pipeline.')
    return [ViewName(sample.base_seed, sample.view, sample.sample_key) for sample in samples]


class Renormalise:
    """Change batches from one data preprocessor's normalisation, channel order and size to another's.

    The statistics are read once, so that no batch waits for the device.

    Args:
        source: What made the batches: ``mmpretrain.ClsDataPreprocessor``, or one derived from it.
        target: What they shall look like; with ``input_size`` (see ``ReplayDataPreprocessor``), they are resized too.

    Raises:
        UserError: One of them is of another type.
    """

    def __init__(self, source: nn.Module, target: nn.Module) -> None:
        (source_mean, source_std), (target_mean, target_std) = _statistics(source), _statistics(target)
        self.swapped = bool(source.to_rgb) != bool(target.to_rgb)
        if self.swapped:  # the target's channels in the source's order
            target_mean, target_std = target_mean.flip(0), target_std.flip(0)
        self.scale = (source_std / target_std)[:, None, None]  # (3, 1, 1) float64
        self.shift = ((source_mean - target_mean) / target_std)[:, None, None]
        self.changed = bool((self.scale != 1).any() or (self.shift != 0).any())
        self.input_size = getattr(target, 'input_size', None)

    def __call__(self, inputs: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to ``(B, 3, H', W')``; ``inputs`` itself if nothing differs."""
        if self.changed:
            inputs = inputs * self.scale.to(inputs) + self.shift.to(inputs)
        if self.swapped:
            inputs = inputs.flip(1)
        return _resize(inputs, self.input_size)


def _resize(inputs: Tensor, size: int | None) -> Tensor:
    if size is None or inputs.shape[-2:] == (size, size):
        return inputs
    return F.interpolate(inputs, (size, size), mode='bicubic', antialias=True)


def _statistics(preprocessor: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, each ``(3,)`` float64 on the host."""
    if not isinstance(preprocessor, ClsDataPreprocessor):
        raise UserError(f'A {type(preprocessor).__name__} does not say how images are normalised: teacher and student '
                        'need a data_preprocessor of type mmpretrain.ClsDataPreprocessor or '
                        'mmtinyvit.ReplayDataPreprocessor.')
    if not preprocessor._enable_normalize:
        return torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    return tuple(getattr(preprocessor, name).flatten().double().cpu().expand(3) for name in ('mean', 'std'))
