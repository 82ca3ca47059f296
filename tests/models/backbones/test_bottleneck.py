"""A bottleneck piece by piece against its modules one after another, in float64."""
import copy

import pytest
import torch

from mmtinyvit.models.backbones import TinyViT, bottleneck
from mmtinyvit.models.backbones.tiny_vit_layers import MBConv, PatchMerging

IMAGES = 5


@pytest.fixture(autouse=True)
def everything_is_wide(monkeypatch):
    monkeypatch.setattr(bottleneck, 'WIDE', 0)


@pytest.fixture(params=[1, 2, 3, IMAGES])
def images(request, monkeypatch):
    """Images in a piece of maps of 16 channels, 8 x 6 pixels and 8 bytes per value."""
    monkeypatch.setattr(bottleneck, 'PIECE', request.param * 16 * 8 * 6 * 8)
    return request.param


@pytest.fixture(params=['MBConv', 'PatchMerging'])
def module(request):
    torch.manual_seed(0)
    module = MBConv(4, 4., 0.) if request.param == 'MBConv' else PatchMerging(4, 16)
    with torch.no_grad():
        for value in [*module.parameters(), *module.buffers()]:
            if value.is_floating_point():
                value.add_(torch.rand_like(value))
    return module.double()


def test_values_gradients_and_statistics_are_those_of_the_modules(module, images, monkeypatch):
    x = batch()
    apart = copy.deepcopy(module)
    found = step(module, x)
    assert names(module(x).grad_fn) & {'_BottleneckBackward'}
    monkeypatch.setattr(bottleneck, 'WIDE', 2**25)
    expected = step(apart, x)
    assert not names(apart(x).grad_fn) & {'_BottleneckBackward'}
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(module.state_dict(), apart.state_dict(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize('autocast', [False, True])
def test_lower_precision_is_as_near_to_float64_as_the_modules_are(module, autocast, monkeypatch):
    x = batch()
    exact = step(copy.deepcopy(module), x)

    def errors() -> torch.Tensor:
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            found = step(copy.deepcopy(module).float(), x.detach().float())
        assert all(value.dtype == torch.float32 for value in found[1:])
        return torch.stack([(a.double() - b).norm() / b.norm() for a, b in zip(found, exact, strict=True)])

    pieces = errors()
    monkeypatch.setattr(bottleneck, 'WIDE', 2**25)
    assert (pieces < 1.5 * errors() + 1e-6).all()


def test_autograd_keeps_half_as_much(module, monkeypatch):
    def kept() -> int:
        held = {}

        def keep(x: torch.Tensor) -> torch.Tensor:
            held[x.data_ptr()] = x.nbytes
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            module(batch())
        return sum(held.values())

    pieces = kept()
    monkeypatch.setattr(bottleneck, 'WIDE', 2**25)
    assert pieces < .75 * kept()


@pytest.mark.parametrize('change', [
    lambda module: module.eval(),
    lambda module: module.conv1.bn.eval(),
    lambda module: module.bfloat16(),
    lambda module: module.conv2.register_forward_hook(lambda *_: None),
    lambda module: module.conv3.conv.register_forward_pre_hook(lambda *_: None),
    lambda module: module.conv2.bn.register_full_backward_hook(lambda *_: None),
    lambda module: setattr(module.conv1, 'bn', torch.nn.SyncBatchNorm(16).double()),
])
def test_other_norms_and_watched_modules_run_one_after_another(module, change):
    parts = [module.conv1, module.conv2, module.conv3]
    assert bottleneck.pays_in_pieces(batch(), parts)
    change(module)
    assert not bottleneck.pays_in_pieces(batch(), parts)


def test_one_image_and_inference_run_one_after_another(module):
    parts = [module.conv1, module.conv2, module.conv3]
    assert not bottleneck.pays_in_pieces(batch()[:1], parts)
    with torch.no_grad():
        assert not bottleneck.pays_in_pieces(batch(), parts)


def test_a_second_backward_pass_gives_the_same(module, images):
    y = module(batch()).sin().sum()
    first = torch.autograd.grad(y, module.parameters(), retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(y, module.parameters()), first, rtol=0, atol=0)


def test_checkpointing_counts_a_batch_once():
    torch.manual_seed(0)
    arch = dict(embed_dims=(8, 8), depths=(1, 1), num_heads=(1, 1), window_sizes=(7, 7))
    options = dict(out_indices=(1, ), gap_before_output=False)
    models = [TinyViT(arch, with_cp=with_cp, **options).double().train() for with_cp in (False, True)]
    models[1].load_state_dict(models[0].state_dict())
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    grads = []
    for model in models:
        model(x)[0].square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*grads)
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict())


def batch() -> torch.Tensor:
    x = torch.randn(IMAGES, 4, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def step(module: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Output, and the gradients of input and parameters."""
    x.requires_grad_()
    y = module.train()(x)
    return [y.detach(), *torch.autograd.grad(y.sin().sum(), [x, *module.parameters()])]


def names(node, seen=None) -> set[str]:
    """Types of the nodes of an autograd graph."""
    seen = {} if seen is None else seen
    if node is not None and node not in seen:
        seen[node] = type(node).__name__
        for child, _ in node.next_functions:
            names(child, seen)
    return set(seen.values())
