"""TinyViT's numbers: equal to timm's and mmpretrain's on shared random weights, at every size they support."""
import pytest
import timm
import torch
from mmpretrain.models import TinyViT as MMPretrainTinyViT
from mmpretrain.registry import MODELS
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmtinyvit.errors import UserError
from mmtinyvit.models.backbones import TinyViT
from mmtinyvit.models.checkpoint_keys import convert_state_dict

WINDOW_SIZES = {224: (7, 7, 14, 7), 384: (12, 12, 24, 12), 512: (16, 16, 32, 16)}
MAPS = dict(out_indices=(0, 1, 2, 3), gap_before_output=False)


def assert_close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-6):
    """Equal within ``tolerance`` of the largest value."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def pair(randomised, arch: str, **options):
    """timm's model and ours with the same weights, as classifier without its last layer and as maps."""
    theirs = randomised(timm.create_model(f'tiny_vit_{arch}_224', num_classes=0, **options)).eval()
    models = TinyViT(arch, **options), TinyViT(arch, **MAPS, **options)
    for model in models:
        model.load_state_dict(theirs.state_dict())
        model.eval()
    return theirs, *models


@pytest.mark.parametrize('arch, size', [('5m', 224), ('11m', 224), ('21m', 224), ('5m', 384), ('5m', 512)])
def test_equals_timm(randomised, arch, size):
    theirs, classifier, maps = pair(randomised, arch, window_sizes=WINDOW_SIZES[size])
    images = torch.randn(1, 3, size, size)
    with torch.inference_mode():
        assert_close(classifier(images)[0], theirs(images))
        for ours, expected in zip(maps(images), theirs.forward_intermediates(images, intermediates_only=True),
                                  strict=True):
            assert_close(ours, expected)


@pytest.mark.parametrize('size', [(225, 223), (97, 161), (20, 7), (1, 1)])
def test_equals_timm_at_odd_sizes_and_below_a_window(randomised, size):
    theirs, classifier, maps = pair(randomised, '5m')
    images = torch.randn(2, 3, *size)
    with torch.inference_mode():
        assert_close(classifier(images)[0], theirs(images))
        expected = theirs.forward_intermediates(images, intermediates_only=True)
        for stride, ours, map_ in zip((4, 8, 16, 32), maps(images), expected, strict=True):
            assert ours.shape[2:] == (-(-size[0] // stride), -(-size[1] // stride))
            assert_close(ours, map_)


def test_maps_equal_features_only(randomised):
    theirs = randomised(timm.create_model('tiny_vit_5m_224', features_only=True)).eval()
    ours = TinyViT('5m', **MAPS).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 160, 96)
    with torch.inference_mode():
        for map_, expected in zip(ours(images), theirs(images), strict=True):
            assert_close(map_, expected)
            assert map_.is_contiguous()


def test_equals_mmpretrain(randomised):
    ours = randomised(TinyViT('5m')).eval()
    theirs = MMPretrainTinyViT('5m', drop_path_rate=0., out_indices=(3, ))
    theirs.load_state_dict(convert_state_dict(ours.state_dict(), 'mmpretrain'))
    theirs.eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert_close(ours(images)[0], theirs(images)[0])


@pytest.mark.parametrize('arch, macs', [('5m', 1.3), ('11m', 2.0), ('21m', 4.3)])
def test_size_and_cost_are_the_papers(arch, macs):
    with torch.device('meta'):
        model, theirs = TinyViT(arch), timm.create_model(f'tiny_vit_{arch}_224', num_classes=0)
        images = torch.empty(1, 3, 224, 224)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in theirs.parameters())
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(images)
    head = 1000 * model.embed_dims[-1]
    assert round((counter.get_total_flops() / 2 + head) / 1e9, 1) == macs


