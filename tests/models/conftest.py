"""Random weights in which every tensor matters, and a TinyViT small enough to differentiate."""
import pytest
import torch
from torch import nn

from mmtinyvit.models.backbones import TinyViT


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Fill a model with weights that hide nothing: no unit norm, no zero bias, no running variance of one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith('running_var'):
                tensor.uniform_(.5, 2., generator=generator)
            elif tensor.is_floating_point():
                scale = .02 if tensor.ndim > 1 and 'attention_biases' not in name else .3
                tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=scale)
    return model


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def randomised():
    return randomise


@pytest.fixture
def tiny():
    """Builds a TinyViT of four narrow stages with random weights."""

    def build(**options) -> TinyViT:
        torch.manual_seed(0)
        arch = dict(embed_dims=(8, 16, 24, 32), num_heads=(1, 2, 3, 2), depths=(1, 1, 2, 1), window_sizes=(7, 3, 4, 2))
        return randomise(TinyViT(arch, **options))

    return build
