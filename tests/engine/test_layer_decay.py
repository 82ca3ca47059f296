"""Layer-wise decay against the original's rule, parameter by parameter, in classifiers, detectors and under DDP."""
import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmtinyvit.errors import UserError
from mmtinyvit.models.checkpoint_keys import convert_state_dict
from mmtinyvit.paths import config_root

DEPTHS, RATE = (2, 2, 6, 2), .8
PARAMWISE = dict(layer_decay_rate=RATE, bias_decay_mult=0., norm_decay_mult=0.,
                 custom_keys={'attention_biases': dict(decay_mult=0.)})


def classifier(arch: str = '5m') -> nn.Module:
    init_default_scope('mmpretrain')
    with torch.device('meta'):
        return MODELS.build(Config.fromfile(config_root() / f'tinyvit/tiny_vit_{arch}_in1k.py').model)


def detector() -> nn.Module:
    """A backbone under the prefix of detectors, with a neck and a head behind it."""
    init_default_scope('mmdet')
    backbone = dict(type='mmtinyvit.TinyViT', arch='5m', out_indices=(0, 1, 2, 3), gap_before_output=False)
    model = nn.Module()
    with torch.device('meta'):
        model.backbone = MODELS.build(backbone)
        model.neck = MODELS.build(dict(type='FPN', in_channels=[64, 128, 160, 320], out_channels=8, num_outs=5))
        model.bbox_head = MODELS.build(dict(type='RetinaHead', num_classes=3, in_channels=8, feat_channels=8))
    return model


def groups_by_name(model: nn.Module, lr: float = 1., **paramwise) -> dict[str, dict]:
    wrapper = build_optim_wrapper(model, dict(
        type='OptimWrapper', constructor='mmtinyvit.LayerDecayOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=lr, weight_decay=.1), paramwise_cfg=PARAMWISE | paramwise))
    found = {}
    for group in wrapper.optimizer.param_groups:
        assert len(group['params']) == len(group['param_names'])
        found |= {name: group | dict(param=p) for name, p in zip(group['param_names'], group['params'], strict=True)}
    return found


def originals_scale(cream_name: str) -> float:
    """The original's rule on the original's names: it walks ``layers``, counting blocks."""
    scales = [RATE**(sum(DEPTHS) - 1 - i) for i in range(sum(DEPTHS))]
    owner, i = {'patch_embed': scales[0], 'norm_head': scales[-1], 'head': scales[-1]}, 0
    for layer, depth in enumerate(DEPTHS):
        for block in range(depth):
            owner[f'layers.{layer}.blocks.{block}'] = scales[i]
            i += 1
        owner[f'layers.{layer}.downsample'] = scales[i - 1]
    return next(scale for prefix, scale in owner.items() if cream_name.startswith(f'{prefix}.'))


def cream_names(model: nn.Module) -> dict[str, str]:
    """The original's name of each parameter."""
    own = {name: name for name, _ in model.named_parameters()}
    return {ours: theirs for theirs, ours in convert_state_dict(own, 'Cream').items()}


@pytest.mark.parametrize('arch', ['5m', '11m', '21m'])
def test_classifier_follows_the_original(arch):
    model = classifier(arch)
    found, theirs = groups_by_name(model), cream_names(model)
    assert found.keys() == dict(model.named_parameters()).keys() == theirs.keys()
    for name, group in found.items():
        assert group['param'] is model.get_parameter(name)
        assert group['lr'] == group['lr_scale'] == pytest.approx(originals_scale(theirs[name])), name
        spared = group['param'].ndim == 1 or name.endswith('.bias') or 'attention_biases' in name
        assert group['weight_decay'] == (0 if spared else .1), name
    assert found['head.fc.weight']['lr'] == found['backbone.norm3.weight']['lr'] == 1
    assert found['backbone.stages.1.downsample.conv1.conv.weight']['lr'] == pytest.approx(RATE**10)


def test_a_group_for_each_combination():
    """24 = 12 depths, with and without weight decay: few enough for a fused optimiser."""
    assert len({id(group['params']) for group in groups_by_name(classifier()).values()}) == 24


def test_detector():
    """The backbone by the same rule, neck and head at the full rate."""
    model = detector()
    found = groups_by_name(model, lr=.1)
    assert found.keys() == dict(model.named_parameters()).keys()
    bare = {name.removeprefix('backbone.'): value for name, value in groups_by_name(classifier()).items()}
    behind = [name for name in found if not name.startswith('backbone.')]
    assert {name.split('.')[0] for name in behind} == {'neck', 'bbox_head'}
    assert all(found[name]['lr'] == .1 for name in behind)
    for name in found.keys() - set(behind):
        expected = bare[name.removeprefix('backbone.')]
        assert found[name]['lr'] == pytest.approx(.1 * expected['lr'])
        assert found[name]['weight_decay'] == expected['weight_decay']


def test_ddp_wrapper(tmp_path):
    arch = dict(embed_dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_sizes=(7, 2, 2, 2))
    model = MODELS.build(dict(type='mmtinyvit.TinyViT', arch=arch))
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/rendezvous', rank=0, world_size=1)
    try:
        wrapped = groups_by_name(DistributedDataParallel(model))
    finally:
        dist.destroy_process_group()
    plain = groups_by_name(model)
    assert {name: group['lr'] for name, group in wrapped.items()} == {name: g['lr'] for name, g in plain.items()}
    assert plain['patch_embed.conv1.conv.weight']['lr'] == pytest.approx(RATE**3)


def test_other_settings_multiply_the_decayed_rate():
    keys = PARAMWISE['custom_keys'] | {'head.fc': dict(lr_mult=10., decay_mult=.5), 'stages.0': dict(lr_mult=2.)}
    found = groups_by_name(classifier(), custom_keys=keys)
    assert found['head.fc.weight']['lr'] == 10 and found['head.fc.weight']['weight_decay'] == .05
    assert found['backbone.stages.0.blocks.1.conv1.conv.weight']['lr'] == pytest.approx(2 * RATE**10)


def test_backbones_of_mmpretrain():
    """Their own depths count, also behind a neck that mmpretrain's constructor could not serve."""
    init_default_scope('mmpretrain')
    model = nn.Module()
    model.backbone = MODELS.build(dict(type='VisionTransformer', arch=dict(
        embed_dims=8, num_layers=3, num_heads=1, feedforward_channels=8), img_size=32, patch_size=16))
    model.neck = nn.Linear(8, 8)
    found = groups_by_name(model)
    assert found['neck.weight']['lr'] == 1
    for name, group in found.items():
        if name.startswith('backbone.'):
            depth, num = model.backbone.get_layer_depth(name, 'backbone.')
            assert group['lr'] == pytest.approx(RATE**(num - 1 - depth)), name


def test_frozen_parameters_are_left_out():
    model = classifier()
    model.backbone.patch_embed.requires_grad_(False)
    found = groups_by_name(model)
    assert not [name for name in found if 'patch_embed' in name] and 'head.fc.weight' in found
    model.requires_grad_(False)
    with pytest.raises(UserError, match='no parameter to train'):
        groups_by_name(model)


@pytest.mark.parametrize('rate', [None, 0, 1.5, 'high'])
def test_a_rate_that_makes_no_sense(rate):
    with pytest.raises(UserError, match=r'needs a layer_decay_rate in \(0, 1\]'):
        groups_by_name(classifier(), layer_decay_rate=rate)


def test_a_model_without_depths():
    with pytest.raises(UserError, match='backbone with get_layer_depth, which Linear does not have'):
        groups_by_name(nn.Linear(2, 2))
