"""Each direction between Cream, timm, mmpretrain and this library: the same outputs from the converted weights."""
import itertools
import runpy
from pathlib import Path

import mmpretrain
import pytest
import timm
import torch
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.models import TinyViT as MMPretrainTinyViT
from safetensors.torch import load_file

from mmtinyvit.models.checkpoint_keys import convert_state_dict

TOOL = 'model_converters/convert_tiny_vit'
PREFIX = dict(mmtinyvit='backbone.', mmpretrain='backbone.', timm='', Cream='')
LAYOUTS = tuple(PREFIX)
IMAGES = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
CLASSES = 7


def ours(state_dict):
    model = MODELS.build(dict(type='ImageClassifier', backbone=dict(type='mmtinyvit.TinyViT', arch='5m'),
                              head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=320)))
    model.load_state_dict(state_dict)
    return model.eval()(IMAGES, mode='tensor')


def mmpretrains(state_dict):
    backbone = dict(type=MMPretrainTinyViT, arch='5m', img_size=(224, 224), drop_path_rate=0., out_indices=(3, ))
    model = MODELS.build(dict(type='ImageClassifier', backbone=backbone,
                              head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=320)))
    model.load_state_dict(state_dict)
    model.eval()
    return model(IMAGES, mode='tensor')


def timms(state_dict):
    model = timm.create_model('tiny_vit_5m_224', num_classes=CLASSES)
    model.load_state_dict(state_dict)
    return model.eval()(IMAGES)


def creams(checkpoint):
    """The original's code is not here: mmpretrain's own converter reads its names, and its network computes."""
    tool = Path(mmpretrain.__file__).parent / '.mim/tools/model_converters/tinyvit_to_mmpretrain.py'
    convert = runpy.run_path(str(tool))['convert_weights']
    return mmpretrains(convert(checkpoint)['state_dict'])


RUN = dict(zip(LAYOUTS, (ours, mmpretrains, timms, creams), strict=True))


@pytest.fixture(scope='module')
def start():
    """Random weights in which every tensor matters, in each layout, and what timm's network makes of the image."""
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = timm.create_model('tiny_vit_5m_224', num_classes=CLASSES)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand(tensor.shape), alpha=.02 if tensor.ndim > 1 else .2)
    known = {name: convert_state_dict(model.state_dict(), name, PREFIX[name]) for name in LAYOUTS}
    with torch.no_grad():
        return known | dict(Cream=dict(model=known['Cream'])), model.eval()(IMAGES)


def tensors(checkpoint):
    return checkpoint.get('model', checkpoint)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_layout_computes_the_same(start, layout):
    known, expected = start
    with torch.no_grad():
        torch.testing.assert_close(RUN[layout](known[layout]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('source', 'target'), itertools.permutations(LAYOUTS, 2))
def test_every_direction(start, run_tool, tmp_path, source, target):
    """To the very tensors, and under the very names, of the layout that computes the same."""
    known = start[0]
    torch.save(known[source], tmp_path / 'source.pth')
    ended = run_tool(TOOL, tmp_path / 'source.pth', tmp_path / 'target.pth', '--to', target)
    assert ended.status == 0 and target in ended.out
    converted = torch.load(tmp_path / 'target.pth', weights_only=True)
    assert converted.keys() == known[target].keys() or target != 'Cream'
    ours, theirs = tensors(converted), tensors(known[target])
    assert ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_safetensors_both_ways(start, run_tool, tmp_path):
    theirs = start[0]['timm']
    torch.save(theirs, tmp_path / 'timm.pth')
    run_tool(TOOL, tmp_path / 'timm.pth', tmp_path / 'ours.safetensors', '--to', 'mmtinyvit')
    run_tool(TOOL, tmp_path / 'ours.safetensors', tmp_path / 'back.safetensors', '--to', 'timm')
    back = load_file(tmp_path / 'back.safetensors')
    assert back.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in back.items())


def test_faults(run_tool, tmp_path):
    def sentence(source, destination) -> str:
        return run_tool(TOOL, source, destination, '--to', 'timm').sentence

    assert 'There is no checkpoint' in sentence(tmp_path / 'nothing.pth', tmp_path / 'out.pth')
    torch.save(dict(weight=torch.ones(1)), tmp_path / 'other.pth')
    assert 'This is no TinyViT checkpoint' in sentence(tmp_path / 'other.pth', tmp_path / 'out.pth')
    assert 'is the source: choose another name' in sentence(tmp_path / 'other.pth', tmp_path / 'other.pth')
    assert not (tmp_path / 'out.pth').exists()
