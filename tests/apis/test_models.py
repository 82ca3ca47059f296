"""Models by name, config and file: built, filled completely, and ready for mmpretrain's inferencers."""
import copy

import mmpretrain
import numpy as np
import pytest
import timm
import torch
from file_server import file_server
from mmengine.config import Config

import mmtinyvit
from mmtinyvit.apis.models import get_model, plain_config
from mmtinyvit.errors import UserError
from mmtinyvit.models.checkpoint_keys import convert_state_dict
from mmtinyvit.paths import config_root
from mmtinyvit.zoo.download import local_path
from mmtinyvit.zoo.index import entries, find_entry

NAME = 'mmtinyvit-5m_in21k-distill-pre_3rdparty_in1k'
SMALL = dict(arch=dict(_delete_=True, embed_dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1),
                       window_sizes=(7, 4, 4, 4)))
SHRUNK = dict(backbone=SMALL, head=dict(in_channels=16))
MAPS = dict(backbone=SMALL | dict(out_indices=(0, 1, 2, 3), gap_before_output=False), head=None)
CLIP_NAMES = (
    ('backbone.blocks.', 'visual.transformer.resblocks.'), ('.qkv.', '.attn.in_proj_'), ('.proj.', '.attn.out_proj.'),
    ('.fc1.', '.mlp.c_fc.'), ('.fc2.', '.mlp.c_proj.'), ('.ln1.', '.ln_1.'), ('.ln2.', '.ln_2.'),
    ('backbone.patch_embed', 'visual.conv1'), ('backbone.projection', 'visual.proj'),
    ('backbone.cls_token', 'visual.class_embedding'), ('backbone.pos_embed', 'visual.positional_embedding'),
    ('head.fc.', 'head.'), ('backbone.', 'visual.'))
PHOTO = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)


def shrunk(name: str = NAME) -> torch.nn.Module:
    torch.manual_seed(0)
    classifier = get_model(name, **SHRUNK)
    for tensor in classifier.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand(tensor.shape) * .1)
    return classifier


@pytest.fixture(scope='module')
def published(tmp_path_factory):
    """A small network in the layout of the original, and the network."""
    classifier = shrunk()
    path = tmp_path_factory.mktemp('published') / 'net.pth'
    torch.save(dict(model=convert_state_dict(classifier.state_dict(), 'Cream'), epoch=30), path)
    return path, classifier


@pytest.fixture
def pinned(monkeypatch, published):
    """get_model with a small network in the place of the 5M one."""
    cfg = Config(plain_config(mmtinyvit.get_config(NAME)))
    cfg.merge_from_dict(dict(model=copy.deepcopy(SHRUNK)))
    monkeypatch.setattr('mmtinyvit.apis.models.get_config', lambda name: cfg)
    return published


def same(one, other) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


# ---------------------------------------------------------------- weights
def test_by_name_with_published_weights(pinned, tmp_path, monkeypatch):
    """From the cache, as tools/download_checkpoints.py leaves them."""
    path, classifier = pinned
    monkeypatch.setenv('MMTINYVIT_CACHE', str(tmp_path))
    where = local_path(find_entry(NAME).url)
    where.parent.mkdir(parents=True)
    where.write_bytes(path.read_bytes())
    assert where == tmp_path / 'checkpoints' / 'tiny_vit_5m_22kto1k_distill.pth'
    assert same(get_model(NAME, pretrained=True), classifier)
    assert not same(get_model(NAME), classifier)


def test_weights_by_path_and_url(pinned, tmp_path, monkeypatch):
    path, classifier = pinned
    assert same(mmtinyvit.get_model(NAME, pretrained=path), classifier)
    monkeypatch.setenv('MMTINYVIT_CACHE', str(tmp_path))
    with file_server() as server:
        server.files['/net.pth'] = path.read_bytes()
        assert same(get_model(NAME, pretrained=f'{server.url}/net.pth'), classifier)


def small_config(path, base: str, model: dict):
    path.write_text(f'_base_ = {str(config_root() / base)!r}\nmodel = {model!r}\n')
    return path


def test_a_config_takes_weights_too(published, tmp_path):
    path, classifier = published
    config = small_config(tmp_path / 'small.py', 'tinyvit/tiny_vit_5m_finetune_in1k.py', SHRUNK)
    assert same(get_model(config, pretrained=path), classifier)
    with pytest.raises(UserError, match='has no published weights: give a checkpoint as pretrained'):
        get_model('tinyvit/tiny_vit_5m_finetune_in1k.py', pretrained=True)


