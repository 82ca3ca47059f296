"""Checkpoints of Cream, timm and mmpretrain load as they are, and ours can be written for each of them."""
import re

import pytest
import timm
import torch
import torch.nn.functional as F
from mmengine.runner.checkpoint import load_checkpoint
from mmpretrain.models import ImageClassifier
from mmpretrain.models import TinyViT as MMPretrainTinyViT

from mmtinyvit.errors import UserError
from mmtinyvit.models.backbones import TinyViT
from mmtinyvit.models.checkpoint_keys import convert_state_dict, detect_layout, interpolate_biases


@pytest.fixture(scope='module')
def ours():
    return TinyViT('5m').state_dict()


def classifier(**options) -> ImageClassifier:
    head = dict(type='LinearClsHead', num_classes=10, in_channels=320)
    return ImageClassifier(dict(type='mmtinyvit.TinyViT', arch='5m', **options), head=head)


def test_timm_keys_are_timms(ours):
    theirs = timm.create_model('tiny_vit_5m_224', num_classes=0).state_dict()
    assert convert_state_dict(ours, 'timm').keys() == theirs.keys()
    maps = timm.create_model('tiny_vit_5m_224', features_only=True).state_dict()
    assert maps.keys() <= convert_state_dict(ours, 'timm features').keys()


def test_mmpretrain_keys_are_mmpretrains(ours):
    theirs = MMPretrainTinyViT('5m', out_indices=(3, )).state_dict()
    assert convert_state_dict(ours, 'mmpretrain').keys() == theirs.keys()


def test_cream_keys_are_the_originals(ours):
    """Names taken down from the original's modules, one of each kind, with the tensor each must be."""
    theirs = convert_state_dict(ours, 'Cream')
    for there, here in {
            'patch_embed.seq.0.c.weight': 'patch_embed.conv1.conv.weight',
            'patch_embed.seq.2.bn.running_mean': 'patch_embed.conv2.bn.running_mean',
            'layers.0.blocks.1.conv2.c.weight': 'stages.0.blocks.1.conv2.conv.weight',
            'layers.0.downsample.conv3.bn.bias': 'stages.1.downsample.conv3.bn.bias',
            'layers.2.downsample.conv1.c.weight': 'stages.3.downsample.conv1.conv.weight',
            'layers.2.blocks.5.attn.attention_biases': 'stages.2.blocks.5.attn.attention_biases',
            'layers.2.blocks.5.attn.qkv.weight': 'stages.2.blocks.5.attn.qkv.weight',
            'layers.3.blocks.0.local_conv.bn.running_var': 'stages.3.blocks.0.local_conv.bn.running_var',
            'layers.3.blocks.1.mlp.norm.weight': 'stages.3.blocks.1.mlp.norm.weight',
            'norm_head.weight': 'norm3.weight',
    }.items():
        assert theirs[there] is ours[here]
    assert len(theirs) == len(ours)
    patterns = (r'patch_embed\.seq\.[02]\.(c|bn)\.\w+', r'layers\.[0-2]\.downsample\.conv[123]\.(c|bn)\.\w+',
                r'layers\.0\.blocks\.[01]\.conv[123]\.(c|bn)\.\w+', r'norm_head\.(weight|bias)',
                r'layers\.[1-3]\.blocks\.\d\.(local_conv\.(c|bn)|attn\.(norm|qkv|proj)|mlp\.(norm|fc1|fc2))\.\w+',
                r'layers\.[1-3]\.blocks\.\d\.attn\.attention_biases')
    assert all(any(re.fullmatch(pattern, key) for pattern in patterns) for key in theirs)


@pytest.mark.parametrize('layout', ['timm', 'Cream', 'mmpretrain'])
def test_round_trip(ours, layout):
    full = {f'backbone.{key}': value for key, value in ours.items()}
    full |= {'head.fc.weight': torch.randn(10, 320), 'head.fc.bias': torch.randn(10)}
    theirs = convert_state_dict(full, layout)
    assert detect_layout(theirs, 'backbone.' if layout == 'mmpretrain' else '') == layout
    back = convert_state_dict(theirs, prefix='backbone.')
    assert back.keys() == full.keys()
    assert all(back[key] is full[key] for key in full)


