import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample
from tiny_flow import CLASSES, student

from mmtinyvit.errors import UserError
from mmtinyvit.models.losses import sparse_soft_target_loss
from mmtinyvit.store import Record

TIMM = dict(type='mmtinyvit.DistillTimmClassifier', model_name='test_efficientnet', num_classes=CLASSES)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')
    torch.manual_seed(0)


def build(config: dict, **changes) -> torch.nn.Module:
    return MODELS.build(copy.deepcopy(config) | changes)


def samples(num: int = 4, topk: int = 3, teacher: bool = True, label: str = 'gt_label') -> list[DataSample]:
    """Samples as packed: numpy records as ``LoadTeacherLogits`` gives them."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(num):
        sample = DataSample()
        if label == 'gt_label':
            sample.set_gt_label(i % CLASSES)
        elif label == 'gt_score':
            sample.set_gt_score(torch.tensor(rng.dirichlet(np.ones(CLASSES)), dtype=torch.float32))
        if teacher:
            prob = rng.dirichlet(np.ones(CLASSES))
            index = np.sort(np.argsort(-prob)[:topk])
            sample.set_field(index, 'teacher_index')
            sample.set_field(np.log(prob[index]).astype(np.float32), 'teacher_log_prob')
            sample.set_field(np.float32(1 - prob[index].sum()), 'teacher_tail_mass')
        found.append(sample)
    return found


def teacher_of(batch: list[DataSample]) -> Record:
    return Record(*(torch.from_numpy(np.stack([s.get(name) for s in batch]))
                    for name in ('teacher_index', 'teacher_log_prob', 'teacher_tail_mass')))


@pytest.mark.parametrize('config, plain', [(student(), 'ImageClassifier'), (TIMM, 'TimmClassifier')],
                         ids=['mmpretrain', 'timm'])
def test_the_state_dict_is_a_plain_classifiers(config, plain):
    model = build(config, label_weight=0.5).eval()
    ordinary = build(config, type=plain).eval()
    ordinary.load_state_dict(model.state_dict(), strict=True)
    inputs = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(inputs, mode='tensor'), ordinary(inputs, mode='tensor'))
    model.load_state_dict(ordinary.state_dict(), strict=True)


@pytest.mark.parametrize('config', [student(), TIMM], ids=['mmpretrain', 'timm'])
def test_teacher_loss_agreement_and_gradients(config):
    model = build(config).eval()  # eval: the second forward must give the same logits
    batch, inputs = samples(label=''), torch.randn(4, 3, 32, 32)
    losses = model(inputs, batch, mode='loss')
    logits = model(inputs, mode='tensor')
    expected = sparse_soft_target_loss(logits, teacher_of(batch)).mean()
    assert set(losses) == {'loss_teacher', 'teacher_agreement'}
    assert torch.allclose(losses['loss_teacher'], expected)
    top = [int(s.teacher_index[s.teacher_log_prob.argmax()]) for s in batch]
    same = sum(int(a) == b for a, b in zip(logits.argmax(1), top, strict=True))
    assert losses['teacher_agreement'].item() == same * 25
    total, logged = model.parse_losses(losses)
    assert torch.equal(total, losses['loss_teacher']) and logged['teacher_agreement'] == same * 25
    total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


def test_agreement_is_of_the_teachers_first_class():
    model = build(student()).eval()
    batch = samples()
    logits = torch.full((4, CLASSES), -5.)
    for i, sample in enumerate(batch[:3]):
        logits[i, int(sample.teacher_index[sample.teacher_log_prob.argmax()])] = 5.
    logits[3, int(batch[3].teacher_index[batch[3].teacher_log_prob.argmin()])] = 5.
    model.forward = lambda inputs, mode: logits
    assert model.loss(None, batch)['teacher_agreement'] == 75


@pytest.mark.parametrize('label', ['gt_label', 'gt_score'])
@pytest.mark.parametrize('config', [student(), TIMM], ids=['mmpretrain', 'timm'])
def test_label_weight(config, label):
    batch, inputs = samples(label=label), torch.randn(4, 3, 32, 32)
    alone = build(config).eval()
    model = build(config, label_weight=0.3).eval()
    model.load_state_dict(alone.state_dict())
    losses = model(inputs, batch, mode='loss')
    target = torch.stack([s.gt_score for s in batch]) if label == 'gt_score' else torch.cat([s.gt_label for s in batch])
    assert torch.allclose(losses['loss_teacher'], 0.7 * alone(inputs, batch, mode='loss')['loss_teacher'])
    assert torch.allclose(losses['loss_label'], 0.3 * F.cross_entropy(model(inputs, mode='tensor'), target))


def test_the_loss_is_configured():
    hot = build(student(), distill=dict(type='mmtinyvit.SparseSoftTargetLoss', temperature=2., loss_weight=0.5)).eval()
    batch, inputs = samples(), torch.randn(4, 3, 32, 32)
    expected = sparse_soft_target_loss(hot(inputs, mode='tensor'), teacher_of(batch), 2.).mean() / 2
    assert torch.allclose(hot(inputs, batch, mode='loss')['loss_teacher'], expected)


def test_predicting_needs_no_teacher():
    predicted = build(student()).eval()(torch.randn(2, 3, 32, 32), samples(2, teacher=False), mode='predict')
    assert predicted[0].pred_score.shape == (CLASSES, )


def test_samples_without_a_record():
    with pytest.raises(UserError, match='LoadTeacherLogits'):
        build(student())(torch.randn(2, 3, 32, 32), samples(2, teacher=False), mode='loss')


@pytest.mark.parametrize('weight', [-0.1, 1.1])
def test_label_weight_out_of_range(weight):
    with pytest.raises(UserError, match='label_weight'):
        build(student(), label_weight=weight)
