"""The models of the recipes build, and have the sizes of the paper."""
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

from mmtinyvit.models.backbones import TinyViT
from mmtinyvit.paths import config_root

ROOT = config_root() / 'tinyvit'
RECIPES = {'5m_in1k': 224, '11m_in1k': 224, '21m_in1k': 224, '21m_finetune_in1k_384': 384, '21m_finetune_in1k_512': 512}
PARAMETERS = {'5m': 5_392_764, '11m': 10_996_972, '21m': 21_198_568}  # timm's counts with 1,000 classes
WINDOWS = {224: (7, 7, 14, 7), 384: (12, 12, 24, 12), 512: (16, 16, 32, 16)}


@pytest.mark.parametrize(('recipe', 'side'), RECIPES.items())
def test_builds_with_the_papers_size(recipe, side):
    init_default_scope('mmpretrain')
    with torch.device('meta'):
        model = MODELS.build(Config.fromfile(ROOT / f'tiny_vit_{recipe}.py').model)
    windows = WINDOWS[side]
    assert isinstance(model.backbone, TinyViT)
    assert [stage.blocks[0].attn.window_size for stage in model.backbone.stages[1:]] == list(windows[1:])
    biases = {name: p.numel() for name, p in model.named_parameters() if 'attention_biases' in name}
    at_224 = sum(numel // windows[int(name.split('.')[2])]**2 * (7, 7, 14, 7)[int(name.split('.')[2])]**2
                 for name, numel in biases.items())
    others = sum(p.numel() for p in model.parameters()) - sum(biases.values())
    assert others + at_224 == PARAMETERS[recipe.split('_')[0]]
    assert model(torch.empty(2, 3, side, side, device='meta')).shape == (2, 1000)


def test_the_head_starts_small():
    model = MODELS.build(Config.fromfile(ROOT / 'tiny_vit_5m_in1k.py').model)
    model.init_weights()
    assert model.head.fc.weight.std().item() == pytest.approx(.02, rel=.02)
    assert model.head.fc.bias.abs().max() == 0
