"""DeiT against timm's, whose keys are those of the official checkpoints: outputs, sizes, loading, start, depths."""
import pytest
import timm
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner.checkpoint import load_checkpoint
from torch import nn

from mmtinyvit.errors import UserError
from mmtinyvit.models.backbones import DeiT, DistilledDeiT
from mmtinyvit.models.checkpoint_keys import convert_deit_state_dict

WIDTHS = dict(tiny=192, small=384, base=768)
PARAMETERS = dict(tiny=(5_717_416, 5_910_800), small=(22_050_664, 22_436_432), base=(86_567_656, 87_338_192))
SMALL = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=96)


def classifier(arch: str | dict = 'tiny', distilled: bool = True, classes: int = 1000, **backbone) -> nn.Module:
    init_default_scope('mmpretrain')
    width = arch['embed_dims'] if isinstance(arch, dict) else WIDTHS[arch]
    return MODELS.build(dict(
        type='ImageClassifier',
        backbone=dict(type='mmtinyvit.DistilledDeiT' if distilled else 'mmtinyvit.DeiT',
                      arch=arch if isinstance(arch, dict) else f'deit-{arch}') | backbone,
        head=dict(type='mmtinyvit.DeiTDistillHead' if distilled else 'VisionTransformerClsHead',
                  num_classes=classes, in_channels=width)))


def official(arch: str = 'tiny', distilled: bool = True, size: int = 224, seed: int = 0) -> nn.Module:
    """timm's model with weights that hide nothing."""
    torch.manual_seed(seed)
    model = timm.create_model(f'deit_{arch}_{"distilled_" if distilled else ""}patch16_224', img_size=size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=.05)
    return model.eval()


@pytest.mark.parametrize('distilled', [False, True], ids=['plain', 'distilled'])
@pytest.mark.parametrize('arch', WIDTHS)
def test_official_checkpoints_load_and_give_the_same_logits(arch, distilled, tmp_path):
    reference, ours = official(arch, distilled), classifier(arch, distilled)
    assert sum(p.numel() for p in ours.parameters()) == PARAMETERS[arch][distilled]
    torch.save(dict(model=reference.state_dict()), tmp_path / 'deit.pth')
    load_checkpoint(ours, str(tmp_path / 'deit.pth'), strict=True)
    inputs = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        got, wanted = ours.eval()(inputs), reference(inputs)
    assert wanted.std() > .1
    assert (got - wanted).abs().max() <= 1e-6 * wanted.abs().max()


def test_separate_heads_are_timms(tmp_path):
    reference, ours = official(), classifier()
    ours.load_state_dict(reference.state_dict())
    reference.set_distilled_training(True)
    inputs = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        wanted = reference.train()(inputs)
        got = ours.head.separate(ours.eval().extract_feat(inputs))
    for ours_each, theirs in zip(got, wanted, strict=True):
        assert (ours_each - theirs).abs().max() <= 1e-6 * theirs.abs().max()
    assert (got[0] - got[1]).abs().max() > .1


@pytest.mark.parametrize('distilled', [False, True], ids=['plain', 'distilled'])
def test_position_embedding_for_384_pixels_keeps_the_tokens(distilled):
    """Against timm's loader and against the lines of the official main.py, written out."""
    reference = official('tiny', distilled)
    state, extra = reference.state_dict(), 1 + distilled
    large = classifier('tiny', distilled, img_size=384)
    large.load_state_dict({key: value.clone() for key, value in state.items()})
    grid = state['pos_embed'][:, extra:].reshape(1, 14, 14, 192).permute(0, 3, 1, 2)
    grid = nn.functional.interpolate(grid, size=(24, 24), mode='bicubic', align_corners=False)
    wanted = torch.cat([state['pos_embed'][:, :extra], grid.permute(0, 2, 3, 1).flatten(1, 2)], 1)
    assert torch.equal(large.backbone.pos_embed[:, :extra], state['pos_embed'][:, :extra])
    assert torch.allclose(large.backbone.pos_embed, wanted, atol=1e-6)
    theirs = timm.create_model(f'deit_tiny_{"distilled_" if distilled else ""}patch16_224', img_size=384).eval()
    theirs.load_state_dict({**state, 'pos_embed': wanted})
    inputs = torch.randn(1, 3, 384, 384)
    with torch.no_grad():
        assert (large.eval()(inputs) - theirs(inputs)).abs().max() <= 2e-6 * theirs(inputs).abs().max()


