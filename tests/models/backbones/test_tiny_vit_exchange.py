"""What users do to the parts of a model takes effect: hooks, other layers, quantisation, pruning, copies, values."""
import copy
import io
import pickle

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import save
from timm.layers import BatchNormAct2d
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.utils import parameters_to_vector, prune
from torch.nn.utils.parametrizations import spectral_norm
from torchvision.ops import FrozenBatchNorm2d

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


def put(name: str, make):
    """An exchange: ``make(layer)`` takes the place of the layer of that name."""

    def exchange(model: nn.Module) -> nn.Module:
        part = make(model.get_submodule(name))
        model.set_submodule(name, part)
        return part

    return exchange


def change(name: str, how):
    """An exchange: ``how(layer)`` changes what the layer of that name computes with."""

    def exchange(model: nn.Module) -> nn.Module:
        layer = model.get_submodule(name)
        how(layer)
        return layer

    return exchange


def share(name: str, other: str):
    """An exchange: one layer stands in both places."""
    return lambda model: put(name, lambda _: model.get_submodule(other))(model)


class LowRankConv(nn.Module):
    """The adapter of a convolution."""

    def __init__(self, layer: nn.Conv2d):
        super().__init__()
        self.layer = layer
        self.down = nn.Conv2d(layer.in_channels, 2, 3, padding=1, bias=False)
        self.up = nn.Conv2d(2, layer.out_channels, 1, bias=False)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


class DoubledConv(nn.Conv2d):
    """A convolution that does more than a convolution."""

    def forward(self, x):
        return 2 * super().forward(x)


CONV, NORM = 'stages.0.blocks.0.conv2.conv', 'stages.0.blocks.0.conv2.bn'  # 32 channels, depthwise
EXCHANGES = {
    'an adapter of a convolution': put(CONV, LowRankConv),
    'an adapter of query, key and value': put('stages.1.blocks.0.attn.qkv', LowRank),
    'another convolution': put(CONV, lambda _: nn.Conv2d(32, 32, 5, padding=2, groups=32)),
    'a kind of convolution': put(CONV, lambda _: DoubledConv(32, 32, 3, padding=1)),
    'group norm': put(NORM, lambda _: nn.GroupNorm(4, 32)),
    'instance norm': put('stages.2.downsample.conv2.bn', lambda _: nn.InstanceNorm2d(24, affine=True)),
    'batch norm without statistics': put(NORM, lambda _: nn.BatchNorm2d(32, track_running_stats=False)),
    'batch norm with an activation': put(NORM, lambda _: BatchNormAct2d(32)),
    'frozen batch norm': put(NORM, lambda _: FrozenBatchNorm2d(32)),
    'no norm': put(NORM, lambda _: nn.Identity()),
    'root mean square norm': put('stages.2.blocks.0.mlp.norm', lambda _: nn.RMSNorm(24)),
    'another activation': put('stages.0.blocks.0.act1', lambda _: nn.PReLU()),
    'another activation of an MLP': put('stages.2.blocks.0.mlp.act', lambda _: nn.SiLU()),
    'another stem': put('patch_embed', lambda _: nn.Conv2d(3, 8, 4, stride=4, padding=2)),
    'another down-sampling': put('stages.1.downsample', lambda _: nn.Conv2d(8, 16, 2, stride=2)),
    'another MLP': put('stages.1.blocks.0.mlp', lambda _: nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16))),
    'no attention': put('stages.2.blocks.0.attn', lambda _: nn.Identity()),
    'no local convolution': put('stages.1.blocks.0.local_conv', lambda _: nn.Identity()),
    'no block': put('stages.2.blocks.0', lambda _: nn.Identity()),
    'a pruned convolution': change(CONV, lambda layer: prune.l1_unstructured(layer, 'weight', amount=.5)),
    'a pruned linear layer': change('stages.1.blocks.0.mlp.fc1', lambda layer: prune.ln_structured(
        layer, 'weight', amount=.5, n=2, dim=0)),
    'a parametrised convolution': change(CONV, spectral_norm),
    'a parametrised linear layer': change('stages.1.blocks.0.attn.proj', spectral_norm),
    'a hook that changes a norm': change(NORM, lambda norm: norm.register_forward_hook(lambda _, __, out: 2 * out)),
    'a shared linear layer': share('stages.2.blocks.0.mlp.fc1', 'stages.2.blocks.1.mlp.fc1'),
    'a shared convolution': share('stages.2.blocks.0.local_conv.conv', 'stages.2.blocks.1.local_conv.conv'),
    'a shared norm': share('stages.2.blocks.0.local_conv.bn', 'stages.2.blocks.1.local_conv.bn'),
    'a shared block': share('stages.2.blocks.0', 'stages.2.blocks.1'),
}
NEED_A_NORM = ('frozen batch norm', 'no norm', 'a shared norm')


