"""The Mobile-Former block: both bridges, a Former and a Mobile."""
from torch import Tensor, nn

from .archs import BlockSpec
from .bridges import FormerToMobile, MobileToFormer
from .former import Former
from .mobile import DownMobile, Mobile

__all__ = ['MobileFormerBlock']


class MobileFormerBlock(nn.Module):
    """Tokens look at the map, think, steer the convolutions, and tell the map what they know: in this order.

    Args:
        in_channels: Channels in.
        spec: The block's line of the table.
        token_dims: Width of the tokens.
        groups: Groups of the 1 x 1 convolutions.
        drop_path: Rate of stochastic depth of bridges and Former.
    """

    def __init__(self, in_channels: int, spec: BlockSpec, token_dims: int, groups: int = 1, drop_path: float = 0.):
        super().__init__()
        self.mobile_to_former = MobileToFormer(in_channels, token_dims, drop_path=drop_path)
        self.former = Former(token_dims, drop_path=drop_path)
        if spec.kind == 'down':
            self.mobile = DownMobile(in_channels, spec.channels, spec.expand, spec.second_expand, token_dims, groups)
        else:
            self.mobile = Mobile(in_channels, spec.channels, spec.expand, token_dims, groups)
        self.former_to_mobile = FormerToMobile(spec.channels, token_dims, drop_path=drop_path)

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(B, C, H, W)`` and tokens ``(B, T, D)`` to a map and tokens."""
        tokens = self.former(self.mobile_to_former(x, tokens))
        x = self.mobile(x, tokens[:, 0])
        return self.former_to_mobile(x, tokens), tokens