def test_mmpretrains_own_classes_take_the_checkpoint():
    """What is saved is plain: no key of ours."""
    ours = classifier(SMALL, classes=5, img_size=32).eval()
    ours.init_weights()
    theirs = MODELS.build(dict(
        type='ImageClassifier', backbone=dict(type='DistilledVisionTransformer', arch=SMALL, img_size=32),
        head=dict(type='DeiTClsHead', num_classes=5, in_channels=24))).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    inputs = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours(inputs), theirs(inputs))
    ours.load_state_dict(theirs.state_dict(), strict=True)


@pytest.mark.parametrize('distilled', [False, True], ids=['plain', 'distilled'])
def test_the_other_kind_of_checkpoint_is_refused(distilled):
    state = official('tiny', not distilled).state_dict()
    with pytest.raises(UserError, match='belongs to mmtinyvit.DistilledDeiT'):
        classifier('tiny', distilled).load_state_dict(state)


@pytest.mark.parametrize('distilled', [False, True])
def test_init_cfg_takes_official_and_own_checkpoints_or_refuses(distilled, tmp_path):
    """MMEngine's own way leaves the backbone as it is, and warns."""
    reference, whole = official('tiny', distilled), classifier('tiny', distilled)
    torch.save(dict(model=reference.state_dict()), tmp_path / 'official.pth')
    load_checkpoint(whole, str(tmp_path / 'official.pth'), strict=True)
    torch.save(dict(state_dict=whole.state_dict()), tmp_path / 'own.pth')
    kind = DistilledDeiT if distilled else DeiT
    for name, prefix in (('official', None), ('own', None), ('own', 'backbone.')):
        init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / f'{name}.pth'), prefix=prefix)
        backbone = kind('deit-tiny', init_cfg=init_cfg)
        backbone.init_weights()
        assert all(torch.equal(value, whole.backbone.state_dict()[key]) for key, value in backbone.state_dict().items())
        with pytest.raises(UserError, match='does not fill'):
            kind('deit-small', init_cfg=init_cfg).init_weights()


def test_other_vits_are_refused():
    state = official().state_dict()
    state['blocks.0.ls1.gamma'] = torch.ones(192)
    with pytest.raises(UserError, match='blocks.0.ls1.gamma'):
        convert_deit_state_dict(state)


def test_every_tensor_of_a_checkpoint_is_renamed_once():
    state = official('tiny').state_dict()
    renamed = convert_deit_state_dict(state)
    assert set(renamed) == set(classifier('tiny').state_dict())
    assert [id(value) for value in renamed.values()] == [id(value) for value in state.values()]


@pytest.mark.parametrize('distilled', [False, True], ids=['plain', 'distilled'])
def test_starts_as_the_original(distilled):
    """timm draws the same distributions; each tensor is compared with timm's of the same name."""
    model = classifier('tiny', distilled)
    model.init_weights()
    reference = convert_deit_state_dict(timm.create_model(
        f'deit_tiny_{"distilled_" if distilled else ""}patch16_224').state_dict())
    for name, tensor in model.state_dict().items():
        if distilled or not name.startswith('head'):  # mmpretrain's head for a plain ViT starts at zero
            wanted = .02 if 'cls_token' in name else reference[name].std().item()  # today's timm: 1e-6, in 2020 .02
            slack = .25 if tensor.numel() < 500 else .05
            assert tensor.std().item() == pytest.approx(wanted, rel=slack, abs=1e-8), name
            assert tensor.mean().item() == pytest.approx(reference[name].mean().item(), abs=6e-3), name
    before = model.backbone.layers[0].attn.qkv.weight.clone()
    model.init_weights()  # once is enough; again it would undo what was loaded in between
    assert torch.equal(model.backbone.layers[0].attn.qkv.weight, before)


def test_depths_for_layer_wise_decay():
    model = classifier('tiny')
    depth = {name: model.get_layer_depth(name)[0] for name, _ in model.named_parameters()}
    assert model.get_layer_depth('backbone.dist_token') == (0, 14)
    for name, found in depth.items():
        if name.split('.')[1] in ('cls_token', 'dist_token', 'pos_embed', 'patch_embed'):
            assert found == 0, name
        elif name.startswith('backbone.layers.'):
            assert found == int(name.split('.')[2]) + 1, name
        else:
            assert found == 13, name


@pytest.mark.parametrize('backbone, tokens', [(DeiT, 1), (DistilledDeiT, 2)])
def test_eval_returns_the_model_and_every_output_type_works(backbone, tokens):
    for out_type, shape in (('raw', (2, 4 + tokens, 24)), ('featmap', (2, 24, 2, 2)), ('avg_featmap', (2, 24))):
        model = backbone(SMALL, img_size=32, out_type=out_type)
        assert model.eval() is model and model.train() is model
        assert model(torch.randn(2, 3, 32, 32))[0].shape == shape
