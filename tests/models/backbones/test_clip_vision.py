"""CLIP's visual tower: equal to timm's, converted from the published names, refused when it is something else."""
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest
import timm
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from mmtinyvit.errors import UserError
from mmtinyvit.models.backbones import CLIPVisionTower
from mmtinyvit.models.checkpoint_keys import convert_clip_state_dict
from mmtinyvit.models.checkpoints import read_state_dict
from mmtinyvit.paths import config_root, mim_root

SMALL = dict(img_size=56, width=32, depth=3, num_heads=2, out_channels=20)
TOOL = Path('tools/model_converters/clip_vit_to_mmtinyvit.py')


def published(width: int = 32, depth: int = 3, out_channels: int = 20, classes: int = 7) -> dict[str, torch.Tensor]:
    """Random tensors under the names and shapes of the published file."""
    shapes = {
        'visual.class_embedding': (width, ), 'visual.positional_embedding': (17, width),
        'visual.proj': (width, out_channels), 'visual.conv1.weight': (width, 3, 14, 14),
        'head.weight': (classes, out_channels), 'head.bias': (classes, )
    }
    norms = ['visual.ln_pre', 'visual.ln_post']
    for i in range(depth):
        block = f'visual.transformer.resblocks.{i}'
        norms += [f'{block}.ln_1', f'{block}.ln_2']
        shapes |= {
            f'{block}.attn.in_proj_weight': (3 * width, width), f'{block}.attn.in_proj_bias': (3 * width, ),
            f'{block}.attn.out_proj.weight': (width, width), f'{block}.attn.out_proj.bias': (width, ),
            f'{block}.mlp.c_fc.weight': (4 * width, width), f'{block}.mlp.c_fc.bias': (4 * width, ),
            f'{block}.mlp.c_proj.weight': (width, 4 * width), f'{block}.mlp.c_proj.bias': (width, )
        }
    shapes |= {f'{norm}.{leaf}': (width, ) for norm in norms for leaf in ('weight', 'bias')}
    return {key: torch.randn(shape) * .2 for key, shape in shapes.items()}


def small_classifier():
    head = dict(type='LinearClsHead', num_classes=7, in_channels=20)
    return MODELS.build(dict(type='ImageClassifier', backbone=dict(type='mmtinyvit.CLIPVisionTower', **SMALL),
                             head=head)).eval()


def test_published_weights_give_the_outputs_of_torchs_own_attention():
    """The structure of the original, written down with ``nn.MultiheadAttention`` and the published names."""
    weights = published()
    images = torch.randn(2, 3, 56, 56)
    x = torch.nn.functional.conv2d(images, weights['visual.conv1.weight'], stride=14).flatten(2).transpose(1, 2)
    x = torch.cat([weights['visual.class_embedding'].expand(2, 1, 32), x], 1) + weights['visual.positional_embedding']

    def norm(name, x):
        return torch.nn.functional.layer_norm(x, (32, ), weights[f'{name}.weight'], weights[f'{name}.bias'])

    x = norm('visual.ln_pre', x)
    for i in range(3):
        block = f'visual.transformer.resblocks.{i}.'
        attention = torch.nn.MultiheadAttention(32, 2, batch_first=True)
        attention.load_state_dict({k.removeprefix(block + 'attn.'): v for k, v in weights.items()
                                   if k.startswith(block + 'attn.')})
        y = norm(block + 'ln_1', x)
        x = x + attention(y, y, y, need_weights=False)[0]
        y = norm(block + 'ln_2', x) @ weights[block + 'mlp.c_fc.weight'].T + weights[block + 'mlp.c_fc.bias']
        y = y * torch.sigmoid(1.702 * y)
        x = x + y @ weights[block + 'mlp.c_proj.weight'].T + weights[block + 'mlp.c_proj.bias']
    feature = norm('visual.ln_post', x[:, 0]) @ weights['visual.proj']
    logits = feature @ weights['head.weight'].T + weights['head.bias']

    model = small_classifier()
    model.load_state_dict(convert_clip_state_dict(weights))
    with torch.inference_mode():
        torch.testing.assert_close(model.backbone(images)[0], feature, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model(images), logits, rtol=1e-4, atol=1e-4)


def test_equals_timm(randomised):
    ours = randomised(CLIPVisionTower(**SMALL)).eval()
    theirs = timm.create_model('vit_large_patch14_clip_quickgelu_224', img_size=56, embed_dim=32, depth=3, num_heads=2,
                               num_classes=20).eval()
    weights = ours.state_dict()
    renamed = {
        'cls_token': weights.pop('cls_token').view(1, 1, -1), 'pos_embed': weights.pop('pos_embed')[None],
        'patch_embed.proj.weight': weights.pop('patch_embed.weight'), 'head.weight': weights.pop('projection').T,
        'head.bias': torch.zeros(20)
    }
    for key, value in weights.items():
        for old, new in (('ln_pre', 'norm_pre'), ('ln_post', 'norm'), ('.ln', '.norm'), ('.qkv', '.attn.qkv'),
                         ('.proj', '.attn.proj'), ('.fc', '.mlp.fc')):
            key = key.replace(old, new)
        renamed[key] = value
    theirs.load_state_dict(renamed)
    images = torch.randn(2, 3, 56, 56)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images)[0], theirs(images), rtol=1e-4, atol=1e-5)