def test_a_new_head_is_the_only_thing_that_may_start_anew(pinned):
    path, classifier = pinned
    maps = get_model(NAME, pretrained=path, **MAPS)
    assert [tuple(each.shape) for each in maps.backbone(torch.zeros(1, 3, 64, 40))] == [
        (1, 8, 16, 10), (1, 8, 8, 5), (1, 16, 4, 3), (1, 16, 2, 2)]
    assert same(maps.backbone, classifier.backbone)
    ten = get_model(NAME, pretrained=path, head=dict(num_classes=10))
    assert same(ten.backbone, classifier.backbone) and ten.head.fc.out_features == 10
    with pytest.raises(UserError, match='does not fill ImageClassifier: of .* of another shape'):
        get_model(NAME, pretrained=path, backbone=dict(arch='5m'), head=dict(in_channels=320))


def test_the_teacher_takes_its_published_file(tmp_path):
    """The names of the tensors are CLIP's."""
    config = small_config(tmp_path / 'clip.py', 'teachers/clip_vit_l14_in21k_test.py', dict(
        backbone=dict(img_size=32, patch_size=16, width=32, depth=1, num_heads=1, out_channels=16),
        head=dict(in_channels=16, num_classes=20)))
    model, theirs = get_model(config), {}
    for name, value in model.state_dict().items():
        for here, there in CLIP_NAMES:
            name = name.replace(here, there)
        theirs[name] = value + .1
    torch.save(dict(model=theirs), tmp_path / 'clip.pth')
    loaded = get_model(config, pretrained=tmp_path / 'clip.pth')
    assert all(torch.equal(value, model.state_dict()[name] + .1) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize('kind', ['deit-tiny', 'deit-tiny-distilled'])
def test_deit_takes_the_names_of_its_publisher(kind, tmp_path):
    """timm has kept them, and computes."""
    theirs = timm.create_model(f'{kind.replace("-", "_")}_patch16_224').eval()
    torch.save(dict(model=theirs.state_dict()), tmp_path / 'deit.pth')
    ours = get_model(f'mmtinyvit-{kind}_3rdparty_in1k', pretrained=tmp_path / 'deit.pth')
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(image, mode='tensor'), theirs(image), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- inference
@pytest.mark.parametrize('name', ['mmtinyvit-5m_distill_3rdparty_in21k', NAME])
def test_mmpretrains_inference(name):
    model = shrunk(name)
    result = mmpretrain.inference_model(model, PHOTO)
    classes = 21841 if 'in21k' in name.rpartition('_')[2] else 1000
    assert len(result['pred_scores']) == classes
    assert result['pred_class'] == model._dataset_meta['classes'][result['pred_label']]


def test_mmpretrain_knows_the_names():
    """Our recipe, mmpretrain's function."""
    model = mmpretrain.get_model(NAME, **copy.deepcopy(SHRUNK))
    assert mmpretrain.inference_model(model, PHOTO)['pred_class'] in model._dataset_meta['classes']


def test_the_pipeline_of_higher_resolution():
    model = shrunk('mmtinyvit-21m_in21k-distill-pre_3rdparty_in1k-384px')
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    inferencer = mmpretrain.ImageClassificationInferencer(model)
    assert len(inferencer([PHOTO, PHOTO], batch_size=2)) == 2
    assert seen == [(2, 3, 384, 384)]


def test_a_plain_config_names_no_file_of_this_machine():
    loader = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile')]))
    plain = plain_config(Config(dict(test_dataloader=loader, model=dict(
        type='TimmClassifier', model_name='test_resnet', pretrained=True, checkpoint_path='/here/net.pth',
        init_cfg=dict(type='Pretrained', checkpoint='/here/net.pth')))))
    assert plain['model'].keys() == {'type', 'model_name', 'data_preprocessor'}


def test_no_teacher_comes_along():
    for name in entries():
        plain = plain_config(mmtinyvit.get_config(name)) if 'distill' in name and '-tiny' in name else None
        assert plain is None or ('teacher' not in plain['model'] and plain['model']['type'].endswith('ImageClassifier'))
    with pytest.raises(UserError, match='which is no classifier of this kind'):
        plain_config(Config(dict(model=dict(type='MaskRCNN'))))
    with pytest.raises(UserError, match='no test_dataloader'):
        plain_config(Config(dict(model=dict(type='ImageClassifier'))))
