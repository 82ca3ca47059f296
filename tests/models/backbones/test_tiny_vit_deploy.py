"""Folding, mixed precision, compilation and export: the same outputs by other means."""
import pytest
import torch
from torch import nn

from mmtinyvit.models.backbones import TinyViT

SIZES = [(48, 24), (45, 70)]  # windows that fill the map of stage 2, and windows that do not
SHORT = dict(out_indices=(1, ), gap_before_output=False)  # tracing takes seconds per stage


def test_fuse_folds_every_norm_and_changes_nothing(randomised):
    model = randomised(TinyViT('5m', out_indices=(1, 3), gap_before_output=False)).eval()
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


@pytest.mark.parametrize('size', SIZES)
def test_grad_mode_makes_no_difference_to_the_values(tiny, size):
    """Nor does the memory of the images, which stay as they were."""
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
    model = tiny(**SHORT)
    compiled = torch.compile(model, backend='aot_eager_decomp_partition', fullgraph=True)
    images = torch.randn(2, 3, 45, 70)
    found = []
    for run in (model.train(), compiled):
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            outs = run(images)
        grads = torch.autograd.grad(sum(out.float().square().mean() for out in outs), list(model.parameters()))
        found.append([*outs, *grads])
    if autocast:  # the graph rounds in other places
        assert torch.cosine_similarity(*(torch.cat([each.flatten().float() for each in half]) for half in found),
                                       dim=0) > .98
    else:
        torch.testing.assert_close(*found, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('size', SIZES)
def test_export_with_a_dynamic_batch(tiny, size):
    model = tiny(**SHORT).eval()
    batch = torch.export.Dim('batch', min=1, max=64)
    program = torch.export.export(model, (torch.randn(2, 3, *size), ), dynamic_shapes=({0: batch}, ))
    images = torch.randn(5, 3, *size)
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(images)[0], model(images)[0], rtol=1e-4, atol=1e-5)


def test_trace(tiny):
    model = tiny(**SHORT).eval().fuse()
    images = torch.randn(2, 3, 45, 70)
    with torch.no_grad():
        traced = torch.jit.trace(model, images)
        torch.testing.assert_close(traced(-images)[0], model(-images)[0], rtol=1e-4, atol=1e-5)
