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

__all__ = ['ReplayDataPreprocessor', 'SeededMixing', 'renormalise', 'view_names']


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
        """Mixed images ``(B, 3, H, W)`` of float ``inputs``, and ``(B,)`` the share that each keeps of itself.

        Raises:
            UserError: B is odd, or the views have another ``base_seed`` than the mixing was given.
        """
        require_pairs(names)
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
            require_pairs(names)
            for i, sample in enumerate(samples):
                stored = sample.get('teacher_partner')
                if stored is not None and int(stored) != key_hash(names[i ^ 1].key):
                    raise UserError(f'The store mixed view {sample.view} of {sample.sample_key} with another image '
                                    'than this batch does: use mmtinyvit.PairedSampler and the dataset of the store.')
            mixed, keep = self.mixing(data['inputs'].float(), names)
            data = data | dict(inputs=mixed)
        data = super().forward(data, training)
        if mixes and 'gt_score' in samples[0]:
            score = torch.stack([s.gt_score for s in samples])  # (B, C)
            swapped = score.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
            score = keep[:, None] * score + (1 - keep[:, None]) * swapped
            for sample, row in zip(samples, score, strict=True):
                sample.set_gt_score(row)
        if self.input_size and data['inputs'].shape[-2:] != (self.input_size, self.input_size):
            data['inputs'] = F.interpolate(data['inputs'], (self.input_size, self.input_size), mode='bicubic',
                                           antialias=True)
        return data


def require_pairs(names: Sequence[ViewName]) -> None:
    """Raises :class:`UserError` if a batch is odd."""
    if len(names) % 2:
        raise UserError(f'A batch of {len(names)} images cannot be mixed in pairs: set an even batch_size in the '
                        'loader, with mmtinyvit.PairedSampler, which keeps pairs together.')


def view_names(samples: Sequence[DataSample]) -> list[ViewName]:
    """The names of packed views. Raises :class:`UserError` if they have none."""
    if not all(name in sample for sample in samples for name in ('base_seed', 'view', 'sample_key')):
        raise UserError('The samples of the batch do not say which views they are, by base_seed, view and sample_key: '
                        'put mmtinyvit.SeededAugment and mmtinyvit.PackViewInputs into the pipeline.')
    return [ViewName(sample.base_seed, sample.view, sample.sample_key) for sample in samples]


def renormalise(inputs: Tensor, source: nn.Module, target: nn.Module) -> Tensor:
    """A batch that one data preprocessor has normalised, as another one normalises the same pixels.

    Args:
        inputs: ``(B, 3, H, W)``, as ``source`` gave them; they may have been mixed since, which is linear.
        source: ``mmpretrain.ClsDataPreprocessor``, or one derived from it.
        target: Likewise; one with ``input_size`` (see :class:`ReplayDataPreprocessor`) resizes them, too.

    Raises:
        UserError: One of them is of another type.
    """
    for preprocessor in (source, target):
        if not isinstance(preprocessor, ClsDataPreprocessor):
            raise UserError(f'A {type(preprocessor).__name__} does not say how images are normalised: teacher and '
                            'student need a data_preprocessor of type mmpretrain.ClsDataPreprocessor or '
                            'mmtinyvit.ReplayDataPreprocessor.')
    if source._enable_normalize:
        inputs = inputs * source.std.to(inputs) + source.mean.to(inputs)
    return target(dict(inputs=inputs.flip(1) if source.to_rgb else inputs), False)['inputs']
