"""Attention with a learnt bias against PyTorch's own."""
import pytest
import torch
import torch.nn.functional as F

from mmtinyvit.models.backbones import biased_attention as module
from mmtinyvit.models.backbones.biased_attention import biased_attention

WINDOWS, HEADS, N, D = 5, 3, 7, 4


@pytest.fixture(params=[0, 2 * HEADS * N * N * 8, 2**23], ids=['two at once', 'two', 'all'])
def pieces(request, monkeypatch):
    monkeypatch.setattr(module, 'PIECE', request.param)


def inputs(dtype: torch.dtype = torch.float64, requires_grad: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    qkv = torch.randn(WINDOWS, N, HEADS, 3, D).to(dtype).permute(3, 0, 2, 1, 4)  # as the layer gives them
    bias = torch.randn(1, HEADS, N, N).to(dtype)
    return qkv.requires_grad_(requires_grad), bias.requires_grad_(requires_grad)


@pytest.mark.usefixtures('pieces')
def test_values_and_gradients():
    found = gradients(biased_attention, *inputs())
    expected = gradients(lambda qkv, bias: F.scaled_dot_product_attention(*qkv, attn_mask=bias), *inputs())
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures('pieces')
@pytest.mark.parametrize('layout', [torch.preserve_format, torch.contiguous_format])
def test_without_gradients_it_gives_the_same_bits_and_leaves_the_input_alone(layout):
    qkv, bias = inputs(torch.float32, requires_grad=False)
    qkv = qkv.clone(memory_format=layout)
    before = qkv.clone()
    found = biased_attention(qkv, bias)
    assert torch.equal(qkv, before)
    assert torch.equal(found, biased_attention(*inputs(torch.float32)))
    with torch.no_grad():
        assert torch.equal(found, biased_attention(*inputs(torch.float32)))


@pytest.mark.parametrize('scores', [0, 1, 2, HEADS, 2 * HEADS, 100])
def test_without_gradients_heads_and_windows_go_in_pieces(monkeypatch, scores):
    monkeypatch.setattr(module, 'PIECE', scores * N * N * 8)
    qkv, bias = inputs(requires_grad=False)
    for windows in (0, 1, WINDOWS):
        found = biased_attention(qkv[:, :windows], bias)
        expected = F.scaled_dot_product_attention(*qkv[:, :windows], attn_mask=bias)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_gradcheck():
    qkv, bias = inputs()
    assert torch.autograd.gradcheck(biased_attention, (qkv[:, :2].detach().requires_grad_(), bias))


@pytest.mark.parametrize('wanted', ['qkv', 'bias'])
def test_one_gradient_without_the_other(wanted):
    qkv, bias = inputs(requires_grad=False)
    (qkv if wanted == 'qkv' else bias).requires_grad_()
    x = qkv if wanted == 'qkv' else bias
    expected, = torch.autograd.grad(F.scaled_dot_product_attention(*qkv, attn_mask=bias).sin().sum(), x)
    found, = torch.autograd.grad(biased_attention(qkv, bias).sin().sum(), x)
    torch.testing.assert_close(found, expected)


def test_bfloat16_is_near_float64():
    exact = gradients(biased_attention, *inputs())
    found = gradients(biased_attention, *inputs(torch.bfloat16))
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.dtype == torch.bfloat16
        assert (ours - theirs).norm() / theirs.norm() < 2e-2


def test_the_gradient_of_the_bias_is_rounded_once_however_many_pieces(monkeypatch):
    qkv, bias = (x.detach() for x in inputs(torch.bfloat16))
    qkv = qkv.repeat(1, 200, 1, 1, 1)  # 1,000 windows
    bias = bias.requires_grad_()
    found = []
    for piece in (2**30, 0):
        monkeypatch.setattr(module, 'PIECE', piece)
        found += torch.autograd.grad(biased_attention(qkv, bias).float().square().sum(), bias)
    torch.testing.assert_close(found[1], found[0], rtol=2**-7, atol=0)


def test_a_second_backward_pass_gives_the_same():
    qkv, bias = inputs()
    y = biased_attention(qkv, bias).sin().sum()
    first = torch.autograd.grad(y, [qkv, bias], retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(y, [qkv, bias]), first, rtol=0, atol=0)


def gradients(function, qkv: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = function(qkv, bias)
    return y.detach(), *torch.autograd.grad(y.sin().sum(), [qkv, bias])