@pytest.mark.parametrize('kind', EXCHANGES)
def test_any_part_may_be_exchanged(model, images, kind):
    """It is called and learns, whatever the form; and folding the norms afterwards changes nothing."""
    if kind in NEED_A_NORM and not isinstance(model.get_submodule(NORM), nn.BatchNorm2d):
        pytest.skip('the norms are folded away')
    before = outputs(model, images)
    part = EXCHANGES[kind](model)
    after = outputs(model, images)
    assert after.shape == before.shape and (after - before).abs().max() > 1e-4
    called = []
    hook = part.register_forward_hook(lambda *_: called.append(1))
    sum(out.square().sum() for out in model(images)).backward()
    hook.remove()
    assert called and all(p.grad is not None for p in part.parameters() if p.requires_grad)
    expected = outputs(model.eval(), images)
    torch.testing.assert_close(outputs(model.fuse(), images), expected, rtol=1e-4, atol=1e-5)


def test_dynamic_quantisation(tiny, images):
    model = tiny().eval()
    expected = outputs(model, images)
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8)
    assert not [part for part in quantised.modules() if type(part) is nn.Linear]
    off = (outputs(quantised, images) - expected).norm() / expected.norm()
    assert 0 < off < .05


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


def test_a_batch_of_none(model):
    outs = model(torch.zeros(0, 3, *SIZE))
    assert [out.shape for out in outs] == [(0, 16, 6, 9), (0, 32, 2, 3)]
    sum(out.sum() for out in outs).backward()
    for values in (model.state_dict().values(), (p.grad for p in model.parameters() if p.grad is not None)):
        assert all(value.isfinite().all() for value in values)


def test_a_batch_that_batch_norm_refuses_leaves_finite_statistics(tiny):
    model = tiny().train()
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        model(torch.randn(1, 3, 8, 8))
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_second_derivatives(model):
    model, images = model.double(), torch.randn(2, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    slope, = torch.autograd.grad(sum(out.square().sum() for out in model(images)), images, create_graph=True)
    slope.square().sum().backward()
    assert images.grad.abs().sum() > 0


def test_gradients_of_each_image_by_vmap(tiny, images):
    model = tiny().eval()
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters, image):
        return torch.func.functional_call(model, parameters, (image[None], ))[0].square().sum()

    found = torch.vmap(torch.func.grad(loss), (None, 0))(parameters, images)
    for i, image in enumerate(images):
        for name, expected in torch.func.grad(loss)(parameters, image).items():
            torch.testing.assert_close(found[name][i], expected, rtol=1e-3, atol=1e-4)


def test_a_graph_of_torch_fx_serves_every_size(model, images):
    graph = torch.fx.symbolic_trace(model)
    for batch in (images, torch.randn(3, 3, 64, 64)):
        assert torch.equal(outputs(graph, batch), outputs(model, batch))


def test_sharded_parameters_get_the_same_gradients(tiny, images, tmp_path):
    plain, sharded = tiny().train(), tiny().train()
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/rendezvous', rank=0, world_size=1)
    try:
        mesh = dist.init_device_mesh('cpu', (1, ))
        for stage in sharded.stages:
            for block in stage.blocks:
                fully_shard(block, mesh=mesh)
        fully_shard(sharded, mesh=mesh)
        for model in (plain, sharded):
            model(images)[0].square().sum().backward()
        for ours, expected in zip(sharded.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours.grad.full_tensor(), expected.grad)
    finally:
        dist.destroy_process_group()


def test_lbfgs(tiny, images):
    model = tiny().train()
    optimizer, losses = torch.optim.LBFGS(model.parameters(), lr=.1, max_iter=3), []

    def step():
        optimizer.zero_grad()
        loss = model(images)[0].sub(1).square().mean()
        loss.backward()
        losses.append(loss.item())
        return loss

    optimizer.step(step)
    assert losses[-1] < losses[0]


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
