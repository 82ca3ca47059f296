"""Checkpoints of MAE, timm and mmpretrain, against timm as an independent vision transformer."""
import argparse

import numpy as np
import pytest
import timm
import torch
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, init_default_scope
from tiny_networks import build, vit_config

from mmtinyvit.errors import UserError
from mmtinyvit.models.checkpoint_keys import convert_vit_state_dict
from mmtinyvit.models.selfsup import TokenTeacher
from mmtinyvit.models.selfsup.taps import tap_vit


def timm_vit(**more) -> timm.models.VisionTransformer:
    model = timm.models.VisionTransformer(img_size=32, patch_size=8, embed_dim=16, depth=3, num_heads=2, mlp_ratio=2,
                                          num_classes=0, **more)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def official_mae(tmp_path, vit: timm.models.VisionTransformer, **more) -> str:
    """A file as facebookresearch/mae saves it: timm's names, a decoder, and the arguments of the training."""
    tensors = vit.state_dict() | dict(mask_token=torch.zeros(1, 1, 8), decoder_pos_embed=torch.zeros(1, 17, 8))
    tensors |= {f'decoder_blocks.0.{name}': value for name, value in vit.blocks[0].state_dict().items()}
    path = tmp_path / 'mae.pth'
    torch.save(dict(model=tensors, args=argparse.Namespace(lr=1e-3), epoch=399) | more, path)
    return str(path)


def test_official_mae_computes_what_timm_computes(tmp_path):
    """All tokens of the last block and the final norm, and the attention's q, k and v of a block in between."""
    theirs, images = timm_vit(), torch.randn(2, 3, 32, 32)
    teacher = TokenTeacher(vit_config(), official_mae(tmp_path, theirs), features=['final'])
    seen = []
    theirs.blocks[1].attn.qkv.register_forward_hook(lambda m, i, o: seen.append(o))
    with torch.no_grad():
        expected = theirs.forward_features(images)
        assert torch.allclose(teacher(images)[0]['final'], expected, atol=1e-5)
        qkv = tap_vit(teacher.load(), images, 2, ['qkv'])[0]['qkv']
    split = seen[0].view(2, 17, 3, 2, 8).permute(2, 0, 3, 1, 4)
    assert torch.allclose(qkv, split, atol=1e-5)


def test_there_and_back_again():
    state_dict = timm_vit(fc_norm=True, global_pool='avg').state_dict()
    there = convert_vit_state_dict(state_dict, prefix='backbone.')
    assert all(key.startswith('backbone.') for key in there) and len(there) == len(state_dict)
    back = convert_vit_state_dict(there, 'timm')
    assert back.keys() == state_dict.keys() and all(back[key] is state_dict[key] for key in back)


def test_every_key_of_mmpretrain_is_known():
    vit = build(vit_config(out_type='avg_featmap'))
    assert convert_vit_state_dict(vit.state_dict()).keys() == vit.state_dict().keys()


def test_mmpretrain_mae_and_a_run_s_checkpoint(tmp_path):
    """``backbone.`` with decoder and head beside it, in a file that MMEngine saved with its curves."""
    init_default_scope('mmpretrain')
    encoder = vit_config(kind='MAEViT')
    model = MODELS.build(dict(
        type='MAE', backbone=encoder, head=dict(type='MAEPretrainHead', patch_size=8, loss=dict(
            type='PixelReconstructionLoss', criterion='L2')),
        neck=dict(type='MAEPretrainDecoder', patch_size=8, num_patches=16, embed_dim=16, decoder_embed_dim=8,
                  decoder_depth=1, decoder_num_heads=2)))
    hub = MessageHub('checkpoint')
    hub.update_scalar('train/loss', torch.tensor(1.5))
    hub.update_scalar('train/lr', np.float64(0.1))
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(meta=dict(epoch=1), state_dict=model.state_dict(), message_hub=hub.state_dict()), path)
    teacher = TokenTeacher(vit_config(), str(path), block=2)
    images = torch.randn(1, 3, 32, 32)
    model.eval()
    with torch.no_grad():
        assert torch.equal(teacher(images)[0]['qkv'], tap_vit(model.backbone, images, 2, ['qkv'])[0]['qkv'])


# ---------------------------------------------------------------- what is refused
def test_other_networks_are_named():
    with pytest.raises(UserError, match='the tensor conv1.weight is not known'):
        convert_vit_state_dict({'conv1.weight': torch.zeros(1)})
    with pytest.raises(UserError, match='missing'):
        convert_vit_state_dict({})
    with pytest.raises(UserError, match='choose mmpretrain or timm'):
        convert_vit_state_dict({}, 'jax')


@pytest.mark.parametrize(('arch', 'said'), [
    (dict(dims=24), r'of another shape \(cls_token is \[1, 1, 16\] instead of \[1, 1, 24\]'),
    (dict(layers=4), r'12 are missing \(layers.3.ln1.weight'),
    (dict(layers=2), r'12 are unknown \(layers.2.ln1.weight')])
def test_checkpoint_of_another_teacher(arch, said, tmp_path):
    teacher = TokenTeacher(vit_config(**arch), official_mae(tmp_path, timm_vit()))
    with pytest.raises(UserError, match=f'does not fill VisionTransformer: .*{said}'):
        teacher.load()


def test_teacher_without_weights():
    with pytest.raises(UserError, match='has no weights: give teacher=dict'):
        TokenTeacher(vit_config()).load()
