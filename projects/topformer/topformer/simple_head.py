"""The head of TopFormer in mmsegmentation: the sum of the maps, and one or two 1x1 convolutions."""
from collections.abc import Sequence

import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from mmtinyvit.registry import MODELS

from .layers import ConvNorm
from .released_keys import rename_head

__all__ = ['SimpleHead']


@MODELS.register_module()
class SimpleHead(BaseDecodeHead):
    """Sum the maps at the size of the first, then a 1x1 convolution with BatchNorm and ReLU, and the classifier.

    Args:
        in_channels: Channels of each map, all equal to ``channels``.
        depthwise: Each channel of the sum on its own in the first convolution, as in TopFormer-T.
        **kwargs: Arguments of mmseg's ``BaseDecodeHead``; ``align_corners`` is False in the original.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, depthwise: bool = False, **kwargs):
        super().__init__(in_channels=in_channels, channels=channels, input_transform='multiple_select', **kwargs)
        self.fuse = ConvNorm(channels, channels, groups=channels if depthwise else 1)
        self._register_load_state_dict_pre_hook(_adapt)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Maps ``(B, channels, H_i, W_i)`` in, the logits ``(B, num_classes, H_0, W_0)`` out."""
        first, *others = self._transform_inputs(inputs)
        for each in others:
            first = first + F.interpolate(each, first.shape[2:], mode='bilinear', align_corners=self.align_corners)
        return self.cls_seg(F.relu(self.fuse(first)))


def _adapt(state_dict: dict, prefix: str, *_) -> None:
    """Before loading: take the released names."""
    own = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(prefix)}
    renamed = rename_head({key.removeprefix(prefix): value for key, value in own.items()})
    state_dict.update({prefix + key: value for key, value in renamed.items()})
