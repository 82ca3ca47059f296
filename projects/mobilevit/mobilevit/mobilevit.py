"""MobileViT of mmpretrain, with the dropout that its recipe needs."""
from mmpretrain.models import MobileViT as MMPretrainMobileViT
from mmpretrain.models.backbones.mobilevit import MobileVitBlock
from torch import Tensor, nn

from mmtinyvit.registry import MODELS

__all__ = ['DropoutNeck', 'MobileViT']


@MODELS.register_module()
class MobileViT(MMPretrainMobileViT):
    """``mmpretrain.MobileViT``; its checkpoints are this one's.

    Maps of any input size: where the patches of 2 x 2 do not fit, a block resizes the map and back, as in the original.

    Args:
        drop_rate: Dropout behind the attention and the MLPs of the transformers, and in the MLPs.
        **kwargs: Of ``mmpretrain.MobileViT``. ``frozen_stages`` freezes the stem too.
    """

    def __init__(self, *args, drop_rate: float = 0., **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for block in self.modules():
            if isinstance(block, MobileVitBlock):
                for module in block.global_rep.modules():
                    if isinstance(module, nn.Dropout):
                        module.p = drop_rate

    def train(self, mode: bool = True) -> 'MobileViT':
        super().train(mode)
        if self.frozen_stages >= 0:
            self.stem.eval()
            self.stem.requires_grad_(False)
        return self


@MODELS.register_module()
class DropoutNeck(nn.Module):
    """Dropout between backbone and head.

    Args:
        rate: Of dropout.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(rate)

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Pooled features ``(B, C)`` each."""
        return tuple(self.dropout(each) for each in feats)
