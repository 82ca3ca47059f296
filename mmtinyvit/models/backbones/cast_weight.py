"""Weights in the type that autocast computes in, cast once instead of at every call."""
import torch
from torch import Tensor

__all__ = ['CastWeight']


class CastWeight:
    """``weight.to(dtype of autocast)``, remembered as long as the weight stays what it was.

    For inference on the CPU, where autocast casts every weight at every call: an eighth of TinyViT's time on one image.
    A weight that is replaced or changed in place is cast again; one that is changed through ``.data``, which
    PyTorch does not count as a change, is not, so this is for weights that are final.
    """

    def __init__(self) -> None:
        self._held: tuple[Tensor, int, Tensor] | None = None

    def __call__(self, weight: Tensor) -> Tensor:
        recorded = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing()
        if (recorded or weight.device.type != 'cpu' or weight.dtype != torch.float32 or weight.is_inference()
                or not torch.is_autocast_enabled('cpu')):
            return weight
        dtype = torch.get_autocast_dtype('cpu')
        if self._held is not None:
            source, version, cast = self._held
            # the reference to the source keeps its memory from being reused, so that the address identifies it
            if source.data_ptr() == weight.data_ptr() and version == weight._version and cast.dtype == dtype:
                return cast
        cast = weight.to(dtype)
        self._held = weight.detach(), weight._version, cast
        return cast

    def __reduce__(self) -> tuple:
        return CastWeight, ()  # copies and files of a model do without
