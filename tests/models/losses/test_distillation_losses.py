"""Hard and soft distillation against naive references in float64, from a teacher's logits and from its record."""
import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from mmtinyvit.errors import UserError
from mmtinyvit.models.losses import (
    HardDistillationLoss,
    SoftDistillationLoss,
    hard_distillation_loss,
    soft_distillation_loss,
)
from mmtinyvit.store import Record

TEMPERATURES = [1., 3., 0.5]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def logits(batch: int = 5, classes: int = 12, scale: float = 3.) -> torch.Tensor:
    return torch.randn(batch, classes, dtype=torch.float64) * scale


def record(teacher: torch.Tensor, topk: int) -> Record:
    """The record of float64 logits, classes ascending as in a store."""
    log_prob = teacher.log_softmax(1)
    index = log_prob.topk(topk).indices.sort(1).values
    top = log_prob.gather(1, index)
    tail = (1 - top.exp().sum(1)).clamp(min=0) if topk < teacher.shape[1] else top.new_zeros(len(top))
    return Record(index, top, tail)


def recovered(stored: Record, classes: int) -> torch.Tensor:
    """The distribution that a record stands for, ``(B, C)``, with the tail spread evenly."""
    others = classes - stored.index.shape[1]
    flat = (stored.tail_mass / max(others, 1))[:, None].repeat(1, classes)
    return flat.scatter(1, stored.index, stored.log_prob.exp())


def naive_kl(student: torch.Tensor, prob: torch.Tensor, temperature: float) -> torch.Tensor:
    """sum_c p_c (ln p_c - ln q_c) T^2, class by class."""
    p = prob**(1 / temperature)
    p = p / p.sum(1, keepdim=True)
    q = (student / temperature).exp() / (student / temperature).exp().sum(1, keepdim=True)
    return (p * (p.log() - q.log())).sum(1) * temperature**2


# ---------------------------------------------------------------- soft
@pytest.mark.parametrize('temperature', TEMPERATURES)
def test_soft_from_logits(device, temperature):
    ours, teacher = logits().to(device).requires_grad_(), logits().to(device)
    reference = ours.detach().clone().requires_grad_()
    loss = soft_distillation_loss(ours, teacher, temperature)
    naive = naive_kl(reference, teacher.softmax(1), temperature)
    loss.sum().backward()
    naive.sum().backward()
    assert loss.shape == (5, ) and (loss - naive).abs().max() < 1e-12
    assert (ours.grad - reference.grad).abs().max() < 1e-12


@pytest.mark.parametrize('temperature', TEMPERATURES)
@pytest.mark.parametrize('topk', [1, 4, 11, 12])
def test_soft_from_a_record(topk, temperature):
    ours, stored = logits().requires_grad_(), record(logits(), topk)
    reference = ours.detach().clone().requires_grad_()
    loss = soft_distillation_loss(ours, stored, temperature)
    naive = naive_kl(reference, recovered(stored, 12), temperature)
    loss.sum().backward()
    naive.sum().backward()
    assert (loss - naive).abs().max() < 1e-11
    assert (ours.grad - reference.grad).abs().max() < 1e-11


@pytest.mark.parametrize('temperature', TEMPERATURES)
def test_all_classes_stored_are_the_logits(temperature):
    ours, teacher = logits(), logits()
    stored = soft_distillation_loss(ours, record(teacher, 12), temperature)
    assert (stored - soft_distillation_loss(ours, teacher, temperature)).abs().max() < 1e-12


@pytest.mark.parametrize('temperature', TEMPERATURES)
def test_soft_is_zero_for_a_student_that_equals_its_teacher(temperature):
    teacher = logits()
    assert soft_distillation_loss(teacher + 7, teacher, temperature).abs().max() < 1e-12
    stored = record(teacher, 5)
    assert soft_distillation_loss(recovered(stored, 12).log(), stored, temperature).abs().max() < 1e-12


@pytest.mark.parametrize('temperature', [1., 3.])
def test_soft_gradcheck(temperature):
    ours, teacher = logits(3, 6).requires_grad_(), logits(3, 6)
    assert gradcheck(lambda z: soft_distillation_loss(z, teacher, temperature), ours)
    assert gradcheck(lambda z: soft_distillation_loss(z, record(teacher, 3), temperature), ours)


