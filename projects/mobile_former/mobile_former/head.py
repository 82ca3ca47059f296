"""The classification head of Mobile-Former: the pooled map and the first token, two linear layers."""
import torch
import torch.nn.functional as F
from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn

from mmtinyvit.models.backbones.tiny_vit import ConvNorm
from mmtinyvit.registry import MODELS

from .archs import ARCHS
from .mobile import shuffle
from .weights import initialise

__all__ = ['MobileFormerClsHead']


@MODELS.register_module()
class MobileFormerClsHead(ClsHead):
    """Six times as many channels, pooled, beside the first token; a hidden layer, and the classes.

    Args:
        num_classes: Classes.
        in_channels: Channels C of the map.
        token_dims: Width D of the tokens.
        hidden_channels: Width of the hidden layer.
        groups: Groups of the 1 x 1 convolution.
        dropout: Rate of dropout before the classes.
        **kwargs: Of ``mmpretrain.ClsHead``.
    """

    def __init__(self,
                 num_classes: int,
                 in_channels: int,
                 token_dims: int,
                 hidden_channels: int,
                 groups: int = 1,
                 dropout: float = 0.,
                 **kwargs):
        kwargs['loss'] = kwargs.get('loss') or dict(type='mmpretrain.CrossEntropyLoss')
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.shuffle = shuffle(groups)
        self.conv = ConvNorm(in_channels, 6 * in_channels, groups=groups)
        self.hidden = nn.Linear(6 * in_channels + token_dims, hidden_channels)
        self.norm = nn.BatchNorm1d(hidden_channels)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(hidden_channels, num_classes)

    @classmethod
    def of(cls, arch: str, num_classes: int = 1000, **kwargs) -> 'MobileFormerClsHead':
        """The head of a variant."""
        spec = ARCHS[arch]
        return cls(num_classes, spec.blocks[-1].channels, spec.token_dims, spec.head_channels, spec.groups, **kwargs)

    def pre_logits(self, feats: tuple[tuple[Tensor, Tensor], ...]) -> Tensor:
        """Map ``(B, C, H, W)`` and tokens ``(B, T, D)`` to ``(B, hidden_channels)``."""
        x, tokens = feats[-1]
        pooled = F.hardswish(F.relu6(self.conv(self.shuffle(x))).mean((2, 3)))  # (B, 6C)
        hidden = self.hidden(torch.cat([pooled, tokens[:, 0].to(pooled.dtype)], dim=1))
        return F.hardswish(self.norm(hidden))

    def forward(self, feats: tuple[tuple[Tensor, Tensor], ...]) -> Tensor:
        """Logits ``(B, num_classes)``."""
        return self.fc(self.dropout(self.pre_logits(feats)))

    def init_weights(self) -> None:
        """The original's initialisation, and ``init_cfg`` on top of it."""
        if not self.is_init:
            initialise(self)
            super().init_weights()
