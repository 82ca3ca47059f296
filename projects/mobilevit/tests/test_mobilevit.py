"""MobileViT: equal to timm's, and what every network must be able to do."""
import pytest
import timm
import torch
from network_checks import check_autocast, check_gradients, check_one_graph, check_onnx, randomise
from torch import nn

from mmtinyvit.apis.networks import count_macs, count_parameters
from projects.mobilevit.mobilevit import DropoutNeck, MobileViT

PUBLISHED = {'small': ('mobilevit_s', 5_578_632, 2.001), 'x_small': ('mobilevit_xs', 2_317_848, 1.026),
             'xx_small': ('mobilevit_xxs', 1_272_024, .407)}
SMALL = [['mobilenetv2', 8, 2, 1, 2], ['mobilevit', 16, 2, 16, 32, 1, 2]]


def build(arch, **options) -> nn.Module:
    torch.manual_seed(0)
    return randomise(MobileViT(arch, **options))


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(4, 3, 64, 72)


@pytest.mark.parametrize('arch', PUBLISHED)
def test_equals_timm(arch):
    name, parameters, giga_macs = PUBLISHED[arch]
    theirs = randomise(timm.create_model(name)).eval()
    ours = MobileViT(arch)
    state = theirs.state_dict()
    values = [state[key] for key in state if not key.startswith('head.')]
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    ours.eval()
    assert count_parameters(ours) + 1000 * (theirs.num_features + 1) == parameters
    assert count_macs(theirs, (256, 256)) / 1e9 == pytest.approx(giga_macs, rel=.01)
    batch = torch.rand(1, 3, 128, 96)
    with torch.no_grad():
        expected = theirs.forward_features(batch)
        assert (ours(batch)[0] - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize('size', [(64, 64), (97, 161), (33, 40), (1, 1)])
def test_maps_at_any_size(size):
    model = build('xx_small', out_indices=(1, 2, 3, 4)).eval()
    with torch.no_grad():
        maps = model(torch.randn(2, 3, *size))
    for stride, channels, each in zip((4, 8, 16, 32), (24, 48, 64, 320), maps, strict=True):
        assert each.shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride))


def test_dropout_acts_in_the_transformers_and_before_the_head():
    model = MobileViT('xx_small', drop_rate=.25)
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {.25}
    assert model.train() is model and not model.eval().training
    features = torch.ones(4, 1000)
    neck = DropoutNeck(.25)
    assert .2 < (neck((features, ))[0] == 0).float().mean() < .3
    assert torch.equal(neck.eval()((features, ))[0], features)


def test_freezing_includes_the_stem():
    model = MobileViT('xx_small', frozen_stages=2).train()
    trained = {'.'.join(name.split('.')[:2]) for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {'layers.2', 'layers.3', 'layers.4', 'conv_1x1_exp.conv', 'conv_1x1_exp.bn'}


def test_every_parameter_learns(images):
    check_gradients(build('xx_small'), images)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_mixed_precision(dtype, images):
    check_autocast(build('xx_small'), images, dtype)


def test_one_graph(images):
    check_one_graph(build(SMALL, out_indices=(1, )), images)


@pytest.mark.parametrize('out_indices', [(4, ), (1, 2, 3, 4)])
def test_onnx(out_indices, images, tmp_path):
    check_onnx(build('xx_small', out_indices=out_indices), images, tmp_path / 'model.onnx')
