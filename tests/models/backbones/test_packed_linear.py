"""Fused linear layers, whose weight lies in oneDNN's own order, against PyTorch's own in float64."""
import copy
import io
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F

from mmtinyvit.models.backbones import token_linear
from mmtinyvit.models.backbones.token_linear import TokenLinear

AUTOCAST = torch.autocast('cpu', torch.bfloat16)
TYPES = {
    'float32': (torch.float32, nullcontext(), 1e-5),
    'autocast': (torch.float32, AUTOCAST, 2e-2),
    'bfloat16': (torch.bfloat16, nullcontext(), 2e-2),
}


class Spy:
    """oneDNN's operators, and the names of those that were called."""

    def __init__(self, ops):
        self.ops, self.calls = ops, []

    def __getattr__(self, name: str):
        self.calls.append(name)
        return getattr(self.ops, name)


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    token_linear._packable()
    spy = Spy(token_linear.OPS)
    monkeypatch.setattr(token_linear, 'OPS', spy)
    return spy.calls


def fused(*args, **options) -> TokenLinear:
    torch.manual_seed(0)
    layer = TokenLinear(*args, **options).eval()
    layer.fuse()
    return layer


def definition(layer: TokenLinear, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x.double(), layer.weight.double(), None if layer.bias is None else layer.bias.double())


@pytest.mark.parametrize('types', TYPES)
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('shape', [(2, 3, 4, 6), (2000, 6), (1, 6), (0, 6)])
def test_values(calls, shape, bias, types):
    dtype, autocast, tolerance = TYPES[types]
    layer, x = fused(6, 10, bias=bias).to(dtype), torch.randn(shape, dtype=dtype)
    with torch.inference_mode(), autocast:
        found, activated = layer(x), layer.gelu(x)
    assert calls.count('_linear_pointwise') == 2 and calls.count('_reorder_linear_weight') == 1
    assert found.dtype == activated.dtype == (torch.bfloat16 if tolerance > 1e-3 else torch.float32)
    expected = definition(layer, x)
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(activated.double(), F.gelu(expected), rtol=tolerance, atol=tolerance)


def test_tokens_need_not_lie_side_by_side(calls):
    layer, x = fused(6, 4), torch.randn(3, 6, 5, 2).permute(0, 2, 3, 1)
    with torch.no_grad():
        torch.testing.assert_close(layer(x).double(), definition(layer, x), rtol=1e-5, atol=1e-5)
    assert '_linear_pointwise' in calls


def test_the_weight_is_packed_once_for_each_type(calls):
    layer, x = fused(6, 4), torch.randn(5, 6)
    with torch.inference_mode():
        for _ in range(3):
            layer(x)
            with AUTOCAST:
                layer(x)
    assert calls.count('_reorder_linear_weight') == 2


def test_it_follows_the_parameter(calls):
    """In place, by loading, replaced, in another type; through ``data``, over train()."""
    layer, x = fused(6, 4), torch.randn(5, 6)

    def check() -> None:
        before = calls.count('_reorder_linear_weight')
        with torch.inference_mode():
            found = layer(x.to(layer.weight.dtype)).double()
        torch.testing.assert_close(found, definition(layer, x), rtol=2e-2, atol=2e-2)
        assert calls.count('_reorder_linear_weight') == before + 1

    check()
    with torch.no_grad():
        layer.weight.add_(1.)
    check()
    layer.load_state_dict({key: torch.randn_like(value) for key, value in layer.state_dict().items()})
    check()
    layer.weight = torch.nn.Parameter(torch.randn(4, 6))
    check()
    layer.bfloat16()
    check()
    layer.train().weight.data.mul_(-2.)
    layer.eval()
    check()


@pytest.mark.parametrize('wanted', ['x', 'weight', 'bias'])
def test_gradients_take_the_plain_way(calls, wanted):
    layer, x = fused(6, 4).requires_grad_(False), torch.randn(5, 6)
    tensor = dict(x=x, weight=layer.weight, bias=layer.bias)[wanted].requires_grad_()
    layer(x).sum().backward()
    gradient, tensor.grad = tensor.grad, None
    F.linear(x, layer.weight, layer.bias).sum().backward()
    assert torch.equal(gradient, tensor.grad)
    layer.gelu(x)
    assert not calls


@pytest.mark.parametrize('context', [
    torch.backends.mkldnn.flags(enabled=False),
    torch.autocast('cpu', torch.float16),
], ids=['oneDNN switched off', 'float16'])
def test_what_cannot_be_packed_stays_a_product(calls, context):
    layer, x = fused(6, 4), torch.randn(5, 6)
    with torch.inference_mode(), context:
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias), rtol=0, atol=0)
        torch.testing.assert_close(layer.gelu(x), F.gelu(F.linear(x, layer.weight, layer.bias)), rtol=0, atol=0)
    assert not calls


def test_float64_and_machines_without_the_operators(calls, monkeypatch):
    layer, x = fused(6, 4), torch.randn(5, 6)
    with torch.inference_mode():
        assert torch.equal(copy.deepcopy(layer).double()(x.double()).float(), definition(layer, x).float())
        monkeypatch.setattr(token_linear, '_packable', lambda: ())
        assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
    assert not calls


@pytest.mark.parametrize('dtype, context', [(torch.bfloat16, nullcontext()), (torch.float64, AUTOCAST)],
                         ids=['bfloat16', 'float64 under autocast'])
def test_types_that_do_not_fit_are_refused_as_ever(dtype, context):
    layer, x = fused(6, 4), torch.randn(5, 6, dtype=dtype)
    with torch.inference_mode(), context:
        with pytest.raises(RuntimeError, match='dtype'):
            F.linear(x, layer.weight, layer.bias)
        with pytest.raises(RuntimeError, match='dtype'):
            layer(x)


def test_the_compiler_and_a_trace_see_a_linear_layer(calls):
    layer, x = fused(6, 4).requires_grad_(False), torch.randn(20, 6)
    compiled = torch.compile(layer.gelu, backend='eager', fullgraph=True)
    traced = torch.jit.trace(layer, x, check_trace=False)
    assert torch.equal(compiled(x), F.gelu(F.linear(x, layer.weight, layer.bias))) and not calls
    assert 'mkldnn' not in str(traced.graph)


def test_hooks_see_what_leaves_the_layer(calls):
    layer, x, seen = fused(6, 4), torch.randn(5, 6), []
    layer.register_forward_hook(lambda *_: seen.append(_[2].clone()))
    with torch.inference_mode():
        activated = layer.gelu(x)
    torch.testing.assert_close(activated, F.gelu(seen[0]))


def test_copies_and_pickles_compute_the_same(calls):
    layer, x = fused(6, 4), torch.randn(5, 6)
    with torch.inference_mode():
        expected = layer(x)
        file = io.BytesIO()
        torch.save(layer, file)
        file.seek(0)
        for other in (copy.deepcopy(layer), torch.load(file, weights_only=False)):
            assert torch.equal(other(x), expected)
    assert calls.count('_linear_pointwise') == 3 and calls.count('_reorder_linear_weight') == 3
    assert set(layer.state_dict()) == {'weight', 'bias'}


def test_a_layer_made_in_inference_mode():
    """Nobody counts the changes of its weight, so nothing is kept."""
    x = torch.randn(5, 6)
    with torch.inference_mode():
        layer = fused(6, 4)
        for _ in range(2):
            torch.testing.assert_close(layer(x).double(), definition(layer, x), rtol=1e-5, atol=1e-5)
            layer.weight.mul_(2.)
