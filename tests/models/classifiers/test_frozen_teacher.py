"""A teacher that is asked and never trained, seen by nobody but the one who asks."""
import copy

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import MODELS, init_default_scope
from tiny_flow import CLASSES, NORM, teacher

from mmtinyvit.errors import UserError
from mmtinyvit.models.classifiers import FrozenTeacher

OTHER = dict(mean=[10., 20., 30.], std=[40., 50., 60.], to_rgb=False)
TIMM = dict(type='TimmClassifier', model_name='test_resnet', num_classes=CLASSES)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')
    torch.manual_seed(0)


def preprocessor() -> torch.nn.Module:
    return MODELS.build(dict(type='mmpretrain.ClsDataPreprocessor', **NORM))


def frozen(checkpoint, **model) -> FrozenTeacher:
    return FrozenTeacher(teacher() | dict(data_preprocessor=dict(NORM)) | model, str(checkpoint))


# ---------------------------------------------------------------- who sees it
def test_nobody_sees_it(teacher_checkpoint):
    class Student(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)
            self.teacher = frozen(teacher_checkpoint)
            self.teacher.load()

    student = Student()
    assert list(student.state_dict()) == ['layer.weight', 'layer.bias']
    assert len(list(student.parameters())) == 2 and len(list(student.modules())) == 2
    assert copy.deepcopy(student).teacher is student.teacher
    assert ExponentialMovingAverage(student).module.teacher is student.teacher
    student.train()
    model = student.teacher.load()
    assert not any(module.training for module in model.modules())
    assert not any(p.requires_grad for p in model.parameters())


def test_it_answers_as_the_model_does_and_keeps_its_statistics(teacher_checkpoint):
    asked = frozen(teacher_checkpoint)
    reference = MODELS.build(teacher()).eval()
    reference.load_state_dict(torch.load(teacher_checkpoint)['state_dict'])
    batch = torch.randn(4, 3, 32, 32, requires_grad=True)
    before = {name: value.clone() for name, value in asked.load().state_dict().items()}
    with torch.no_grad():
        wanted = reference(batch, mode='tensor')
    for _ in range(2):
        got = asked(batch, preprocessor())
        assert not got.requires_grad and torch.allclose(got, wanted, rtol=1e-5, atol=1e-4)
    assert all(torch.equal(before[name], value) for name, value in asked.load().state_dict().items())


def test_building_it_draws_none_of_the_students_random_numbers(teacher_checkpoint):
    torch.manual_seed(3)
    frozen(teacher_checkpoint).load()
    after = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(2), after)


def test_it_follows_the_device(teacher_checkpoint):
    asked, ours = frozen(teacher_checkpoint, data_preprocessor=dict(mean=[0.] * 3, std=[1.] * 3)), preprocessor()
    assert asked(torch.randn(1, 3, 32, 32), ours).device.type == 'cpu'
    assert asked(torch.randn(1, 3, 32, 32, device='meta'), ours).device.type == 'meta'
    assert next(asked.load().parameters()).device.type == 'meta'


# ---------------------------------------------------------------- its weights and its normalisation
def test_timm_models_bring_their_normalisation(tmp_path):
    model = MODELS.build(copy.deepcopy(TIMM))
    torch.save(model.state_dict(), tmp_path / 'timm.pth')
    loaded = FrozenTeacher(TIMM, str(tmp_path / 'timm.pth')).load()
    assert loaded.data_preprocessor.to_rgb
    assert loaded.data_preprocessor.mean.flatten().tolist() == [127.5] * 3  # not ImageNet's: it is that model's own
    assert loaded.data_preprocessor.std.flatten().tolist() == [127.5] * 3
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    own = FrozenTeacher(TIMM | dict(data_preprocessor=dict(OTHER)), str(tmp_path / 'timm.pth')).load()
    assert own.data_preprocessor.mean.flatten().tolist() == OTHER['mean']


def test_a_built_model_may_be_given():
    model = MODELS.build(teacher() | dict(data_preprocessor=dict(NORM))).train()
    assert FrozenTeacher(model).load() is model and not model.training


def test_init_cfg_counts_as_weights(teacher_checkpoint):
    plain = frozen(teacher_checkpoint).load().state_dict()
    config = teacher() | dict(data_preprocessor=dict(NORM),
                              init_cfg=dict(type='Pretrained', checkpoint=str(teacher_checkpoint)))
    loaded = FrozenTeacher(config).load().state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in plain.items())


@pytest.mark.parametrize('model, checkpoint, says', [
    (teacher() | dict(data_preprocessor=dict(NORM)), None, 'has no weights'),
    (TIMM | dict(pretrained=False), None, 'has no weights'),
    (teacher(), 'x.pth', 'needs a data_preprocessor'),
    (TIMM | dict(model_name='no_such_net'), 'x.pth', 'needs a data_preprocessor'),
    (teacher() | dict(data_preprocessor=dict(NORM)), 'no_such_file.pth', 'There is no checkpoint no_such_file.pth'),
], ids=['no weights', 'timm without weights', 'no normalisation', 'unknown timm model', 'no file'])
def test_a_teacher_that_cannot_be_meant(model, checkpoint, says):
    with pytest.raises(UserError, match=says):
        FrozenTeacher(model, checkpoint).load()


def test_a_checkpoint_of_another_model(tmp_path, teacher_checkpoint):
    torch.save(dict(state_dict={}), tmp_path / 'empty.pth')
    with pytest.raises(UserError, match='holds no state dict'):
        frozen(tmp_path / 'empty.pth').load()
    with pytest.raises(UserError, match='does not fill'):
        FrozenTeacher(TIMM, str(teacher_checkpoint)).load()


def test_a_teacher_without_logits():
    model = MODELS.build(teacher() | dict(data_preprocessor=dict(NORM), head=None))
    with pytest.raises(UserError, match=r'logits \(B, C\)'):
        FrozenTeacher(model)(torch.randn(1, 3, 32, 32), preprocessor())
