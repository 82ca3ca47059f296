"""Linear layers over many tokens, on the CPU by other kernels than those for matrices."""
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .derived import Derived
from .gelu import gelu
from .watched import is_recorded, is_watched

__all__ = ['TokenLinear']

MANY = 1500  # with fewer tokens the convolution gains nothing
DTYPES = (torch.float32, torch.bfloat16)
OPS = torch.ops.mkldnn  # what PyTorch's compiler calls; without a name of its own in Python


class TokenLinear(nn.Linear):
    """``nn.Linear`` for tokens ``(..., C)``.

    On the CPU in eager mode many tokens pass through a 1 x 1 convolution, which is the same thing: oneDNN's kernels for
    it, and for its gradients, take up to a tenth less time than those for matrices.

    After :meth:`fuse` inference uses a copy of the weight in oneDNN's own order. Without it every call arranges the
    weight anew, and casts it under autocast, which for the tokens of one image takes up to half as long as the product.
    """
    _packed: Derived | None = None

    def forward(self, x: Tensor) -> Tensor:
        if is_recorded() or x.device.type != 'cpu':
            return F.linear(x, self.weight, self.bias)
        if (dtype := self._packed_dtype(x)) is not None:
            return self._packed_forward(x, dtype, 'none')
        num = x.numel() // max(self.in_features, 1)
        if num < MANY or x.dtype not in DTYPES or not torch.backends.mkldnn.is_available():
            return F.linear(x, self.weight, self.bias)
        maps = x.reshape(1, num, 1, self.in_features).permute(0, 3, 1, 2)  # (1, C, tokens, 1), channels last
        maps = F.conv2d(maps, self.weight[:, :, None, None], self.bias)
        return maps.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)

    def gelu(self, x: Tensor) -> Tensor:
        """The layer and an exact GELU behind it."""
        if is_recorded() or is_watched(self) or (dtype := self._packed_dtype(x)) is None:
            return gelu(self(x))
        return self._packed_forward(x, dtype, 'gelu')

    def fuse(self) -> None:
        """Let inference on a CPU hold the weight once more, in the order and the type in which it is read."""
        self._packed = Derived()

    def train(self, mode: bool = True) -> 'TokenLinear':
        if self._packed is not None:
            self._packed.clear()
        return super().train(mode)

    def _packed_dtype(self, x: Tensor) -> torch.dtype | None:
        """The type in which to compute with the packed weight, or None where that cannot be done."""
        if self._packed is None or x.device.type != 'cpu' or not torch.backends.mkldnn.enabled:
            return None
        if torch.is_grad_enabled() and any(each.requires_grad for each in (x, *self.parameters(recurse=False))):
            return None
        dtype, types = x.dtype, {x.dtype, self.weight.dtype}
        if torch.is_autocast_enabled('cpu') and types <= set(DTYPES):
            dtype, types = torch.get_autocast_dtype('cpu'), set()
        return dtype if types <= {dtype} and dtype in _packable() else None

    def _packed_forward(self, x: Tensor, dtype: torch.dtype, activation: str) -> Tensor:
        weight = self._packed.get(dtype, self.weight, lambda: OPS._reorder_linear_weight(self.weight.to(dtype)))
        bias = None if self.bias is None else self.bias.to(dtype)
        return OPS._linear_pointwise(x.to(dtype), weight, bias, activation, [], 'none')


@cache
def _packable() -> tuple[torch.dtype, ...]:
    """The types whose products oneDNN has fast kernels for on this machine."""
    if not torch.backends.mkldnn.is_available() or not hasattr(OPS, '_linear_pointwise'):
        return ()
    return DTYPES if OPS._is_mkldnn_bf16_supported() else (torch.float32, )
