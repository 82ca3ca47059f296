"""TopFormer against the released code's numbers, and what every backbone must stand."""
import json
from pathlib import Path

import pytest
import torch
from hash_fill import fill, image
from mmengine.analysis import get_model_complexity_info
from mmengine.registry import MODELS, init_default_scope
from network_checks import assert_summary, check_gradients, check_onnx
from torch.nn import functional

from mmtinyvit.errors import UserError
from projects.topformer.topformer import TopFormer
from projects.topformer.topformer.released_keys import rename_backbone
from projects.topformer.topformer.token_pyramid import pool_pyramid

GOLDEN = json.loads((Path(__file__).parent / 'golden.json').read_text())
OUT_CHANNELS = dict(tiny=128, small=192, base=256)
TINY = dict(channels=(8, 16, 24, 32), num_last_blocks=2, num_heads=2, out_channels=16)


def classifier(arch: str) -> torch.nn.Module:
    init_default_scope('mmpretrain')
    dim = dict(tiny=208, small=296, base=384)[arch]
    return MODELS.build(dict(
        type='ImageClassifier', backbone=dict(type='mmtinyvit.TopFormer', arch=arch, pool_stride=1, inject=False),
        neck=[dict(type='GlobalAveragePooling'), dict(type='ClsBatchNormNeck', input_features=dim, affine=True,
                                                      eps=1e-5)],
        head=dict(type='LinearClsHead', num_classes=1000, in_channels=dim)))


# ---------------------------------------------------------------- the published network
def test_injected_maps_of_the_released_code():
    with torch.no_grad():
        maps = fill(TopFormer('tiny'))(image(256))
    for found, wanted in zip(maps, GOLDEN['T_seg_256']['sim'], strict=True):
        assert_summary(found, wanted)


def test_logits_of_the_released_classifier():
    with torch.no_grad():
        assert_summary(fill(classifier('tiny'))(image(224)), GOLDEN['T_cls_224']['logits'])


@pytest.mark.parametrize(('arch', 'parameters', 'macs'), [
    ('tiny', 1503304, .1263e9), ('small', 3105928, .2352e9), ('base', 5068872, .3733e9)])
def test_size_of_the_classifier(arch, parameters, macs, monkeypatch):
    """Multiplications as MMEngine counts them, BatchNorm's too; it knows matrix products but no fused attention."""
    monkeypatch.setattr(functional, 'scaled_dot_product_attention', lambda q, k, v, scale: (q @ k.mT).softmax(-1) @ v)
    model = classifier(arch)
    model.eval()
    assert sum(p.numel() for p in model.parameters()) == parameters
    counted = get_model_complexity_info(model, (3, 224, 224), show_table=False, show_arch=False)['flops']
    assert counted == pytest.approx(macs, rel=.01)


# ---------------------------------------------------------------- sizes
@pytest.mark.parametrize(('arch', 'size'), [
    ('tiny', (64, 64)), ('tiny', (45, 70)), ('small', (33, 130)), ('base', (1, 5))])
