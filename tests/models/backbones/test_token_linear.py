"""Linear layers as convolutions against PyTorch's own in float64."""
import pytest
import torch
import torch.nn.functional as F
from mmengine.model import TruncNormalInit

from mmtinyvit.models.backbones import token_linear
from mmtinyvit.models.backbones.token_linear import TokenLinear


@pytest.fixture
def convolutions(monkeypatch) -> list[tuple]:
    """Shapes that pass through a convolution, from 8 tokens on."""
    seen, conv2d = [], F.conv2d
    monkeypatch.setattr(token_linear, 'MANY', 8)
    monkeypatch.setattr(token_linear.F, 'conv2d', lambda x, *args: seen.append(tuple(x.shape)) or conv2d(x, *args))
    return seen


def outcome(layer: TokenLinear, x: torch.Tensor, forward) -> list[torch.Tensor]:
    """Output and gradients."""
    x = x.detach().requires_grad_()
    y = forward(layer, x)
    return [y, *torch.autograd.grad(y.double().sin().sum(), [x, *layer.parameters()])]


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize('shape', [(2, 3, 4, 6), (12, 6), (4, 5, 6)])
def test_values_and_gradients(convolutions, shape, autocast, bias):
    torch.manual_seed(0)
    layer, x = TokenLinear(6, 10, bias=bias), torch.randn(shape)
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        found = outcome(layer, x, TokenLinear.forward)
    assert convolutions == [(1, 6, x.numel() // 6, 1)]
    assert found[0].dtype == (torch.bfloat16 if autocast else torch.float32) and found[0].is_contiguous()
    expected = outcome(layer.double(), x.double(), torch.nn.Linear.forward)
    tolerance = 3e-2 if autocast else 1e-5
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance)


def test_tokens_need_not_lie_side_by_side(convolutions):
    layer, x = TokenLinear(6, 4), torch.randn(3, 6, 5, 2).permute(0, 2, 3, 1)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
    assert convolutions


@pytest.mark.parametrize('x', [torch.randn(7, 6), torch.randn(0, 6), torch.randn(20, 6, dtype=torch.float64)],
                         ids=['few', 'none', 'float64'])
def test_what_gains_nothing_stays_a_product(convolutions, x):
    layer = TokenLinear(6, 4).to(x.dtype)
    assert layer(x).shape == (len(x), 4) and not convolutions


def test_the_compiler_and_a_trace_see_a_linear_layer(convolutions):
    layer, x = TokenLinear(6, 4), torch.randn(20, 6)
    compiled = torch.compile(layer, backend='eager', fullgraph=True)
    traced = torch.jit.trace(layer, x, check_trace=False)
    assert torch.equal(compiled(x), F.linear(x, layer.weight, layer.bias)) and not convolutions
    assert 'conv' not in str(traced.graph)


def test_it_is_initialised_as_a_linear_layer():
    layer = TokenLinear(64, 64)
    TruncNormalInit(std=1e-3, bias=0.5, layer='Linear')(layer)
    assert layer.weight.abs().max() < .01 and (layer.bias == .5).all()
