import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample
from tiny_flow import CLASSES, NORM, teacher

from mmtinyvit.errors import UserError
from mmtinyvit.models.classifiers import FrozenTeacher

DEIT = dict(
    backbone=dict(type='mmtinyvit.DistilledDeiT', img_size=32, arch=dict(
        embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)),
    head=dict(type='mmtinyvit.DeiTDistillHead', num_classes=CLASSES, in_channels=24))
TINY = dict(
    backbone=dict(type='mmtinyvit.TinyViT', arch=dict(
        embed_dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_sizes=(7, 4, 4, 4))),
    head=dict(type='mmtinyvit.DeiTDistillHead', num_classes=CLASSES, in_channels=16))
SOFT = dict(type='mmtinyvit.SoftDistillationLoss', temperature=3.)
HARD = dict(type='mmtinyvit.HardDistillationLoss')
students = pytest.mark.parametrize('student', [DEIT, TINY], ids=['deit', 'tinyvit'])


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')
    torch.manual_seed(0)


def build(student: dict = DEIT, **changes) -> torch.nn.Module:
    torch.manual_seed(1)
    model = MODELS.build(copy.deepcopy(dict(
        type='mmtinyvit.DeiTDistillClassifier', data_preprocessor=dict(NORM), **student) | changes))
    for parameter in model.parameters():  # no layer starts at zero, so that each of them matters
        torch.nn.init.normal_(parameter, std=.2)
    return model.eval()


def asked(checkpoint, **data_preprocessor) -> FrozenTeacher:
    return FrozenTeacher(teacher() | dict(data_preprocessor=dict(NORM) | data_preprocessor), str(checkpoint))


def samples(num: int = 4, mixed: bool = False) -> list[DataSample]:
    found = [DataSample().set_gt_label(i) for i in range(num)]
    if mixed:
        scores = torch.rand(num, CLASSES).softmax(1)
        for sample, score in zip(found, scores, strict=True):
            sample.set_gt_score(score)
    return found


def with_records(batch: list[DataSample], logits: torch.Tensor, topk: int = CLASSES) -> list[DataSample]:
    """The samples with the records of a teacher's logits, as ``LoadTeacherLogits`` packs them."""
    batch = copy.deepcopy(batch)
    for sample, row in zip(batch, logits.log_softmax(1), strict=True):
        index = row.topk(topk).indices.sort().values
        sample.set_field(index.numpy(), 'teacher_index')
        sample.set_field(row[index].numpy().astype(np.float32), 'teacher_log_prob')
        sample.set_field(np.float32(max(1 - row[index].exp().sum().item(), 0) if topk < CLASSES else 0),
                         'teacher_tail_mass')
    return batch


