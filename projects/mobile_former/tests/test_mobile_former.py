"""Mobile-Former against the original's numbers, and at any size."""
import pytest
import torch
from hash_fill import fill, image
from network_checks import assert_summary, randomise
from torch import nn

from mmtinyvit.apis.networks import count_macs, count_parameters
from mmtinyvit.errors import UserError
from mmtinyvit.models.backbones.tiny_vit import ConvNorm
from projects.mobile_former.mobile_former import ARCHS, MobileFormer, MobileFormerClsHead

PARAMETERS = {'508m': 13_976_976, '294m': 11_422_648, '214m': 9_425_920, '151m': 7_595_828, '96m': 4_585_252,
              '52m': 3_469_092, '26m': 3_232_788}
MILLION_MACS = {'508m': 510.6, '294m': 295.4, '214m': 215.3, '151m': 152.0, '96m': 96.3, '52m': 51.8, '26m': 26.0}
GOLDEN = {  # logits of the original code, weights and image by tests/hash_fill.py
    '294m': dict(
        shape=[1, 1000], mean=0.03180578311433411, std=1.9937495664571758, absmax=6.561470502770245,
        first=[0.880333170413309, 0.6865543066699862, -2.4420942197831783, -1.5966780026892524],
        last=[-0.2986297206737371, 1.431967131059229, -0.3199642535630445, 1.989432065124248]),
    '52m': dict(
        shape=[1, 1000], mean=0.03527225933183912, std=1.0540429246341112, absmax=3.428753983821269,
        first=[-1.380894400037705, 1.2206544860471995, 1.072701481664331, 0.8723295988439248],
        last=[-1.1490907566448159, 0.13176362066002054, -0.6810022357013222, -0.26270944884994607]),
    '26m': dict(
        shape=[1, 1000], mean=0.027693802753073704, std=1.0540741574326296, absmax=3.364266094444288,
        first=[-0.9541833992986133, 0.30305869625967097, 0.8670641378884469, 1.4788227197588335],
        last=[-0.8245837574453372, 0.5377248618781089, 0.8327108131803159, -0.6247642388646644]),
}
TINY = dict(stem=8, token_dims=16, num_tokens=3, head_channels=32, blocks=[
    ('lite', 2, 8, 2), ('mobile', 2, 8), ('down', 2, 12, 2, 2), ('down', 2, 16, 2, 2), ('mobile', 2, 16),
    ('down', 2, 24, 2, 2)])


def classifier(arch: str) -> nn.Module:
    return nn.Sequential(MobileFormer(arch), MobileFormerClsHead.of(arch))


@pytest.mark.parametrize('arch', GOLDEN)
def test_logits_are_the_originals(arch):
    with torch.no_grad():
        assert_summary(fill(classifier(arch))(image(224)), GOLDEN[arch])


@pytest.mark.parametrize('arch', ARCHS)
def test_parameters_and_cost_are_the_originals(arch):
    with torch.device('meta'):
        model = classifier(arch)
    assert count_parameters(model) == PARAMETERS[arch]
    macs = count_macs(model, (224, 224))
    norms = []  # the published counter takes a norm for two operations per element
    for module in model.modules():
        if isinstance(module, ConvNorm | nn.LayerNorm | nn.BatchNorm1d):
            module.register_forward_hook(lambda _, inputs, out: norms.append(2 * out.numel()))
    model.eval()(torch.empty(1, 3, 224, 224, device='meta'))
    assert macs + sum(norms) == pytest.approx(1e6 * MILLION_MACS[arch], rel=.01)


@pytest.mark.parametrize('size', [(64, 64), (97, 161), (33, 40), (1, 1)])
def test_maps_at_any_size(size):
    model = randomise(MobileFormer('26m', out_indices=(0, 1, 2, 3))).eval()
    with torch.no_grad():
        maps = model(torch.randn(2, 3, *size))
    assert model.embed_dims == (12, 24, 64, 96)
    for stride, channels, each in zip((4, 8, 16, 32), model.embed_dims, maps, strict=True):
        assert each.shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride)) and each.is_contiguous()


@pytest.mark.parametrize('arch', ['294m', '26m'])  # without and with groups
def test_maps_are_those_of_the_classifier(arch):
    whole = MobileFormer(arch).eval()
    maps = MobileFormer(arch, out_indices=(0, 3)).eval()
    missing, left = maps.load_state_dict(whole.state_dict(), strict=False)
    assert not missing and all(name.startswith('last_bridge.') for name in left)
    images = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        assert torch.equal(maps(images)[1], whole(images)[0][0])


def test_later_blocks_are_not_built():
    model = MobileFormer('294m', out_indices=(0, -3))
    assert [each.shape[1:] for each in model.eval()(torch.zeros(1, 3, 32, 32))] == [(24, 8, 8), (48, 4, 4)]
    assert len(model.blocks) == 5


