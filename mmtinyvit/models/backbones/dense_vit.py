"""A plain ViT for segmentation, as MAE and TinyMIM are judged: relative positions and layer scale come in with it."""
from collections.abc import Sequence

import torch
from mmengine.logging import print_log
from mmpretrain.models.backbones import BEiTViT
from torch import Tensor

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS

from ..weights import PretrainedMixin, fill_vit

__all__ = ['DenseViT']

HEAD_NORMS = ('ln1.', 'ln2.')  # behind the last block: a classifier's


@MODELS.register_module()
class DenseViT(PretrainedMixin, BEiTViT):
    """mmpretrain's BEiT with biases and positions as in MAE: maps of several blocks, all at the stride of a patch.

    A bias of relative positions, at first 0, is added to the attention of each block, and each branch has a scale, at
    first 1: so the network starts as the pretrained one. TinyMIM's paper and MAE's use this network with UPerNet.

    Args:
        arch: As of mmpretrain's ``BEiTViT``: ``'deit-tiny'``, ``'deit-small'``, ``'deit-base'``, ``'large'`` or a dict.
        img_size: Side of the images in pixels; others are refused, as relative positions are learned for this one.
        out_indices: Blocks to output, counted from 0.
        drop_path_rate: Stochastic depth of the last block, rising linearly from 0.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` takes a checkpoint of TinyMIM, MAE, timm or mmpretrain,
            pretrained or finetuned, and must fill every tensor but those that come in here. Positions are
            interpolated.
        **kwargs: Other arguments of ``BEiTViT``.
    """

    def __init__(self,
                 arch: str | dict = 'deit-base',
                 img_size: int = 512,
                 out_indices: Sequence[int] = (3, 5, 7, 11),
                 drop_path_rate: float = 0.,
                 init_cfg: dict | list[dict] | None = None,
                 **kwargs):
        settings = dict(bias=True, use_abs_pos_emb=True, layer_scale_init_value=1., out_type='featmap') | kwargs
        super().__init__(arch, img_size, out_indices=list(out_indices), drop_path_rate=drop_path_rate,
                         init_cfg=init_cfg, **settings)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images ``(B, 3, img_size, img_size)`` in, maps ``(B, C, img_size / 16, img_size / 16)`` out.

        Raises:
            UserError: The images are of another size.
        """
        if tuple(x.shape[2:]) != self.img_size:
            raise UserError(f'This DenseViT takes images of {self.img_size[0]} x {self.img_size[1]} pixels, but got '
                            f'{x.shape[2]} x {x.shape[3]}: train on crops of that size, and test with '
                            "test_cfg.mode='slide' on images at least as large, or set img_size.")
        return super().forward(x)

    def train(self, mode: bool = True) -> 'DenseViT':
        super().train(mode)  # which gives nothing back
        return self

    def draw_weights(self) -> None:
        """Initialise as mmpretrain does, with relative positions at 0."""
        super().draw_weights()
        for layer in self.layers:
            torch.nn.init.zeros_(layer.attn.relative_position_bias_table)

    def load_pretrained(self, checkpoint: str, prefix: str | None = None) -> None:
        own = [name for name in self.state_dict()
               if name.endswith(('gamma_1', 'gamma_2')) or 'relative_position' in name]
        filled = fill_vit(self, checkpoint, HEAD_NORMS, fresh=own)
        print_log(f'DenseViT: {filled} tensors filled from {checkpoint}, {len(own)} of its own stay', logger='current')