@pytest.mark.parametrize('layout', ['timm', 'Cream', 'mmpretrain'])
def test_a_classifier_and_a_bare_backbone_load_any_layout(tmp_path, randomised, layout):
    source = randomised(classifier())
    theirs = convert_state_dict(source.state_dict(), layout)
    if layout == 'Cream':  # the published files have the buffers of an older version
        theirs['layers.1.blocks.0.attn.attention_bias_idxs'] = torch.zeros(49, 49, dtype=torch.long)
        theirs = dict(model=theirs, optimizer=dict(step=3), epoch=90)
    torch.save(theirs, tmp_path / 'theirs.pth')

    loaded = classifier()
    load_checkpoint(loaded, str(tmp_path / 'theirs.pth'), strict=True)
    assert same_tensors(loaded.state_dict(), source.state_dict())
    if layout != 'mmpretrain':  # a file with 'backbone.' belongs to a classifier
        bare = TinyViT('5m')
        load_checkpoint(bare, str(tmp_path / 'theirs.pth'), strict=True)
        assert same_tensors(bare.state_dict(), source.backbone.state_dict())


def test_a_detector_loads_what_it_holds(randomised):
    theirs = randomised(timm.create_model('tiny_vit_5m_224'))
    maps = TinyViT('5m', out_indices=(0, 1, 2), gap_before_output=False)
    maps.load_state_dict(theirs.state_dict())
    assert same_tensors(maps.state_dict(), convert_state_dict(theirs.state_dict()))


def test_biases_are_interpolated_between_windows(randomised, caplog):
    source = randomised(TinyViT('5m'))
    larger = TinyViT('5m', window_sizes=(12, 12, 24, 12))
    larger.load_state_dict(convert_state_dict(source.state_dict(), 'Cream'))
    old = source.stages[2].blocks[3].attn.attention_biases.detach()
    new = larger.stages[2].blocks[3].attn.attention_biases.detach()
    for head in range(5):  # each head is an image of its own
        expected = F.interpolate(old[head].view(1, 1, 14, 14), size=(24, 24), mode='bicubic')
        torch.testing.assert_close(new[head].view(24, 24), expected[0, 0])
    back = interpolate_biases(torch.arange(4.).view(1, 4), 2)
    assert back.tolist() == [[0., 1., 2., 3.]]
    with pytest.raises(UserError, match='square window'):
        interpolate_biases(torch.zeros(2, 50), 7)


def test_what_was_loaded_is_logged(ours, monkeypatch):
    lines = []
    monkeypatch.setattr('mmtinyvit.models.checkpoint_keys.print_log', lambda line, logger: lines.append(line))
    theirs = convert_state_dict(ours, 'timm') | {'head.fc.weight': torch.zeros(10, 320)}
    TinyViT('5m', window_sizes=(7, 7, 16, 7)).load_state_dict(theirs)
    assert lines == ['TinyViT takes 294 of its 294 tensors from a checkpoint in the layout of timm; attention biases '
                     'interpolated from windows 14 to 16; 1 left out (head.fc.weight)']
    TinyViT('5m').load_state_dict(ours)
    assert len(lines) == 1


def test_unknown_keys_are_named(ours):
    theirs = convert_state_dict(ours, 'Cream') | {'layers.9x.blocks': torch.zeros(1)}
    with pytest.raises(RuntimeError, match='layers.9x.blocks'):
        TinyViT('5m').load_state_dict(theirs)
    with pytest.raises(UserError, match='layers.9x.blocks'):
        convert_state_dict(theirs)
    with pytest.raises(UserError, match='no TinyViT checkpoint'):
        convert_state_dict(dict(weight=torch.zeros(1)))
    with pytest.raises(UserError, match='choose one of'):
        convert_state_dict(ours, 'keras')


def test_a_fused_model_refuses_an_unfused_checkpoint(ours):
    model = TinyViT('5m').eval().fuse()
    with pytest.raises(UserError, match='before fuse'):
        model.load_state_dict(ours)
    model.load_state_dict(model.state_dict())


def same_tensors(found: dict, expected: dict) -> bool:
    return all(torch.equal(value, expected[key]) for key, value in found.items())