# ---------------------------------------------------------------- the losses
@students
@pytest.mark.parametrize('distill', [HARD, SOFT], ids=['hard', 'soft'])
@pytest.mark.parametrize('mixed', [False, True])
def test_the_sum_of_deits_equations(student, distill, mixed, teacher_checkpoint):
    head = student['head'] | dict(loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'))
    theirs = asked(teacher_checkpoint)
    model = build(student | dict(head=head), teacher=theirs, distill=distill, alpha=0.3)
    inputs, batch = torch.randn(4, 3, 32, 32), samples(mixed=mixed)
    first, second = model.head.separate(model.extract_feat(inputs))
    target = torch.stack([s.gt_score for s in batch]) if mixed else torch.arange(4)
    said = theirs(inputs, model.data_preprocessor)
    label = F.cross_entropy(first, target, label_smoothing=0.1)
    if distill is HARD:
        distilled = F.cross_entropy(second, said.argmax(1))
    else:
        distilled = F.kl_div((second / 3).log_softmax(1), (said / 3).softmax(1), reduction='batchmean') * 9
    losses = model(inputs, batch, mode='loss')
    assert set(losses) == {'loss_label', 'loss_distill', 'teacher_agreement'}
    assert torch.allclose(losses['loss_label'], 0.7 * label, rtol=1e-5)
    assert torch.allclose(losses['loss_distill'], 0.3 * distilled, rtol=1e-5)
    assert losses['teacher_agreement'] == (second.argmax(1) == said.argmax(1)).sum() * 25
    total, _ = model.parse_losses(losses)
    assert torch.allclose(total, 0.7 * label + 0.3 * distilled, rtol=1e-5)


@students
@pytest.mark.parametrize('distill', [HARD, SOFT], ids=['hard', 'soft'])
def test_each_loss_trains_its_own_head_and_the_backbone(student, distill, teacher_checkpoint):
    model = build(student, teacher=asked(teacher_checkpoint), distill=distill)
    losses = model(torch.randn(4, 3, 32, 32), samples(), mode='loss')
    class_head = list(model.head.layers.head.parameters())
    distillation_head = list(model.head.layers.head_dist.parameters())
    for name, own, other in (('loss_label', class_head, distillation_head),
                             ('loss_distill', distillation_head, class_head)):
        gradients = torch.autograd.grad(losses[name], own + other, retain_graph=True, allow_unused=True)
        assert all(g.abs().max() > 0 for g in gradients[:2]) and gradients[2:] == (None, None)
        through = torch.autograd.grad(losses[name], list(model.backbone.parameters()), retain_graph=True)
        assert all(torch.isfinite(g).all() for g in through) and sum(g.abs().max() > 0 for g in through) > 10
    tokens = [p for n, p in model.named_parameters() if n.endswith('_token')]
    assert len(tokens) == (2 if student is DEIT else 0)
    assert all(g.abs().max() > 0 for g in torch.autograd.grad(sum(losses.values()), tokens)) if tokens else True


@students
def test_inference_is_the_mean_of_the_logits(student):
    model = build(student)
    inputs = torch.randn(3, 3, 32, 32)
    first, second = model.head.separate(model.extract_feat(inputs))
    assert torch.allclose(model(inputs), (first + second) / 2)
    scores = torch.stack([sample.pred_score for sample in model(inputs, samples(3), mode='predict')])
    assert torch.allclose(scores, ((first + second) / 2).softmax(1))
    assert not torch.allclose(first, second)


# ---------------------------------------------------------------- a store, or a teacher beside the student
@students
@pytest.mark.parametrize('distill', [HARD, SOFT], ids=['hard', 'soft'])
@pytest.mark.parametrize('normalisation', [NORM, dict(mean=[100.] * 3, std=[50.] * 3, to_rgb=False)],
                         ids=['same', 'other'])
def test_stored_and_online_targets_give_the_same_loss(student, distill, normalisation, teacher_checkpoint):
    theirs = asked(teacher_checkpoint, **normalisation)
    online = build(student, teacher=theirs, distill=distill)
    stored = build(student, distill=distill)
    stored.load_state_dict(online.state_dict(), strict=True)
    inputs, batch = torch.randn(4, 3, 32, 32), samples()
    records = with_records(batch, theirs(inputs, online.data_preprocessor))
    first, second = (model(inputs, each, mode='loss') for model, each in ((online, batch), (stored, records)))
    assert first['teacher_agreement'] == second['teacher_agreement']
    for name in ('loss_label', 'loss_distill'):
        assert torch.allclose(first[name], second[name], rtol=1e-5, atol=1e-6)
    a, b = (torch.autograd.grad(each['loss_distill'], model.backbone.parameters()) for each, model in (
        (first, online), (second, stored)))
    assert all(torch.allclose(x, y, rtol=1e-3, atol=1e-6) for x, y in zip(a, b, strict=True))


def test_the_checkpoint_knows_no_teacher(teacher_checkpoint):
    online, stored = build(teacher=asked(teacher_checkpoint)), build()
    assert online.state_dict().keys() == stored.state_dict().keys()
    assert len(list(online.parameters())) == len(list(stored.parameters()))
    plain = MODELS.build(dict(type='ImageClassifier', **copy.deepcopy(DEIT))).eval()
    plain.load_state_dict(online.state_dict(), strict=True)
    inputs = torch.randn(2, 3, 32, 32)
    assert torch.equal(plain(inputs), online(inputs))


def test_two_sources_of_targets_are_refused(teacher_checkpoint):
    model = build(teacher=asked(teacher_checkpoint))
    with pytest.raises(UserError, match='remove LoadTeacherLogits'):
        model(torch.randn(4, 3, 32, 32), with_records(samples(), torch.randn(4, CLASSES)), mode='loss')


def test_no_source_of_targets_is_refused():
    with pytest.raises(UserError, match='LoadTeacherLogits'):
        build()(torch.randn(4, 3, 32, 32), samples(), mode='loss')


def test_a_teacher_of_other_classes(teacher_checkpoint):
    model = build(DEIT | dict(head=DEIT['head'] | dict(num_classes=7)), teacher=asked(teacher_checkpoint))
    with pytest.raises(UserError, match='set num_classes'):
        model(torch.randn(4, 3, 32, 32), samples(), mode='loss')


def test_faults_of_the_teacher_show_before_training_and_not_in_a_test():
    model = build(teacher=dict(model=teacher() | dict(data_preprocessor=dict(NORM))))
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, CLASSES)
    with pytest.raises(UserError, match='has no weights'):
        model.init_weights()


# ---------------------------------------------------------------- alpha
def test_without_distillation_no_teacher_is_asked_and_its_head_stays():
    model = build(alpha=0.)
    losses = model(torch.randn(4, 3, 32, 32), samples(), mode='loss')
    assert set(losses) == {'loss_label'}
    losses['loss_label'].backward()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name, _ in model.named_parameters()} - trained == {
        'head.layers.head_dist.weight', 'head.layers.head_dist.bias'}
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_with_the_teacher_alone_labels_are_not_read():
    model = build(alpha=1.)
    records = with_records([DataSample() for _ in range(4)], torch.randn(4, CLASSES), topk=3)
    losses = model(torch.randn(4, 3, 32, 32), records, mode='loss')
    assert set(losses) == {'loss_distill', 'teacher_agreement'}
    losses['loss_distill'].backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert not any(p.requires_grad for p in model.head.layers.head.parameters())


@pytest.mark.parametrize('alpha', [-0.1, 1.1])
def test_alpha_out_of_range(alpha):
    with pytest.raises(UserError, match='alpha='):
        build(alpha=alpha)


def test_one_head_is_not_enough():
    with pytest.raises(UserError, match='DeiTDistillHead'):
        build(TINY | dict(head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=16)))


# ---------------------------------------------------------------- mixed precision
@students
@pytest.mark.parametrize('distill', [HARD, SOFT], ids=['hard', 'soft'])
def test_autocast(student, distill, teacher_checkpoint):
    model = build(student, teacher=asked(teacher_checkpoint), distill=distill).train()
    inputs, batch = torch.randn(4, 3, 32, 32), samples(mixed=True)
    exact = model(inputs, batch, mode='loss')
    with torch.autocast('cpu', torch.bfloat16):
        losses = model(inputs, batch, mode='loss')
    for name in ('loss_label', 'loss_distill'):
        assert losses[name].dtype == torch.float32
        assert losses[name].item() == pytest.approx(exact[name].item(), rel=0.1)
    sum(losses[name] for name in ('loss_label', 'loss_distill')).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
