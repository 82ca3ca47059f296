"""Window attention against the definition in float64, with the padding written out."""
import pytest
import torch

from mmtinyvit.models.backbones.tiny_vit import WindowAttention


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
                mixed = x.new_empty(w * w, heads, C // heads)
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


@pytest.mark.parametrize('height, width', [(3, 3), (6, 3), (4, 5), (2, 7), (1, 1)])
def test_equals_the_definition(device, attention, height, width):
    attention.to(device)
    x = torch.randn(2, height, width, 6, dtype=torch.float64, device=device)
    with torch.no_grad():
        torch.testing.assert_close(attention(x), naive(attention, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('height, width', [(3, 3), (4, 5)])
def test_bfloat16_with_and_without_gradients(device, attention, height, width):
    attention.to(device).bfloat16()
    x = torch.randn(2, height, width, 6, device=device).bfloat16()
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
