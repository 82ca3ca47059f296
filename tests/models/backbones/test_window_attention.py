"""Window attention against the definition in float64, with the padding written out."""
import pytest
import torch
import torch.nn.functional as F

from mmtinyvit.models.backbones.window_attention import WindowAttention


def naive(module: WindowAttention, x: torch.Tensor) -> torch.Tensor:
    """Pad with zeros, normalise, and attend window by window, head by head, query by query."""
    w, heads = module.window_size, module.num_heads
    B, H, W, C = x.shape
    padded = x.new_zeros(B, -(-H // w) * w, -(-W // w) * w, C)
    padded[:, :H, :W] = x
    out = torch.zeros_like(padded)
    for b in range(B):
        for top in range(0, padded.shape[1], w):
            for left in range(0, padded.shape[2], w):
                tokens = module.norm(padded[b, top:top + w, left:left + w].reshape(w * w, C))
                qkv = module.qkv(tokens).view(w * w, heads, 3, C // heads)
                mixed = torch.empty(w * w, heads, C // heads, dtype=x.dtype)
                for head in range(heads):
                    q, k, v = qkv[:, head].unbind(1)
                    for i in range(w * w):
                        bias = torch.stack([
                            module.attention_biases[head, abs(i // w - j // w) * w + abs(i % w - j % w)]
                            for j in range(w * w)
                        ])
                        weights = torch.softmax(k @ q[i] / (C // heads)**.5 + bias, 0)
                        mixed[i, head] = weights @ v
                out[b, top:top + w, left:left + w] = module.proj(mixed.flatten(1)).view(w, w, C)
    return out[:, :H, :W]


@pytest.fixture
def attention(randomised):
    return randomised(WindowAttention(dim=6, num_heads=2, window_size=3)).double()


@pytest.mark.parametrize('height, width', [(3, 3), (6, 3), (4, 5), (2, 7), (1, 1), (3, 2)])
def test_equals_the_definition(attention, height, width):
    x = torch.randn(2, height, width, 6, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(attention(x), naive(attention, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('height, width', [(3, 3), (4, 5)])
def test_bfloat16_with_and_without_gradients(attention, height, width):
    attention.bfloat16()
    x = torch.randn(2, height, width, 6).bfloat16()
    with_grad = attention(x)
    with torch.no_grad():
        without = attention(x)
        expected = naive(attention.double(), x.double())
    for ours in (with_grad, without):
        assert ours.dtype == torch.bfloat16
        assert (ours - expected).norm() < .02 * expected.norm()


@pytest.mark.parametrize('height, width', [(3, 6), (4, 2)])
def test_gradients_equal_the_definitions(attention, height, width):
    x = torch.randn(2, height, width, 6, dtype=torch.float64, requires_grad=True)
    inputs = [x, *attention.parameters()]
    weight = torch.randn(2, height, width, 6, dtype=torch.float64)
    ours = torch.autograd.grad((attention(x) * weight).sum(), inputs)
    expected = torch.autograd.grad((naive(attention, x) * weight).sum(), inputs)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


def test_the_gathered_bias_follows_the_parameter(attention):
    """However the table changes in eval mode: in place, by loading, replaced, in another type; then over train()."""
    x = torch.randn(1, 4, 4, 6, dtype=torch.float64)
    attention.eval()

    def check():
        with torch.no_grad():
            y = x.to(attention.attention_biases.dtype)
            torch.testing.assert_close(attention(y), naive(attention, y), rtol=1e-4, atol=1e-4)

    check()
    with torch.no_grad():
        attention.attention_biases.add_(1.)
    attention.load_state_dict({k: v + torch.randn_like(v) for k, v in attention.state_dict().items()})
    check()
    attention.attention_biases = torch.nn.Parameter(torch.randn_like(attention.attention_biases))
    check()
    attention.float()
    check()
    attention.train().attention_biases.data.mul_(2.)
    attention.eval()
    check()


def test_frozen_bias_gathered_in_inference_mode_serves_training(attention):
    attention.attention_biases.requires_grad_(False)
    x = torch.randn(1, 3, 3, 6, dtype=torch.float64)
    with torch.inference_mode():
        attention(x)
    attention(x).sum().backward()
    assert attention.qkv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('window, height, width', [(3, 3, 3), (5, 2, 5), (4, 3, 1)])
def test_the_compiled_bias_is_the_gathered_one(window, height, width, monkeypatch):
    attention = WindowAttention(8, 2, window)
    torch.nn.init.normal_(attention.attention_biases)
    gathered = attention._gather_bias(height, width)
    gradients = []
    for compiling in (False, True):
        monkeypatch.setattr('torch.compiler.is_compiling', [bool, lambda: True][compiling])
        with torch.autocast('cpu', torch.bfloat16):
            bias = attention._gather_bias(height, width)
        assert torch.equal(bias, gathered)
        gradients += torch.autograd.grad(bias.sin().sum(), attention.attention_biases)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('window, dtype, fused', [
    (15, torch.float32, False),
    (16, torch.float32, True),
    (16, torch.bfloat16, False),
])
def test_pytorchs_kernel_serves_where_it_is_faster(monkeypatch, window, dtype, fused):
    attention, calls = WindowAttention(8, 2, window).to(dtype), []
    torch.nn.init.normal_(attention.attention_biases)
    x = torch.randn(1, window, window, 8, dtype=dtype)
    kernel = F.scaled_dot_product_attention
    monkeypatch.setattr(F, 'scaled_dot_product_attention', lambda *a, **k: calls.append(a) or kernel(*a, **k))
    with torch.inference_mode():
        found = attention(x)
    assert bool(calls) == fused
    tolerance = 3e-2 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(found.double(), naive(attention.double(), x.double()), rtol=tolerance, atol=tolerance)
