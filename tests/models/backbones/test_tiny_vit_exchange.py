"""What users do to the parts of a model takes effect: hooks, other layers, quantisation, pruning, copies, values."""
import copy
import io
import pickle

import pytest
import torch
from safetensors.torch import save
from torch import nn
from torch.nn.utils import parameters_to_vector, prune
from torch.nn.utils.parametrizations import weight_norm

SIZE = (45, 70)  # no window fills these maps


@pytest.fixture(params=['train', 'eval', 'fused'])
def model(request, tiny):
    """Train, eval and folded form of the same network."""
    model = tiny(out_indices=(1, 3), gap_before_output=False)
    if request.param == 'train':
        return model.train()
    return model.eval().fuse() if request.param == 'fused' else model.eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, *SIZE)


def outputs(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """All outputs in a row; the running statistics stay as they were."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad():
        outs = torch.cat([out.flatten() for out in model(images)])
        for name, buffer in model.named_buffers():
            buffer.copy_(before[name])
    return outs


class LowRank(nn.Module):
    """An adapter around a linear layer, as LoRA has it."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.layer = layer
        self.down = nn.Linear(layer.in_features, 2, bias=False)
        self.up = nn.Linear(2, layer.out_features, bias=False)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))

    def merged(self) -> nn.Linear:
        """The plain layer that computes the same."""
        layer = copy.deepcopy(self.layer)
        layer.weight.data += self.up.weight.data @ self.down.weight.data
        return layer


def test_hooks_on_every_module_see_what_goes_in_and_comes_out(model, images):
    names = [name for name, part in model.named_modules() if not isinstance(part, nn.ModuleList)]
    seen = {kind: set() for kind in ('before', 'after', 'backward')}
    for name in names:
        part = model.get_submodule(name)
        part.register_forward_pre_hook(lambda *_, name=name: seen['before'].add(name))
        part.register_forward_hook(lambda *_, name=name: seen['after'].add(name))
        part.register_full_backward_hook(lambda *_, name=name: seen['backward'].add(name))
    sum(out.square().sum() for out in model(images.requires_grad_())).backward()
    assert seen['before'] == seen['after'] == seen['backward'] == set(names)


def test_an_output_that_a_hook_keeps_is_not_overwritten(model, images):
    kept = []
    for part in model.modules():
        part.register_forward_hook(lambda _, __, out: kept.append((out, copy.deepcopy(out)))
                                   if isinstance(out, torch.Tensor) else None)
    with torch.no_grad():
        model(images)
    assert all(torch.equal(out, before) for out, before in kept)


@pytest.mark.parametrize('name', ['attn.qkv', 'attn.proj', 'mlp.fc1', 'mlp.fc2'])
def test_adapters_around_linear_layers_compute_and_learn(model, images, name):
    block = model.stages[1].blocks[0]
    before = outputs(model, images)
    adapter = LowRank(block.get_submodule(name))
    block.set_submodule(name, adapter)
    with_adapter = outputs(model, images)
    assert (with_adapter - before).abs().max() > 1e-4
    merged = copy.deepcopy(model)
    merged.stages[1].blocks[0].set_submodule(name, adapter.merged())
    torch.testing.assert_close(outputs(merged, images), with_adapter, rtol=1e-4, atol=1e-4)
    sum(out.square().sum() for out in model(images)).backward()
    assert adapter.down.weight.grad.abs().sum() > 0 and adapter.up.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('name, other', [
    ('stages.0.blocks.0.conv2.bn', lambda: nn.GroupNorm(4, 32)),
    ('stages.2.downsample.conv2.bn', lambda: nn.GroupNorm(4, 24)),
    ('stages.1.blocks.0.local_conv', nn.Identity),
    ('stages.0.blocks.0.conv2.conv', lambda: nn.Conv2d(32, 32, 5, padding=2, groups=32)),
    ('stages.0.blocks.0.act1', nn.ReLU),
    ('stages.2.blocks.0.mlp.act', nn.ReLU),
    ('stages.2.blocks.0.mlp.norm', nn.Identity),
    ('stages.2.blocks.0.attn', nn.Identity),
    ('stages.2.blocks.0', nn.Identity),
])
def test_any_part_may_be_exchanged(model, images, name, other):
    before = outputs(model, images)
    part = other()
    called = []
    part.register_forward_hook(lambda *_: called.append(1))
    model.set_submodule(name, part)
    assert (outputs(model, images) - before).abs().max() > 1e-4
    sum(out.square().sum() for out in model(images)).backward()
    assert called and all(p.grad is not None for p in part.parameters())


