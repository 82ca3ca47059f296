"""Backbone and head together, in mmseg: the released code's logits and sizes, and export."""
import argparse
import json
import sys
from pathlib import Path

import pytest
import torch
from hash_fill import fill, image
from mmengine.analysis import get_model_complexity_info
from mmengine.registry import MODELS, init_default_scope
from network_checks import assert_summary, check_gradients, check_onnx
from tiny_recipes import load_recipe
from torch.nn import functional

from mmtinyvit.cli.runner import load_config
from mmtinyvit.errors import UserError

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
GOLDEN = json.loads((Path(__file__).parent / 'golden.json').read_text())


def segmenter(name: str, **backbone) -> torch.nn.Module:
    """For images alone: ``forward`` gives the logits at stride 8."""
    cfg = load_recipe(CONFIGS / f'topformer_{name}_160k_ade20k.py')
    cfg.model.backbone.update(init_cfg=None, **backbone)
    if backbone:
        cfg.model.decode_head.update(in_channels=[16] * 3, channels=16)
    init_default_scope('mmseg')
    return MODELS.build(cfg.model)


def test_logits_of_the_released_code():
    with torch.no_grad():
        assert_summary(fill(segmenter('tiny'))(image(256), mode='tensor'), GOLDEN['T_seg_256']['logits'])


@pytest.mark.parametrize(('arch', 'side', 'macs'), [
    ('tiny', 448, .441e9), ('tiny', 512, .576e9), ('small', 512, 1.168e9), ('base', 512, 1.820e9)])
def test_multiplications(arch, side, macs, monkeypatch):
    """As MMEngine counts them, BatchNorm's and interpolation's too; it does not know fused attention."""
    monkeypatch.setattr(functional, 'scaled_dot_product_attention', lambda q, k, v, scale: (q @ k.mT).softmax(-1) @ v)
    model = segmenter(arch)
    model.eval()
    counted = get_model_complexity_info(model, (3, side, side), show_table=False, show_arch=False)['flops']
    assert counted == pytest.approx(macs, rel=.01)


def test_a_released_head_loads():
    head = segmenter('small').decode_head
    state = {key.replace('fuse.', 'linear_fuse.'): torch.rand_like(value) for key, value in head.state_dict().items()
             if value.is_floating_point()} | {'linear_fuse.bn.num_batches_tracked': torch.tensor(3)}
    head.load_state_dict(state)
    assert torch.equal(head.fuse.conv.weight, state['linear_fuse.conv.weight'])


@pytest.fixture
def small():
    torch.manual_seed(0)
    return segmenter('tiny', arch=dict(channels=(8, 16, 24, 32), num_last_blocks=2, num_heads=2, out_channels=16))


def test_every_parameter_gets_a_gradient(small):
    check_gradients(small, torch.randn(2, 3, 70, 45))


def test_onnx(small, tmp_path):
    check_onnx(small, torch.randn(1, 3, 64, 128), tmp_path / 'segmenter.onnx')


def test_no_mmseg(monkeypatch):
    """The head's import fails before anything else does."""
    monkeypatch.setitem(sys.modules, 'mmseg', None)
    monkeypatch.delitem(sys.modules, 'projects.topformer.topformer.simple_head', raising=False)
    monkeypatch.setitem(sys.modules, 'mmseg.models.decode_heads.decode_head', None)
    args = argparse.Namespace(config=str(CONFIGS / 'topformer_tiny_160k_ade20k.py'), cfg_options=None, local_rank=0)
    with pytest.raises(UserError, match='needs mmseg, which is not installed'):
        load_config(args)