def test_training_step_equals_timm(device, randomised):
    """Batch statistics, running statistics and every gradient."""
    theirs, ours, _ = pair(randomised, '5m')
    images = torch.randn(2, 3, 112, 80, dtype=torch.float64, device=device)
    gradients = []
    for model in (theirs, ours):
        model.double().to(device).train()
        out = model(images)
        (out[0] if isinstance(out, tuple) else out).square().sum().backward()
        tensors = {name: p.grad for name, p in model.named_parameters()}
        gradients.append(convert_state_dict(tensors | dict(model.named_buffers())))
    theirs, ours = gradients
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-8, atol=1e-8)


def test_an_arch_is_a_name_or_a_dict_of_all_its_settings():
    named = TinyViT('5m', window_sizes=(7, 7, 7, 7), mlp_ratio=3.)
    arch = dict(embed_dims=[64, 128, 160, 320], num_heads=[2, 4, 5, 10], depths=[2, 2, 6, 2], window_sizes=[7, 7, 7, 7],
                mlp_ratio=3., mbconv_expand_ratio=4.)
    model = TinyViT(arch)
    assert str(model) == str(named)
    model.load_state_dict(named.state_dict())
    assert model.stages[3].blocks[0].mlp.fc1.out_features == 960
    narrow = TinyViT(arch, mbconv_expand_ratio=2.).stages[0].blocks[0].conv1.conv
    assert narrow.out_channels == 128


def test_builds_from_the_other_libraries_scopes():
    for scope in ('mmpretrain', 'mmdet'):
        model = MODELS.build(dict(type='mmtinyvit.TinyViT', arch='5m', _scope_=scope))
        assert isinstance(model, TinyViT)


def test_later_stages_are_not_built(tiny):
    model = tiny(out_indices=(0, -3), gap_before_output=False)
    assert len(model.stages) == 2
    maps = model.eval()(torch.randn(1, 3, 32, 32))
    assert [map_.shape for map_ in maps] == [(1, 8, 8, 8), (1, 16, 4, 4)]


def test_outputs_come_in_the_order_of_out_indices(tiny):
    for options in (dict(), dict(gap_before_output=False)):
        rising, falling = tiny(out_indices=(0, 3), **options).eval(), tiny(out_indices=(3, 0), **options).eval()
        falling.load_state_dict(rising.state_dict())
        images = torch.randn(1, 3, 32, 32)
        for ours, expected in zip(falling(images), reversed(rising(images)), strict=True):
            assert torch.equal(ours, expected)


def test_several_pooled_outputs(tiny):
    outs = tiny(out_indices=(2, 3)).eval()(torch.randn(5, 3, 32, 32))
    assert [out.shape for out in outs] == [(5, 24), (5, 32)]


def test_initial_weights():
    model = TinyViT('5m')
    model.init_weights()
    block = model.stages[1].blocks[0]
    assert block.attn.qkv.weight.std().item() == pytest.approx(.02, rel=.05)
    assert block.attn.qkv.bias.abs().max() == block.attn.attention_biases.abs().max() == 0
    assert model.stages[0].blocks[0].conv3.bn.weight.abs().max() == 0
    reference = torch.nn.Conv2d(32, 64, 3).weight.std().item()  # PyTorch's own for a convolution
    assert model.patch_embed.conv2.conv.weight.std().item() == pytest.approx(reference, rel=.1)


@pytest.mark.parametrize('options, words', [
    (dict(arch='7m'), 'choose one of 5m, 11m, 21m'),
    (dict(arch=dict(embed_dims=(8, 8))), 'lacks num_heads'),
    (dict(arch=dict(embed_dims=(8, ), num_heads=(1, ), head_dim=8)), 'has no entry head_dim: choose from embed_dims'),
    (dict(arch='5m', window_sizes=(7, 7)), 'one entry per stage'),
    (dict(arch=dict(embed_dims=(8, 9, 9, 9), num_heads=(1, 2, 3, 3))), 'multiple of its num_heads'),
    (dict(arch='5m', out_indices=(4, )), 'out_indices=(4,)'),
    (dict(arch='5m', frozen_stages=5), 'frozen_stages=5'),
])
def test_nonsense_is_refused_in_one_sentence(options, words):
    with pytest.raises(UserError) as error:
        TinyViT(**options)
    assert words in str(error.value)
    assert str(error.value).count('\n') == 0