def test_a_sure_teacher_without_tail():
    stored = Record(torch.tensor([[0, 4]]), torch.tensor([[0., -math.inf]]), torch.zeros(1))
    ours = torch.randn(1, 7, requires_grad=True)
    for temperature in (1., 2.):
        loss = soft_distillation_loss(ours, stored, temperature)
        expected = F.cross_entropy(ours / temperature, torch.tensor([0])) * temperature**2
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize('classes', [12, 1000])
def test_normalisation(classes):
    ours, teacher = logits(5, classes), logits(5, classes)
    ours_log, theirs_log = (ours / 2).log_softmax(1), (teacher / 2).log_softmax(1)
    paper = F.kl_div(ours_log, theirs_log, reduction='batchmean', log_target=True) * 4
    code = F.kl_div(ours_log, theirs_log, reduction='sum', log_target=True) * 4 / ours.numel()
    for target in (teacher, record(teacher, classes)):
        by_batch = SoftDistillationLoss(2., 'batchmean')(ours, target)
        by_number = SoftDistillationLoss(2., 'numel')(ours, target)
        assert by_batch.item() == pytest.approx(paper.item(), rel=1e-10)
        assert by_number.item() == pytest.approx(code.item(), rel=1e-10)
        assert by_batch.item() == pytest.approx(by_number.item() * classes, rel=1e-12)
        weighted = SoftDistillationLoss(2., 'numel', loss_weight=3.)(ours, target)
        assert weighted.item() == pytest.approx(3 * code.item(), rel=1e-10)


# ---------------------------------------------------------------- hard
@pytest.mark.parametrize('topk', [1, 4, 12])
def test_hard_is_the_cross_entropy_with_the_first_class(topk):
    ours, teacher = logits().requires_grad_(), logits()
    first = [max(range(12), key=lambda c: row[c]) for row in teacher.tolist()]
    naive = torch.stack([-(z.exp() / z.exp().sum()).log()[c] for z, c in zip(ours, first, strict=True)])
    for target in (teacher, record(teacher, topk)):
        loss = hard_distillation_loss(ours, target)
        assert loss.shape == (5, ) and (loss - naive).abs().max() < 1e-12
    assert torch.equal(hard_distillation_loss(ours, teacher), hard_distillation_loss(ours, record(teacher, topk)))
    assert HardDistillationLoss(loss_weight=0.25)(ours, teacher).item() == pytest.approx(naive.mean().item() / 4)
    assert gradcheck(lambda z: hard_distillation_loss(z, teacher), ours)


# ---------------------------------------------------------------- both
@pytest.mark.parametrize('loss', [hard_distillation_loss, lambda z, t: soft_distillation_loss(z, t, 3.)],
                         ids=['hard', 'soft'])
@pytest.mark.parametrize('stored', [False, True], ids=['logits', 'record'])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(loss, stored, dtype):
    half = logits(4, 1000).to(dtype).requires_grad_()
    exact = half.detach().double().requires_grad_()
    teacher = logits(4, 1000)
    target = record(teacher, 10) if stored else teacher
    with torch.autocast('cpu', torch.bfloat16):
        got = loss(half, Record(*(t.float() if t.is_floating_point() else t for t in target[:3])) if stored
                   else target.float())
    wanted = loss(exact, target)
    got.sum().backward()
    wanted.sum().backward()
    assert got.dtype == torch.float32 and torch.allclose(got.double(), wanted, rtol=1e-5, atol=1e-5)
    assert half.grad.dtype == dtype and torch.allclose(half.grad.double(), exact.grad, rtol=0.02, atol=1e-4)


@pytest.mark.parametrize('target', [logits(5, 10), logits(4, 12), Record(
    torch.zeros(5, 13, dtype=torch.long), torch.zeros(5, 13), torch.zeros(5))], ids=['classes', 'batch', 'record'])
@pytest.mark.parametrize('loss', [hard_distillation_loss, soft_distillation_loss])
def test_wrong_shapes(loss, target):
    with pytest.raises(UserError, match='num_classes'):
        loss(logits(), target)


def test_wrong_settings():
    with pytest.raises(UserError, match='temperature=0'):
        SoftDistillationLoss(temperature=0)
    with pytest.raises(UserError, match="normalisation='mean'"):
        SoftDistillationLoss(normalisation='mean')
