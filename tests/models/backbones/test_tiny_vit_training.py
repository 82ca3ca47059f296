"""What training needs of TinyViT: gradients, checkpointing, freezing, depths, and no weight decay where it harms."""
import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmpretrain.registry import MODELS
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmtinyvit.models.backbones import TinyViT
from mmtinyvit.paths import config_root


def loss(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return sum(out.square().mean() for out in model(images))


@pytest.mark.parametrize('options', [dict(), dict(gap_before_output=False, out_indices=(0, 1, 2, 3)),
                                     dict(gap_before_output=False, out_indices=(1, ))])
@pytest.mark.parametrize('size', [(64, 64), (37, 50), (8, 8)])
def test_every_parameter_gets_a_gradient(tiny, options, size):
    model = tiny(drop_path_rate=.0, **options).train()
    loss(model, torch.randn(3, 3, *size)).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]


def test_every_parameter_takes_part_in_ddp(tiny, tmp_path):
    """DDP without ``find_unused_parameters`` fails in the second step if a parameter was left out of the first."""
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/rendezvous', rank=0, world_size=1)
    try:
        model = DistributedDataParallel(tiny(out_indices=(0, 2), gap_before_output=False).train())
        for _ in range(2):
            loss(model, torch.randn(2, 3, 40, 40)).backward()
        assert all(p.grad is not None for p in model.parameters())
    finally:
        dist.destroy_process_group()


def test_with_cp_changes_nothing_but_memory(tiny):
    images = torch.randn(3, 3, 48, 40)
    found = []
    for with_cp in (False, True):
        model = tiny(with_cp=with_cp, drop_path_rate=.5).train()
        recomputed = count_calls(model.stages[2].blocks[0].attn)
        torch.manual_seed(1)
        loss(model, images).backward()
        assert len(recomputed) == 1 + with_cp
        found.append({name: p.grad for name, p in model.named_parameters()} | dict(model.named_buffers()))
    for name, expected in found[0].items():  # running statistics count each batch once
        torch.testing.assert_close(found[1][name], expected, rtol=0, atol=0)


def count_calls(module: nn.Module) -> list:
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_train_and_eval_return_the_model(tiny):
    model = tiny()
    assert model.train() is model and model.eval() is model


@pytest.mark.parametrize('frozen_stages, frozen', [(-1, ()), (0, ('patch_embed', )),
                                                   (2, ('patch_embed', 'stages.0', 'stages.1'))])
def test_frozen_stages(tiny, frozen_stages, frozen):
    model = tiny(frozen_stages=frozen_stages, drop_path_rate=.2).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss(model, torch.randn(4, 3, 32, 32)).backward()
    for name, p in model.named_parameters():
        assert (p.grad is None) == name.startswith(frozen), name
    for name, value in model.state_dict().items():
        if 'running' in name:
            assert torch.equal(value, before[name]) == name.startswith(frozen), name
    for name, module in model.named_modules():
        assert module.training != (name.startswith(frozen) if frozen else False), name


def test_norm_eval_keeps_the_statistics_and_trains_the_rest(tiny):
    model = tiny(norm_eval=True).train()
    reference = tiny().train()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    before = {name: value.clone() for name, value in model.named_buffers()}
    images = torch.randn(4, 3, 32, 32)
    loss(model, images).backward()
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    found = {name: p.grad for name, p in model.named_parameters()}
    loss(reference, images).backward()
    torch.testing.assert_close(found, {name: p.grad for name, p in reference.named_parameters()})


def test_drop_path_rises_linearly():
    model = TinyViT('5m', drop_path_rate=.22)
    rates = [getattr(block.drop_path, 'drop_prob', 0.) for stage in model.stages for block in stage.blocks]
    assert rates == pytest.approx([.02 * i for i in range(12)])


def test_layer_depth_is_the_originals_rule():
    """The original walks stages, blocks and the down-sampling layers that close its stages, counting blocks."""
    model = TinyViT('5m')
    expected, block = {'patch_embed': 0, 'norm3': 11}, 0
    for stage, depth in enumerate((2, 2, 6, 2)):
        for i in range(depth):
            expected[f'stages.{stage}.blocks.{i}'] = block
            block += 1
        expected[f'stages.{stage + 1}.downsample'] = block - 1
    for name, _ in model.named_parameters():
        owner = next(key for key in expected if name.startswith(key + '.'))
        assert model.get_layer_depth(name) == (expected[owner], 12), name
        assert model.get_layer_depth(f'backbone.{name}', 'backbone.') == (expected[owner], 12), name
    assert model.get_layer_depth('head.fc.weight', 'backbone.') == (11, 12)


def test_layer_decay_and_weight_decay_reach_the_optimizer():
    cfg = Config.fromfile(config_root() / 'tinyvit/tiny_vit_5m_in1k.py')
    paramwise = cfg.optim_wrapper.paramwise_cfg
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, dict(
        type='OptimWrapper', constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=1., weight_decay=.1), paramwise_cfg=paramwise | dict(layer_decay_rate=.8)))
    groups = {group['param_name']: group for group in wrapper.optimizer.param_groups}
    assert groups.keys() == dict(model.named_parameters()).keys()
    for name, group in groups.items():
        decays = group['params'][0].ndim > 1 and 'attention_biases' not in name
        assert group['weight_decay'] == (.1 if decays else 0.), name
    scale = {name: group['lr'] for name, group in groups.items()}
    assert scale['backbone.patch_embed.conv1.conv.weight'] == pytest.approx(.8**11)
    assert scale['backbone.stages.1.downsample.conv1.conv.weight'] == pytest.approx(.8**10)
    assert scale['backbone.stages.2.blocks.5.mlp.fc1.weight'] == pytest.approx(.8**2)
    assert scale['head.fc.weight'] == scale['backbone.norm3.weight'] == 1.
