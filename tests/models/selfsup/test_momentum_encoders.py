"""BYOL and MoCo v3 of mmpretrain with TinyViT: the momentum encoder is its parameters, and nothing older."""
import copy

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, init_default_scope

from mmtinyvit.models.backbones import TinyViT

STEPS = 30
ARCH = dict(embed_dims=(8, 16, 24, 32), num_heads=(1, 2, 3, 2), depths=(1, 1, 2, 1), window_sizes=(7, 3, 4, 2))
NECK = dict(type='NonLinearNeck', hid_channels=16, out_channels=8, num_layers=2, with_avg_pool=False)
PREDICTOR = dict(predictor=NECK | dict(in_channels=8))
MODELS_BY_NAME = dict(
    BYOL=(dict(base_momentum=.2, head=dict(
        type='LatentPredictHead', loss=dict(type='CosineSimilarityLoss'), **PREDICTOR)), 'target_net'),
    MoCoV3=(dict(base_momentum=.2, head=dict(
        type='MoCoV3Head', loss=dict(type='CrossEntropyLoss', loss_weight=2.), temperature=1., **PREDICTOR)),
        'momentum_encoder'))


@pytest.mark.parametrize('name', MODELS_BY_NAME)
def test_outputs_are_those_of_the_parameters(name):
    """After 30 steps, with a look in eval mode half way, as a validation takes."""
    init_default_scope('mmpretrain')
    settings, momentum = MODELS_BY_NAME[name]
    torch.manual_seed(0)
    model = MODELS.build(dict(type=name, neck=NECK | dict(in_channels=32), backbone=dict(
        type='mmtinyvit.TinyViT', arch=ARCH, drop_path_rate=0.), data_preprocessor=dict(), **settings))
    backbones = dict(online=model.backbone, momentum=getattr(model, momentum).module[0])
    assert all(isinstance(backbone, TinyViT) for backbone in backbones.values())
    MessageHub.get_current_instance().update_info('max_iters', STEPS)
    optimizer = torch.optim.SGD(model.parameters(), lr=.5)
    fixed = torch.randn(4, 3, 32, 32)
    before = {part: answers(backbone, fixed) for part, backbone in backbones.items()}
    for step in range(STEPS):
        model.train()
        sum(model.loss(list(torch.randn(2, 4, 3, 32, 32)), []).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step == STEPS // 2:
            for backbone in backbones.values():
                answers(backbone, fixed)
    for part, backbone in backbones.items():
        fresh = TinyViT(ARCH, drop_path_rate=0.)
        fresh.load_state_dict(backbone.state_dict())
        found, expected = answers(backbone, fixed), answers(fresh, fixed)
        for mode in ('eval', 'train'):
            assert torch.equal(found[mode], expected[mode]), (part, mode)
            assert not torch.allclose(found[mode], before[part][mode], rtol=.01), (part, mode)


def answers(backbone: TinyViT, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Features in both modes; the running statistics stay as they are."""
    state, found = copy.deepcopy(backbone.state_dict()), {}
    with torch.no_grad():
        for mode in ('eval', 'train'):
            found[mode] = backbone.train(mode == 'train')(images)[0].clone()
    for name, value in backbone.state_dict().items():
        value.copy_(state[name])
    return found