def test_images_do_not_see_each_other():
    model = randomise(nn.Sequential(MobileFormer(TINY, drop_path_rate=.5), MobileFormerClsHead(5, 24, 16, 32))).eval()
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        apart = torch.cat([model(each[None]) for each in images])
        torch.testing.assert_close(model(images), apart, rtol=1e-4, atol=1e-5)


def test_the_first_block_may_be_exchanged():
    """Whatever takes a map and gives one may stand there, as a wrapper around the block does."""
    model = MobileFormer('294m', out_indices=(3, 0)).eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = model(images)
        model.blocks[0] = nn.Sequential(model.blocks[0])
        for ours, expected in zip(model(images), before, strict=True):
            assert torch.equal(ours, expected)


def test_a_group_hears_the_others():
    """With groups, each output of the 26m variant still depends on every channel, through the shuffles."""
    model = randomise(MobileFormer('26m', out_indices=(0, )).double()).eval()
    x = torch.randn(1, 12, 6, 6, dtype=torch.float64, requires_grad=True)
    tokens = torch.zeros(1, 128, dtype=torch.float64)
    out = model.blocks[1].mobile(x, tokens) - x
    for channel in range(12):
        gradient, = torch.autograd.grad(out[0, channel].square().sum(), x, retain_graph=True)
        assert gradient.abs().amax((0, 2, 3)).gt(0).sum() >= 9  # its own group alone has three


def test_initial_weights():
    torch.manual_seed(0)
    model = classifier('294m')
    for part in model:
        part.init_weights()
    backbone, head = model
    conv = backbone.blocks[4].mobile.conv2.conv  # depthwise, 3 x 3
    assert conv.weight.std().item() == pytest.approx((2 / (9 * conv.out_channels))**.5, rel=.05)
    assert head.fc.weight.std().item() == pytest.approx(.01, rel=.05) and not head.fc.bias.any()
    assert backbone.tokens.weight.std().item() == pytest.approx(1, rel=.1)
    assert torch.equal(backbone.stem.bn.weight, torch.ones(16))


def test_weights_from_a_classifier(tmp_path):
    whole = randomise(classifier('26m'))
    state = {f'backbone.{name}': value for name, value in whole[0].state_dict().items()}
    torch.save(dict(state_dict=state | {'head.fc.weight': torch.zeros(1)}), tmp_path / 'epoch_1.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'epoch_1.pth'), prefix='backbone.')
    for out_indices in ((1, ), (0, 1, 2, 3), None):
        model = MobileFormer('26m', out_indices=out_indices, init_cfg=init_cfg)
        model.init_weights()
        assert all(torch.equal(value, whole[0].state_dict()[name]) for name, value in model.state_dict().items())
    with pytest.raises(UserError, match=r'not fill MobileFormer: of \d+ tensors 0 are missing, \d+ are of another'):
        MobileFormer('52m', init_cfg=init_cfg).init_weights()


def test_fuse_changes_nothing():
    model = randomise(MobileFormer('26m', out_indices=(1, 3))).eval()
    images = torch.randn(2, 3, 64, 70)
    with torch.no_grad():
        before = model(images)
        after = model.fuse()(images)
    assert not [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for ours, expected in zip(after, before, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_freezing():
    model = MobileFormer('52m', frozen_stages=2, norm_eval=True).train()
    trained = {name.split('.')[1] for name, p in model.named_parameters() if name.startswith('blocks') and
               p.requires_grad}
    assert trained == {'4', '5', '6', '7', '8'} and not model.tokens.weight.requires_grad
    assert not any(module.training for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    assert not any(p.requires_grad for p in MobileFormer(TINY, frozen_stages=4).train().parameters())


def test_layer_depths():
    model = MobileFormer('52m')
    depths = {model.get_layer_depth(f'backbone.{name}', 'backbone.')[0] for name, _ in model.named_parameters()}
    assert depths == set(range(11))
    assert model.get_layer_depth('head.fc.weight', 'backbone.') == (10, 11)
    assert model.get_layer_depth('backbone.blocks.3.mobile.conv1.bn.bias', 'backbone.') == (4, 11)


@pytest.mark.parametrize('options, words', [
    (dict(arch='1g'), 'choose one of 508m, 294m'),
    (dict(arch=dict(stem=8)), 'missing 4 required'),
    (dict(arch=TINY | dict(blocks=[('mobile', 1, 8)])), "first block of kind 'lite'"),
    (dict(arch=TINY | dict(blocks=TINY['blocks'][:-1])), 'must reach a stride of 32, not 16'),
    (dict(out_indices=(4, )), 'out_indices=(4,)'),
    (dict(frozen_stages=5), 'frozen_stages=5'),
])
def test_mistakes(options, words):
    with pytest.raises(UserError) as error:
        MobileFormer(**options)
    assert words in str(error.value) and '\n' not in str(error.value)
