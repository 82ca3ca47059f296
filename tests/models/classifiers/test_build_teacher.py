"""A teacher's weights come from somewhere, all of them, or somebody says that they need not."""
from pathlib import Path

import pytest
import timm
import torch
from mmengine.registry import MODELS
from tiny_flow import CLASSES, teacher

from mmtinyvit.engine.runner import Runner
from mmtinyvit.errors import UserError
from mmtinyvit.models.classifiers import EnsembleClassifier, FrozenTeacher, build_teacher

NORM = dict(mean=[127.5] * 3, std=[127.5] * 3)
TIMM = dict(type='mmpretrain.TimmClassifier', model_name='test_resnet', data_preprocessor=NORM)


def pretrained(checkpoint, **settings) -> dict:
    return dict(init_cfg=dict(type='Pretrained', checkpoint=str(checkpoint), **settings))


def with_backbone(**backbone) -> dict:
    return teacher() | dict(backbone=teacher()['backbone'] | backbone)


@pytest.fixture
def plain(teacher_checkpoint) -> dict:
    return torch.load(teacher_checkpoint, weights_only=True)['state_dict']


def assert_filled(model, state) -> None:
    assert not model.training and all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(p.requires_grad for p in model.parameters())


def test_whole_models(teacher_checkpoint, plain):
    assert_filled(build_teacher(teacher(), str(teacher_checkpoint)), plain)
    assert_filled(build_teacher(teacher() | pretrained(teacher_checkpoint)), plain)


def test_the_names_of_the_classes_come_with_the_weights(tmp_path, plain):
    names = tuple(f'class {i}' for i in range(CLASSES))
    torch.save(dict(state_dict=plain, meta=dict(dataset_meta=dict(classes=names))), tmp_path / 'named.pth')
    head = teacher()['head'] | pretrained(tmp_path / 'named.pth', prefix='head.')
    assert build_teacher(teacher(), str(tmp_path / 'named.pth')).class_names == names
    assert build_teacher(teacher() | pretrained(tmp_path / 'named.pth')).class_names == names
    assert build_teacher(with_backbone(**pretrained(tmp_path / 'named.pth')) | dict(head=head)).class_names == names


@pytest.mark.parametrize('config', [teacher(), TIMM, TIMM | dict(pretrained=False)])
def test_no_source(config):
    with pytest.raises(UserError, match=r'teacher \w+ has no weights for (\d+) of its \1 tensors .*--random-teacher'):
        build_teacher(config)
    with pytest.raises(UserError, match='has no weights for'):
        FrozenTeacher(config | dict(data_preprocessor=NORM)).load()
    assert not build_teacher(config, random_teacher=True).training
    assert not FrozenTeacher(config | dict(data_preprocessor=NORM), random_teacher=True).load().training


def test_a_backbone_alone_leaves_a_random_head(teacher_checkpoint, plain):
    config = with_backbone(**pretrained(teacher_checkpoint, prefix='backbone.'))
    with pytest.raises(UserError, match=r'has no weights for 2 of its \d+ tensors .head.fc.weight, head.fc.bias.'):
        build_teacher(config)
    head = config['head'] | pretrained(teacher_checkpoint, prefix='head.')
    assert_filled(build_teacher(config | dict(head=head)), plain)


@pytest.mark.parametrize('config', [
    lambda file: teacher() | pretrained(file), lambda file: with_backbone(**pretrained(file, prefix='backbone.'))])
def test_what_init_cfg_names_must_fill_its_part(tmp_path, plain, config):
    """MMEngine warns and goes on."""
    half = {name: value for name, value in plain.items() if 'layer3' not in name}
    torch.save(half, tmp_path / 'half.pth')
    with pytest.raises(UserError, match='half.pth does not fill .* are missing .*layer3'):
        build_teacher(config(tmp_path / 'half.pth'))
    deeper = with_backbone(depth=34)
    torch.save(MODELS.build(deeper).state_dict(), tmp_path / 'deeper.pth')
    with pytest.raises(UserError, match='deeper.pth does not fill .* are unknown .*layer1.2'):
        build_teacher(config(tmp_path / 'deeper.pth'))


