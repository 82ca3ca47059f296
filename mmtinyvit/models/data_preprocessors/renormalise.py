"""Renormalise: from one data preprocessor's normalisation to another's, on batches that are mixed already."""
import torch
import torch.nn.functional as F
from mmpretrain.models import ClsDataPreprocessor
from torch import Tensor, nn

from mmtinyvit.errors import UserError

__all__ = ['Renormalise']


class Renormalise:
    """Change batches from one data preprocessor's normalisation, channel order and size to another's.

    The statistics are read once, so that no batch waits for the device.

    Args:
        ours: What made the batches: ``mmpretrain.ClsDataPreprocessor``, or one derived from it.
        theirs: What they shall look like; with ``input_size`` (see ``ReplayDataPreprocessor``), they are resized too.

    Raises:
        UserError: One of them is of another type.
    """

    def __init__(self, ours: nn.Module, theirs: nn.Module) -> None:
        for each in (ours, theirs):
            if not isinstance(each, ClsDataPreprocessor):
                raise UserError(f'A {type(each).__name__} does not say how images are normalised: teacher and student '
                                'need a data_preprocessor of type mmpretrain.ClsDataPreprocessor or '
                                'mmtinyvit.ReplayDataPreprocessor.')
        (our_mean, our_std), (their_mean, their_std) = _statistics(ours), _statistics(theirs)
        self.swapped = bool(ours.to_rgb) != bool(theirs.to_rgb)
        if self.swapped:  # their channels in our order
            their_mean, their_std = their_mean.flip(0), their_std.flip(0)
        self.scale = (our_std / their_std)[:, None, None]  # (3, 1, 1) float64
        self.shift = ((our_mean - their_mean) / their_std)[:, None, None]
        self.changed = bool((self.scale != 1).any() or (self.shift != 0).any())
        self.input_size = getattr(theirs, 'input_size', None)

    def __call__(self, inputs: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to ``(B, 3, H', W')``; ``inputs`` itself if nothing differs."""
        if self.changed:
            inputs = inputs * self.scale.to(inputs) + self.shift.to(inputs)
        if self.swapped:
            inputs = inputs.flip(1)
        if self.input_size is not None and inputs.shape[-2:] != (self.input_size, self.input_size):
            inputs = F.interpolate(inputs, (self.input_size, self.input_size), mode='bicubic', antialias=True)
        return inputs


def _statistics(preprocessor: ClsDataPreprocessor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, each ``(3,)`` float64 on the host."""
    if not preprocessor._enable_normalize:
        return torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    return tuple(getattr(preprocessor, name).flatten().double().cpu().expand(3) for name in ('mean', 'std'))