def test_the_teacher_is_vit_l14_with_clips_normalisation():
    cfg = Config.fromfile(config_root() / 'teachers/clip_vit_l14_in21k.py')
    preprocessor = MODELS.build(cfg.model.pop('data_preprocessor'))
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.backbone.parameters()) == 303_966_208  # OpenAI's visual tower of ViT-L/14
    assert model.head.fc.weight.shape == (21841, 768)
    mean, std = preprocessor.mean.flatten() / 255, preprocessor.std.flatten() / 255
    theirs = timm.create_model('vit_large_patch14_clip_quickgelu_224.openai', embed_dim=32, depth=1, num_heads=2,
                               pretrained=False).pretrained_cfg
    assert mean.tolist() == pytest.approx(theirs['mean']) and std.tolist() == pytest.approx(theirs['std'])
    assert preprocessor.to_rgb  # images are decoded as BGR


def test_another_image_size_is_refused():
    with pytest.raises(UserError, match='56x56 pixels, but got 56x70'):
        CLIPVisionTower(**SMALL)(torch.zeros(1, 3, 56, 70))
    with pytest.raises(UserError, match='multiple of num_heads'):
        CLIPVisionTower(width=10, num_heads=3)


def test_train_and_eval_return_the_model():
    model = CLIPVisionTower(**SMALL)
    assert model.train() is model and model.eval() is model


def run(monkeypatch, capfd, *args) -> tuple[int, str]:
    monkeypatch.setattr(sys, 'argv', ['clip_vit_to_mmtinyvit.py', *map(str, args)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(mim_root() / TOOL), run_name='__main__')
    return end.value.code, capfd.readouterr().err


def test_the_converter_writes_a_plain_state_dict(tmp_path, monkeypatch, capfd):
    weights = published()
    checkpoint = dict(model={k: v.half() for k, v in weights.items()}, epoch=29, config=training_config(monkeypatch))
    torch.save(checkpoint, tmp_path / 'theirs.pth')
    status, err = run(monkeypatch, capfd, tmp_path / 'theirs.pth', tmp_path / 'ours.pth')
    assert status == 0, err
    assert sorted(p.name for p in tmp_path.iterdir()) == ['ours.pth', 'theirs.pth']
    model = small_classifier()
    model.load_state_dict(torch.load(tmp_path / 'ours.pth', weights_only=True))
    assert torch.equal(model.head.fc.weight, weights['head.weight'].half().float())
    assert torch.equal(model.backbone.projection, weights['visual.proj'].half().float())


def training_config(monkeypatch) -> dict:
    """What the original packs beside the weights: a ``yacs`` node, here from a stand-in for that package."""
    module = ModuleType('yacs.config')

    class CfgNode(dict):
        __module__ = 'yacs.config'
        __qualname__ = 'CfgNode'

        def __init__(self):
            super().__init__(EPOCHS=30)
            self.__dict__['__immutable__'] = True

    module.CfgNode = CfgNode
    monkeypatch.setitem(sys.modules, 'yacs', ModuleType('yacs'))
    monkeypatch.setitem(sys.modules, 'yacs.config', module)
    return CfgNode()


class Malicious:

    def __reduce__(self):
        return (Path.touch, (Path('executed'), ))


@pytest.mark.parametrize('content, words', [
    (None, 'There is no checkpoint'),
    (b'not a checkpoint', 'is no checkpoint of tensors'),
    (dict(model=Malicious()), 'is no checkpoint of tensors'),
    (dict(model=[1, 2]), 'holds no state dict'),
    (dict(weight=torch.zeros(2)), 'does not know weight'),
])
def test_other_files_are_refused_in_one_sentence(tmp_path, monkeypatch, capfd, content, words):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / 'theirs.pth'
    if isinstance(content, bytes):
        source.write_bytes(content)
    elif content is not None:
        torch.save(content, source)
    status, err = run(monkeypatch, capfd, source, tmp_path / 'ours.pth')
    assert status == 1 and words in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / 'ours.pth').exists() and not (tmp_path / 'executed').exists()


@pytest.mark.parametrize('change', [
    lambda weights: weights.pop('visual.transformer.resblocks.1.ln_2.bias'),
    lambda weights: weights.pop('visual.proj'),
    lambda weights: weights.update({'visual.extra': torch.zeros(1)}),
    lambda weights: weights.update({'text.positional_embedding': torch.zeros(1)}),
])
def test_a_missing_or_unknown_tensor_is_refused(change):
    weights = published()
    change(weights)
    with pytest.raises(UserError, match='not CLIP'):
        convert_clip_state_dict(weights)


def test_reading_gives_the_tensors(tmp_path):
    torch.save(dict(model=published()), tmp_path / 'theirs.pth')
    assert read_state_dict(tmp_path / 'theirs.pth').keys() == published().keys()
