"""Folding, mixed precision, compilation and export: the same outputs by other means."""
import pytest
import torch
from torch import nn

from mmtinyvit.models.backbones import TinyViT
from mmtinyvit.models.backbones.token_linear import TokenLinear

SIZES = [(64, 64), (45, 70)]


@pytest.mark.parametrize('arch', ['5m', '21m'])
def test_fuse_folds_every_norm_and_changes_nothing(randomised, arch):
    model = randomised(TinyViT(arch, out_indices=(1, 3), gap_before_output=False)).eval()
    images = torch.randn(2, 3, 96, 100)
    with torch.inference_mode():
        before = model(images)
        assert model.fuse() is model
        after = model(images)
    assert not [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.bias is None]
    for ours, expected in zip(after, before, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    assert model.fuse() is model


def test_fused_linear_layers_are_packed(tiny, monkeypatch):
    """Query, key and value, projection and MLP of four blocks; one product of each has its GELU in it."""
    calls, run = [], TokenLinear._packed_forward
    monkeypatch.setattr(TokenLinear, '_packed_forward', lambda *args: calls.append(args[-1]) or run(*args))
    with torch.inference_mode():
        tiny().eval().fuse()(torch.randn(1, 3, 192, 192))  # whole windows only
    blocks = 4
    assert sorted(calls) == blocks * ['gelu'] + 3 * blocks * ['none']


def test_eval_equals_separate_norms(tiny, monkeypatch):
    """Convolution and norm computed one after the other, as PyTorch does it."""
    model = tiny().eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        ours = model(images)[0]
        monkeypatch.setattr('mmtinyvit.models.backbones.tiny_vit_layers.ConvNorm.forward',
                            lambda self, x: self.bn(self.conv(x)))
        torch.testing.assert_close(ours, model(images)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('size', SIZES)
def test_grad_mode_makes_no_difference_to_the_values(tiny, size):
    """Without autograd activations are computed in place and biases gathered once; inputs stay as they were."""
    model = tiny(gap_before_output=False, out_indices=(0, 1, 2, 3)).eval()
    images = torch.randn(2, 3, *size)
    kept = images.clone()
    with_grad = model(images)
    for guard in (torch.no_grad, torch.inference_mode):
        with guard():
            for ours, expected in zip(model(images), with_grad, strict=True):
                torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
            again = model(images.contiguous(memory_format=torch.channels_last))
            torch.testing.assert_close(again[3], with_grad[3], rtol=1e-4, atol=1e-5)
    assert torch.equal(images, kept)


def test_inference_takes_a_batch_in_pieces(tiny, monkeypatch):
    model = tiny(gap_before_output=False, out_indices=(0, 1, 2, 3)).eval()
    images = torch.randn(5, 3, 40, 48)
    monkeypatch.setattr('mmtinyvit.models.backbones.tiny_vit.CACHED_PIXELS', 2 * 40 * 48)
    sizes, forward = [], model.patch_embed.forward
    monkeypatch.setattr(model.patch_embed, 'forward', lambda x: (sizes.append(len(x)), forward(x))[1])
    whole = model(images)
    with torch.inference_mode():
        pieces = model(images)
    assert sizes == [5, 2, 2, 1]
    for ours, expected in zip(pieces, whole, strict=True):
        assert ours.is_contiguous()
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_hooks_see_whole_batches(tiny, monkeypatch):
    monkeypatch.setattr('mmtinyvit.models.backbones.tiny_vit.CACHED_PIXELS', 1)
    model, sizes = tiny().eval(), []
    model.stages[0].blocks[0].register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    with torch.inference_mode():
        model(torch.randn(3, 3, 32, 32))
    assert sizes == [3]


def test_bfloat16(randomised):
    model = randomised(TinyViT('5m')).eval()
    images = torch.randn(2, 3, 120, 96)
    expected = model(images)[0].detach()
    with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16):
        mixed = model(images)[0]
    pure = model.fuse().bfloat16()(images.bfloat16())[0]
    for ours in (mixed, pure):
        assert ours.float().sub(expected).abs().max() < .05 * expected.abs().max()


def test_training_under_autocast(tiny):
    """Gradients point where those of float32 point."""
    images = torch.randn(4, 3, 64, 56)
    found = []
    for enabled in (False, True):
        model = tiny().train()
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            out = model(images)[0]
        out.float().square().mean().backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        assert all(p.grad.dtype == torch.float32 for p in model.parameters())
    assert torch.cosine_similarity(*found, dim=0) > .98


@pytest.mark.parametrize('autocast', [False, True])
def test_one_graph_gives_the_same_output_and_gradients(tiny, autocast):
    """The whole model is one graph, padded windows included, in the operators that inductor compiles.

    ``benchmarks/backbone.py --compile`` checks the compiled kernels too, which takes minutes to build.
    """
    model = tiny(gap_before_output=False, out_indices=(1, 3))
    compiled = torch.compile(model, backend='aot_eager_decomp_partition', fullgraph=True)
    images = torch.randn(2, 3, 45, 70)
    found = []
    for run in (model.train(), compiled):
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            outs = run(images)
        grads = torch.autograd.grad(sum(out.float().square().mean() for out in outs), list(model.parameters()))
        found.append([*outs, *grads])
    for ours, expected in zip(*found, strict=True):
        if autocast:
            assert (ours - expected).norm() < .1 * expected.norm() + 1e-3
        else:
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('size', SIZES)
def test_export_with_a_dynamic_batch(tiny, size):
    model = tiny().eval()
    batch = torch.export.Dim('batch', min=1, max=64)
    program = torch.export.export(model, (torch.randn(2, 3, *size), ), dynamic_shapes=({0: batch}, ))
    images = torch.randn(5, 3, *size)
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(images)[0], model(images)[0], rtol=1e-4, atol=1e-5)


def test_trace(tiny):
    model = tiny().eval().fuse()
    images = torch.randn(2, 3, 45, 70)
    with torch.no_grad():
        traced = torch.jit.trace(model, images)
        torch.testing.assert_close(traced(-images)[0], model(-images)[0], rtol=1e-4, atol=1e-5)