def test_timm_draws_a_new_head_for_other_classes(tmp_path):
    torch.manual_seed(0)
    torch.save(timm.create_model('test_resnet').state_dict(), tmp_path / 'timm.pth')
    settings = TIMM | dict(pretrained=True, pretrained_cfg_overlay=dict(file=str(tmp_path / 'timm.pth')))
    assert_filled(build_teacher(settings), torch.load(tmp_path / 'timm.pth', weights_only=True))
    with pytest.raises(UserError, match=r'test_resnet has no weights for 2 of its .* .model.fc.weight, model.fc.bias.'):
        build_teacher(settings | dict(num_classes=10))
    assert_filled(build_teacher(TIMM | dict(checkpoint_path=str(tmp_path / 'timm.pth'))),
                  torch.load(tmp_path / 'timm.pth', weights_only=True))


def test_each_member_of_an_ensemble(tmp_path, teacher_checkpoint):
    torch.save(timm.create_model('test_resnet', num_classes=CLASSES).state_dict(), tmp_path / 'timm.pth')
    whole = [teacher() | dict(checkpoint=str(teacher_checkpoint)), teacher() | pretrained(teacher_checkpoint),
             TIMM | dict(num_classes=CLASSES, checkpoint=str(tmp_path / 'timm.pth'))]
    ensemble = dict(type='mmtinyvit.EnsembleClassifier', teachers=whole, data_preprocessor=NORM)
    assert isinstance(build_teacher(ensemble), EnsembleClassifier)
    lacking = ensemble | dict(teachers=[*whole[:2], TIMM | dict(num_classes=CLASSES)])
    with pytest.raises(UserError, match=r'EnsembleClassifier has no weights for .* tensors .teachers.2.model.conv1'):
        build_teacher(lacking)
    torch.save(MODELS.build(ensemble).state_dict(), tmp_path / 'ensemble.pth')
    assert_filled(build_teacher(lacking, str(tmp_path / 'ensemble.pth')),
                  torch.load(tmp_path / 'ensemble.pth', weights_only=True))


# ---------------------------------------------------------------- timm's own argument for a file
class Malicious:
    def __reduce__(self):
        return Path.touch, (Path('executed'), )


@pytest.mark.parametrize('content, words', [
    (None, 'There is no checkpoint file.pth: check the path'), (b'', 'file.pth .*.it is empty.'),
    (b'PK torn', 'file.pth is no checkpoint of tensors and plain values, or it is damaged'),
    (b'not a checkpoint', r'file.pth is no checkpoint .* damaged \(Unsupported operand \d+\): get it again'),
    (dict(model=Malicious()), 'file.pth .* may run code'),
    (dict(weight=torch.ones(2)), 'file.pth does not fill TimmClassifier')])
@pytest.mark.parametrize('outer', [lambda inner: inner, lambda inner: dict(
    type='mmtinyvit.EnsembleClassifier', teachers=[inner])])
def test_a_checkpoint_path_that_is_no_such_checkpoint(tmp_path, monkeypatch, content, words, outer):
    monkeypatch.chdir(tmp_path)
    if isinstance(content, bytes):
        Path('file.pth').write_bytes(content)
    elif content is not None:
        torch.save(content, 'file.pth')
    with pytest.raises(UserError, match=words):
        build_teacher(outer(TIMM | dict(checkpoint_path='file.pth')))
    if 'does not fill' not in words:  # timm compares, and says it in its own words
        with pytest.raises(UserError, match=words):
            build_teacher(outer(TIMM | dict(pretrained=True, pretrained_cfg_overlay=dict(file='file.pth'))))
    assert not Path('executed').exists()


@pytest.mark.parametrize('library', ['mmpretrain', 'mmseg'])
def test_a_checkpoint_path_of_a_backbone(tmp_path, library):
    """As timm writes it, within parallel training, and with the classifier that the backbone lacks."""
    network = timm.create_model('test_resnet').state_dict()
    torch.save({f'module.{name}': value for name, value in network.items()}, tmp_path / 'timm.pth')
    model = dict(type='ImageClassifier', head=dict(type='LinearClsHead', num_classes=3, in_channels=96), backbone=dict(
        type=f'{library}.TIMMBackbone', model_name='test_resnet', features_only=False, pretrained=False,
        checkpoint_path=str(tmp_path / 'timm.pth')))
    runner = Runner(model, str(tmp_path), experiment_name=library, default_scope='mmpretrain')
    runner._init_model_weights()
    found = runner.model.backbone.timm_model.state_dict()
    assert found and all(torch.equal(value, network[name]) for name, value in found.items())
    torch.save(timm.create_model('test_vit').state_dict(), tmp_path / 'timm.pth')
    with pytest.raises(UserError, match='timm.pth does not fill ResNet'):
        Runner(model, str(tmp_path), experiment_name=f'{library}2', default_scope='mmpretrain')._init_model_weights()
