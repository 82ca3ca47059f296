"""DenseViT is the network that MAE and TinyMIM are judged with, and starts from any of their checkpoints."""
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmseg.models.backbones import MAE

from mmtinyvit.errors import UserError
from mmtinyvit.models.backbones import DenseViT
from mmtinyvit.models.checkpoint_keys import convert_vit_state_dict

ARCH = dict(embed_dims=24, num_layers=3, num_heads=3, feedforward_channels=96)


def dense(**options) -> DenseViT:
    return DenseViT(ARCH, 64, out_indices=(0, 2), **options)


def pretrained(checkpoint) -> dict:
    return dict(type='Pretrained', checkpoint=str(checkpoint))


@pytest.fixture
def student():
    """A small ViT as TinyMIM trains it, at another size."""
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(dict(type='MAEViT', arch=ARCH, img_size=96))
    return {name: torch.randn_like(value) * .2 for name, value in model.state_dict().items()}


def test_equals_the_mae_backbone_of_mmseg():
    reference = MAE(64, embed_dims=24, num_layers=3, num_heads=3, out_indices=(0, 2),
                    norm_cfg=dict(type='LN', eps=1e-6))
    torch.manual_seed(0)
    state = {name: torch.randn_like(value) * .2 if value.is_floating_point() else value
             for name, value in reference.state_dict().items()}
    reference.load_state_dict(state)
    model = dense()
    model.load_state_dict(state)
    images = torch.randn(2, 3, 64, 64)
    reference.eval()
    with torch.no_grad():
        for ours, expected in zip(model.eval()(images), reference(images), strict=True):
            assert ours.shape == (2, 24, 4, 4)
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_starts_as_the_pretrained_network(student, tmp_path):
    """At the size of pretraining, the maps are the pretrained ViT's."""
    torch.save(dict(state_dict={f'backbone.{name}': value for name, value in student.items()}), tmp_path / 'vit.pth')
    model = DenseViT(ARCH, 96, out_indices=(0, 2), init_cfg=pretrained(tmp_path / 'vit.pth'))
    model.init_weights()
    plain = MODELS.build(dict(type='VisionTransformer', arch=ARCH, img_size=96, out_indices=(0, 2), out_type='featmap',
                              final_norm=False))
    plain.load_state_dict(student, strict=False)
    plain.eval()
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        for ours, expected in zip(model.eval()(images), plain(images), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('layout', ['mmpretrain', 'timm'])
def test_takes_each_layout_at_another_size(student, layout, tmp_path):
    torch.save(dict(model=convert_vit_state_dict(student, layout)), tmp_path / 'vit.pth')
    model = dense(init_cfg=pretrained(tmp_path / 'vit.pth'))
    model.init_weights()
    state = model.state_dict()
    assert torch.equal(state['layers.2.attn.qkv.weight'], student['layers.2.attn.qkv.weight'])
    assert torch.equal(state['pos_embed'][:, 0], student['pos_embed'][:, 0]) and state['pos_embed'].shape == (1, 17, 24)
    assert state['layers.0.gamma_1'].eq(1).all() and state['layers.0.attn.relative_position_bias_table'].eq(0).all()


def test_refuses_half_a_checkpoint(student, tmp_path):
    del student['layers.1.ffn.layers.1.bias']
    torch.save(student, tmp_path / 'vit.pth')
    with pytest.raises(UserError, match=r'does not fill DenseViT: .* 1 are missing \(layers.1.ffn.layers.1.bias\)'):
        dense(init_cfg=pretrained(tmp_path / 'vit.pth')).init_weights()


def test_refuses_images_of_another_size():
    with pytest.raises(UserError, match='takes images of 64 x 64 pixels, but got 64 x 80: train on crops'):
        dense()(torch.zeros(1, 3, 64, 80))


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    model = dense().train()
    sum(out.square().mean() for out in model(torch.randn(2, 3, 64, 64))).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
