"""Every model config under configs/_base_/models builds, and says the sizes of the paper."""
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

from mmtinyvit.models.backbones import TinyViT
from mmtinyvit.paths import config_root

CONFIGS = sorted((config_root() / '_base_/models').glob('tinyvit_[0-9]*.py'))
PARAMETERS = {'5m': 5_392_764, '11m': 10_996_972, '21m': 21_198_568}  # timm's counts with 1,000 classes
SIDES = {'384': (12, 12, 24, 12), '512': (16, 16, 32, 16)}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_builds_with_the_papers_size(path):
    init_default_scope('mmpretrain')
    with torch.device('meta'):
        model = MODELS.build(Config.fromfile(path).model)
    _, arch, *side = path.stem.split('_')
    windows = SIDES[side[0]] if side else (7, 7, 14, 7)
    assert isinstance(model.backbone, TinyViT)
    assert [stage.blocks[0].attn.window_size for stage in model.backbone.stages[1:]] == list(windows[1:])
    biases = {name: p.numel() for name, p in model.named_parameters() if 'attention_biases' in name}
    at_224 = sum(numel // windows[int(name.split('.')[2])]**2 * (7, 7, 14, 7)[int(name.split('.')[2])]**2
                 for name, numel in biases.items())
    others = sum(p.numel() for p in model.parameters()) - sum(biases.values())
    assert others + at_224 == PARAMETERS[arch]
    side = int(side[0]) if side else 224
    assert model(torch.empty(2, 3, side, side, device='meta')).shape == (2, 1000)


def test_the_head_starts_small():
    model = MODELS.build(Config.fromfile(config_root() / '_base_/models/tinyvit_5m.py').model)
    model.init_weights()
    assert model.head.fc.weight.std().item() == pytest.approx(.02, rel=.02)
    assert model.head.fc.bias.abs().max() == 0