def test_maps_of_any_size(arch, size):
    images = torch.randn(2, 3, *size)
    for options in (dict(), dict(pool_stride=1)):
        maps = TopFormer(arch, **options).eval()(images)
        for found, stride in zip(maps, (8, 16, 32), strict=True):
            assert found.shape == (2, OUT_CHANNELS[arch], -(-size[0] // stride), -(-size[1] // stride))
    semantics, = TopFormer(arch, inject=False).eval()(images)
    assert semantics.shape[2:] == (-(-size[0] // 64), -(-size[1] // 64))


@pytest.mark.parametrize('size', [(128, 192), (96, 160), (90, 50)])
def test_pooling_is_adaptive_average_pooling(size):
    maps = [torch.randn(1, 4, -(-size[0] // stride), -(-size[1] // stride)) for stride in (4, 8, 16, 32)]
    target = [-(-side // 2) for side in maps[-1].shape[2:]]
    expected = torch.cat([functional.adaptive_avg_pool2d(each, target) for each in maps], 1)
    torch.testing.assert_close(pool_pyramid(maps, 2), expected)


# ---------------------------------------------------------------- training and deployment
@pytest.fixture
def small():
    torch.manual_seed(0)
    model = TopFormer(TINY, drop_path_rate=0.)
    model.init_weights()
    return model


@pytest.mark.parametrize('inject', [True, False])
@pytest.mark.parametrize('size', [(64, 96), (70, 45)])
def test_every_parameter_gets_a_gradient(inject, size):
    torch.manual_seed(0)
    check_gradients(TopFormer(TINY, inject=inject, pool_stride=1, drop_path_rate=.1), torch.randn(3, 3, *size))


def test_bfloat16(small):
    """Attention without a scale makes random weights sensitive: only the direction of the outputs is compared."""
    images = torch.randn(2, 3, 96, 128)
    small.eval()
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        found = small(images)
    for ours, expected in zip(found, small(images), strict=True):
        assert torch.cosine_similarity(ours.float().flatten(), expected.flatten(), dim=0) > .85
    small.train()
    with torch.autocast('cpu', torch.bfloat16):
        loss = sum(out.float().square().mean() for out in small(images))
    loss.backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in small.parameters())


def test_compiles_to_one_graph(small):
    """Traced only: what inductor makes of the operators is not tested, nor does it take its time here."""
    torch.compiler.reset()
    small.eval()
    compiled = torch.compile(small, backend='eager', fullgraph=True)
    images = torch.randn(2, 3, 70, 45)
    for ours, expected in zip(compiled(images), small(images), strict=True):
        torch.testing.assert_close(ours, expected)


def test_onnx(small, tmp_path):
    check_onnx(small, torch.randn(2, 3, 64, 128), tmp_path / 'model.onnx')


def test_initial_weights_of_the_original(small):
    for conv in (small.pyramid.blocks[3].depthwise.conv, small.semantics[0].ffn.fc1.conv):
        fan_out = conv.weight[0, 0].numel() * conv.out_channels / conv.groups
        assert conv.weight.std().item() == pytest.approx((2 / fan_out)**.5, rel=.1)
    assert small.train() is small and small.eval() is small


# ---------------------------------------------------------------- weights
def test_a_segmenter_starts_from_a_classifier(tmp_path):
    torch.manual_seed(0)
    model = TopFormer(TINY, pool_stride=1, inject=False)
    state = {f'backbone.{name}': value for name, value in model.state_dict().items()}
    state['head.fc.weight'] = torch.randn(10, 80)
    torch.save(dict(state_dict=state), tmp_path / 'classifier.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'classifier.pth'), prefix='backbone.')
    dense = TopFormer(TINY, init_cfg=init_cfg)
    dense.init_weights()
    for name, value in dense.state_dict().items():
        if not name.startswith('injections.'):
            assert torch.equal(value, state[f'backbone.{name}']), name
    other = TopFormer('tiny', init_cfg=init_cfg)
    with pytest.raises(UserError, match=r'does not fill TopFormer: .*of another shape'):
        other.init_weights()
    del state['backbone.semantics.0.attn.query.conv.weight']
    torch.save(dict(state_dict=state), tmp_path / 'classifier.pth')
    with pytest.raises(UserError, match=r'1 are missing \(semantics.0.attn.query.conv.weight\)'):
        TopFormer(TINY, init_cfg=init_cfg).init_weights()


def released_names() -> list[str]:
    """What the released TopFormer-T calls its tensors, as a segmenter's backbone."""
    units = ['tpm.stem.0', *(f'tpm.layer{i}.conv.{j}' for i in range(1, 10) for j in ((0, 2) if i == 1 else (0, 2, 4)))]
    bare = [f'trans.transformer_blocks.{i}.mlp.dwconv' for i in range(4)]
    units += [f'trans.transformer_blocks.{i}.{name}' for i in range(4) for name in (
        'attn.to_q', 'attn.to_k', 'attn.to_v', 'attn.proj.1', 'mlp.fc1', 'mlp.fc2')]
    injections = [f'SIM.{i}.{name}' for i in (1, 2, 3)
                  for name in ('local_embedding', 'global_embedding', 'global_act')]
    norm = [f'bn.{name}' for name in ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')]
    return [*(f'{unit}.{each}' for unit in units for each in ('c.weight', *norm)),
            *(f'{unit}.{each}' for unit in injections for each in ('conv.weight', *norm)),
            *(f'{unit}.{each}' for unit in bare for each in ('weight', 'bias'))]


def test_released_checkpoints_load(tmp_path):
    """Every name is known, and what has the same shape is not swapped; the shapes are checked on loading."""
    names, shapes = released_names(), {key: value.shape for key, value in TopFormer('tiny').state_dict().items()}
    renamed = rename_backbone({name: name for name in names})
    assert renamed.keys() == shapes.keys()
    for ours, theirs in (('semantics.2.attn.query.bn.bias', 'trans.transformer_blocks.2.attn.to_q.bn.bias'),
                         ('semantics.2.attn.key.conv.weight', 'trans.transformer_blocks.2.attn.to_k.c.weight'),
                         ('injections.0.local.conv.weight', 'SIM.1.local_embedding.conv.weight'),
                         ('injections.0.semantics.bn.weight', 'SIM.1.global_embedding.bn.weight'),
                         ('injections.2.gate.conv.weight', 'SIM.3.global_act.conv.weight'),
                         ('pyramid.blocks.0.depthwise.bn.weight', 'tpm.layer1.conv.0.bn.weight'),
                         ('pyramid.blocks.4.expand.bn.weight', 'tpm.layer5.conv.0.bn.weight')):
        assert renamed[ours] == theirs
    state = {theirs: torch.rand(shapes[ours]) for ours, theirs in renamed.items()}
    segmenter = TopFormer('tiny')
    segmenter.load_state_dict(state)
    torch.save({name: value for name, value in state.items() if not name.startswith('SIM.')} | {
        'head.l.weight': torch.rand(1000, 208)}, tmp_path / 'classifier.pth')
    for inject in (True, False):
        model = TopFormer('tiny', inject=inject, init_cfg=dict(
            type='Pretrained', checkpoint=str(tmp_path / 'classifier.pth'), prefix='backbone.'))
        model.init_weights()
        for key, value in model.state_dict().items():
            assert key.startswith('injections.') or torch.equal(value, segmenter.state_dict()[key]), key


@pytest.mark.parametrize(('options', 'sentence'), [
    (dict(arch='huge'), "TopFormer has no arch 'huge': choose one of tiny, small, base"),
    (dict(arch=dict(channels=(8, 8, 8, 8))), 'needs exactly the keys channels, num_last_blocks'),
    (dict(pool_stride=0), 'pool_stride=0 of TopFormer must be at least 1'),
])
def test_mistakes(options, sentence):
    with pytest.raises(UserError, match=sentence):
        TopFormer(**options)
