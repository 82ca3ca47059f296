"""The strided depthwise convolution against PyTorch's own in float64."""
import pytest
import torch
from torch import nn

from mmtinyvit.models.backbones.depthwise import StridedDepthwiseConv2d, _DepthwiseConv


@pytest.fixture
def conv():
    torch.manual_seed(0)
    return StridedDepthwiseConv2d(6, 6, 3, 2, 1, groups=6)


@pytest.mark.parametrize('size', [(8, 6), (7, 5), (1, 2)])
def test_gradcheck(size):
    x = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(_DepthwiseConv.apply, (x, weight, (2, 2), (1, 1)))


@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize('size', [(8, 6), (7, 5)])
def test_bfloat16_gradients_are_those_of_float64(conv, size, autocast):
    x = torch.randn(2, 6, *size).contiguous(memory_format=torch.channels_last).bfloat16()
    conv.bfloat16()
    expected = gradients(nn.Conv2d.forward, conv.double(), x.double())
    conv.to(torch.float32 if autocast else torch.bfloat16)
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        found = gradients(StridedDepthwiseConv2d.forward, conv, x.float() if autocast else x)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == (torch.float32 if autocast else torch.bfloat16)
        torch.testing.assert_close(ours.double(), theirs, rtol=2e-2, atol=2e-2)


def gradients(forward, conv: nn.Conv2d, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    x.requires_grad_()
    y = forward(conv, x)
    return torch.autograd.grad(y.float().sin().sum(), [x, *conv.parameters()])


def test_its_graph_holds_the_function_only_where_it_helps(conv):
    x = torch.randn(1, 6, 4, 4, requires_grad=True)
    conv.bias = None
    assert type(conv(x).grad_fn).__name__ == 'ConvolutionBackward0'
    with torch.autocast('cpu', torch.bfloat16):
        assert type(conv(x).grad_fn).__name__ == '_DepthwiseConvBackward'
