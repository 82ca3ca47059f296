"""The visual tower of CLIP, the teacher of the TinyViT paper when a linear classifier sits on its projection.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
https://arxiv.org/abs/2103.00020. Written from the paper and from the key names of the published checkpoint.
"""
from functools import partial

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS

from ..checkpoint_keys import convert_clip_state_dict, convert_in_place
from ..weights import PretrainedMixin

__all__ = ['CLIPVisionTower']


class Block(nn.Module):
    """Pre-norm transformer block with QuickGELU."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.ln1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.ln2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        B, N, C = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(B, N, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # (B, heads, N, d)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, C)
        x = x + self.proj(attended)
        hidden = self.fc1(self.ln2(x))
        return x + self.fc2(hidden * torch.sigmoid(1.702 * hidden))  # QuickGELU


@MODELS.register_module()
class CLIPVisionTower(PretrainedMixin, BaseModule):
    """Vision transformer of CLIP with a norm before its blocks and a projection behind, ViT-L/14 by default.

    Feed it images normalised with CLIP's own mean and std, (0.48145466, 0.4578275, 0.40821073) and
    (0.26862954, 0.26130258, 0.27577711): the finetuning on ImageNet-22k kept them.

    Args:
        img_size: Side of the square image in pixels.
        patch_size: Side of a patch in pixels.
        width: Channels of a token.
        depth: Number of blocks.
        num_heads: Heads per block; the paper has 64 channels in each.
        out_channels: Channels of the projection.
        init_cfg: Initialisation of MMEngine; by default that of the finetuning, for training from nothing.
    """

    def __init__(self,
                 img_size: int = 224,
                 patch_size: int = 14,
                 width: int = 1024,
                 depth: int = 24,
                 num_heads: int = 16,
                 out_channels: int = 768,
                 init_cfg: dict | list[dict] | None = (
                     dict(type='TruncNormal', layer='Linear', std=.02, bias=0.),
                     dict(type='Constant', layer='LayerNorm', val=1., bias=0.),
                 )):
        super().__init__(list(init_cfg) if isinstance(init_cfg, tuple) else init_cfg)
        if width % num_heads or img_size % patch_size:
            raise UserError(f'CLIPVisionTower needs a width ({width}) that is a multiple of num_heads ({num_heads}), '
                            f'and an img_size ({img_size}) that is a multiple of patch_size ({patch_size}).')
        self.img_size = img_size
        std = width**-0.5
        num_patches = (img_size // patch_size)**2
        self.patch_embed = nn.Conv2d(3, width, patch_size, stride=patch_size, bias=False)
        self.cls_token = nn.Parameter(std * torch.randn(width))
        self.pos_embed = nn.Parameter(std * torch.randn(num_patches + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, num_heads) for _ in range(depth))
        self.ln_post = nn.LayerNorm(width)
        self.projection = nn.Parameter(std * torch.randn(width, out_channels))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """The projected class token ``(B, out_channels)`` of images ``(B, 3, img_size, img_size)``.

        Raises:
            UserError: If the images have another size.
        """
        if x.shape[2:] != (self.img_size, self.img_size):
            raise UserError(f'CLIPVisionTower takes images of {self.img_size}x{self.img_size} pixels, but got '
                            f'{x.shape[2]}x{x.shape[3]}: resize them, or build it with another img_size.')
        x = self.patch_embed(x).flatten(2).transpose(1, 2)  # (B, num_patches, width)
        x = torch.cat([self.cls_token.to(x.dtype).expand(x.shape[0], 1, -1), x], dim=1) + self.pos_embed.to(x.dtype)
        x = self.ln_pre(x)
        for block in self.blocks:
            x = block(x)
        return (self.ln_post(x[:, 0]) @ self.projection, )

    _checkpoint_filter = staticmethod(partial(convert_in_place, marks=['visual.conv1.weight'],
                                              convert=convert_clip_state_dict))
