"""DeiT and distilled DeiT: mmpretrain's transformers, initialised, numbered and loaded as the original.

Touvron et al., "Training data-efficient image transformers & distillation through attention", ICML 2021,
https://arxiv.org/abs/2012.12877; original code https://github.com/facebookresearch/deit (Apache-2.0).
"""
from functools import partial

from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models.backbones import DistilledVisionTransformer, VisionTransformer
from torch import nn

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS

from ..checkpoint_keys import convert_deit_state_dict, convert_in_place
from ..weights import PretrainedMixin

__all__ = ['DeiT', 'DistilledDeiT']


class _DeiTMixin(PretrainedMixin):
    """What differs from mmpretrain: weights at the start, depth of the tokens, official checkpoints."""

    def __init__(self, arch: str | dict = 'deit-tiny', *args, **kwargs) -> None:
        super().__init__(arch, *args, **kwargs)

    def draw_weights(self) -> None:
        """Truncated normal of std 0.02 in linear layers and tokens, zero bias; patches as PyTorch initialises them.

        mmpretrain draws the MLPs from Xavier's uniform distribution and leaves the class token at zero.
        """
        super().draw_weights()
        for name, parameter in self.named_parameters():
            if name in ('cls_token', 'dist_token', 'pos_embed'):
                trunc_normal_(parameter, std=.02)
        for module in self.layers.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=.02)
                nn.init.zeros_(module.bias)

    def train(self, mode: bool = True) -> '_DeiTMixin':
        super().train(mode)
        return self  # mmpretrain's returns None, so that backbone.eval() does

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise decay of the rate, and the number of depths.

        The distillation token is at depth 0 like the class token; mmpretrain puts it beside the head.
        """
        if param_name == f'{prefix}dist_token':
            param_name = f'{prefix}cls_token'
        return super().get_layer_depth(param_name, prefix)

    def _prepare_pos_embed(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        """Before loading: resize the position embedding, bicubic, keeping the extra tokens."""
        found = state_dict.get(f'{prefix}pos_embed')
        if found is not None:
            side = (found.shape[1] - self.num_extra_tokens)**.5
            if side != int(side):
                tokens = 'a class and a distillation token' if self.num_extra_tokens == 2 else 'a class token'
                raise UserError(f'The checkpoint has a position embedding for {found.shape[1]} tokens, which are not '
                                f'{tokens} and a square of patches: a distilled checkpoint belongs to '
                                'mmtinyvit.DistilledDeiT, one without distillation to mmtinyvit.DeiT.')
        super()._prepare_pos_embed(state_dict, prefix, *args, **kwargs)

    _checkpoint_filter = staticmethod(partial(convert_in_place, marks=['blocks.0.attn.qkv.weight'],
                                              convert=convert_deit_state_dict))


@MODELS.register_module()
class DeiT(_DeiTMixin, VisionTransformer):
    """DeiT without distillation.

    Args:
        arch: ``'deit-tiny'``, ``'deit-small'``, ``'deit-base'``, or a dict as for mmpretrain's ``VisionTransformer``.
        *args, **kwargs: Of ``VisionTransformer``.
    """


@MODELS.register_module()
class DistilledDeiT(_DeiTMixin, DistilledVisionTransformer):
    """DeiT with a distillation token: ``forward`` gives ``((cls_token, dist_token), )``, each ``(B, D)``.

    Args:
        arch: As for :class:`DeiT`.
        *args, **kwargs: Of mmpretrain's ``DistilledVisionTransformer``.
    """