def test_dynamic_quantisation(tiny, images):
    model = tiny().eval()
    expected = outputs(model, images)
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8)
    assert not [part for part in quantised.modules() if type(part) is nn.Linear]
    off = (outputs(quantised, images) - expected).norm() / expected.norm()
    assert 0 < off < .05


def test_pruned_weights_do_not_count(model, images):
    block = model.stages[1].blocks[0]
    layers = [block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2, block.local_conv.conv]
    before = outputs(model, images)
    for layer in layers:
        prune.l1_unstructured(layer, 'weight', amount=.5)
    pruned = outputs(model, images)
    assert (pruned - before).abs().max() > 1e-4
    for layer in layers:
        prune.remove(layer, 'weight')
        assert (layer.weight == 0).float().mean() == pytest.approx(.5, abs=.01)
    torch.testing.assert_close(outputs(model, images), pruned)


def test_a_parametrised_weight_learns(model, images):
    layer = model.stages[1].blocks[0].mlp.fc1
    weight_norm(layer)
    sum(out.square().sum() for out in model(images)).backward()
    assert all(p.grad is not None for p in layer.parametrizations.parameters())


def test_a_layer_may_be_shared(tiny, images):
    model = tiny().eval()
    first, second = model.stages[2].blocks
    first.mlp.fc1 = second.mlp.fc1
    shared = outputs(model, images)
    first.mlp.fc1 = copy.deepcopy(second.mlp.fc1)
    assert torch.equal(outputs(model, images), shared)


def test_copies_and_pickles_compute_the_same(model, images):
    expected = outputs(model, images)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)):
        assert torch.equal(outputs(other, images), expected)
        assert other.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize('assign', [True, False])
def test_a_model_without_memory_is_filled_from_a_checkpoint(tiny, images, assign):
    filled = tiny().eval()
    with torch.device('meta'):
        empty = tiny().eval()
    if not assign:
        empty.to_empty(device='cpu')
        for buffer in empty.buffers():
            buffer.fill_(1)  # as memory may come
    empty.load_state_dict(filled.state_dict(), assign=assign)
    assert torch.equal(outputs(empty, images), outputs(filled, images))


def test_parameters_are_contiguous(model):
    assert all(p.is_contiguous() for p in model.parameters())
    assert parameters_to_vector(model.parameters()).numel() == sum(p.numel() for p in model.parameters())
    assert save(model.state_dict())


def test_outputs_follow_every_parameter_changed_through_data(model, images):
    """As averaged weights are written: autograd counts no version."""
    outputs(model, images)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.data.mul_(1.1)
    fresh = copy.deepcopy(model)
    for part in fresh.modules():  # a network that has never seen the old values
        for name, p in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(p.detach().clone()))
    for _ in range(2):
        assert torch.equal(outputs(model, images), outputs(fresh, images))


def test_averaged_weights_compute_what_their_tensors_say(tiny, images):
    model, averaged = tiny().train(), tiny().train()
    averaged(images)
    for _ in range(2):
        for own, other in zip(averaged.parameters(), model.parameters(), strict=True):
            own.data.mul_(.9).add_(other.data + 1e-2, alpha=.1)
    loaded = tiny().train()
    loaded.load_state_dict(averaged.state_dict())
    assert torch.equal(outputs(averaged, images), outputs(loaded, images))


def test_a_batch_of_none(tiny):
    assert tiny().eval()(torch.zeros(0, 3, *SIZE))[0].shape == (0, 32)


def test_second_derivatives(tiny):
    model, images = tiny().eval().double(), torch.randn(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    slope, = torch.autograd.grad(model(images)[0].sum(), images, create_graph=True)
    slope.square().sum().backward()
    assert images.grad.abs().sum() > 0


def test_an_ensemble_by_vmap(tiny):
    models = [tiny().eval(), tiny().eval()]
    with torch.no_grad():
        for p in models[1].parameters():
            p.mul_(1.1)
    images = torch.randn(2, 3, 32, 32)
    stacked, buffers = torch.func.stack_module_state(models)

    def call(parameters, buffers):
        return torch.func.functional_call(models[0], (parameters, buffers), (images, ))[0]

    found = torch.vmap(call)(stacked, buffers)
    for ours, each in zip(found, models, strict=True):
        torch.testing.assert_close(ours, each(images)[0], rtol=1e-4, atol=1e-5)
