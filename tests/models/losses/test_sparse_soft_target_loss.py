"""Against a naive dense reference in float64."""
import math

import pytest
import torch
from memory import peak_bytes
from torch.autograd import gradcheck

from mmtinyvit.errors import UserError
from mmtinyvit.models.losses import SparseSoftTargetLoss, sparse_soft_target_loss
from mmtinyvit.store import Record

CASES = [(2, 1), (2, 2), (3, 2), (10, 1), (10, 5), (10, 9), (10, 10), (1000, 10), (1000, 999), (21841, 100)]


def record(batch: int, classes: int, topk: int, scale: float = 3.) -> tuple[torch.Tensor, ...]:
    """A teacher's record in float64, classes in ascending order as in a store."""
    prob = (torch.randn(batch, classes, dtype=torch.float64) * scale).softmax(1)
    index = prob.topk(topk).indices.sort(1).values
    top = prob.gather(1, index)
    tail = (1 - top.sum(1)).clamp(min=0) if topk < classes else torch.zeros(batch, dtype=torch.float64)
    return index, top.log(), tail


def dense_target(classes: int, index: torch.Tensor, log_prob: torch.Tensor, tail: torch.Tensor,
                 temperature: float) -> torch.Tensor:
    """The recovered distribution, flattened by the temperature, ``(B, C)`` float64."""
    others = classes - index.shape[1]
    target = (tail / max(others, 1))[:, None].repeat(1, classes).scatter(1, index, log_prob.exp())
    flat = target**(1 / temperature)
    return flat / flat.sum(1, keepdim=True) if temperature != 1 else target


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize('temperature', [1., 2.5, 0.5])
@pytest.mark.parametrize('classes, topk', CASES)
def test_forward_and_gradient(device, classes, topk, temperature):
    index, log_prob, tail = (each.to(device) for each in record(4, classes, topk))
    weights = torch.rand(4, dtype=torch.float64, device=device)
    sparse = torch.randn(4, classes, dtype=torch.float64, device=device).mul_(4).requires_grad_()
    dense = sparse.detach().clone().requires_grad_()
    loss = sparse_soft_target_loss(sparse, Record(index, log_prob, tail), temperature)
    target = dense_target(classes, index, log_prob, tail, temperature)
    naive = -(target * (dense / temperature).log_softmax(1)).sum(1) * temperature**2
    (loss * weights).sum().backward()
    (naive * weights).sum().backward()
    assert loss.shape == (4, ) and loss.dtype == torch.float64
    assert (loss - naive).abs().max() < 1e-10
    assert (sparse.grad - dense.grad).abs().max() < 1e-10


@pytest.mark.parametrize('classes, topk', [(2, 1), (6, 3), (6, 6)])
@pytest.mark.parametrize('temperature', [1., 3.])
def test_gradcheck(classes, topk, temperature):
    index, log_prob, tail = record(3, classes, topk)
    logits = torch.randn(3, classes, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda z: sparse_soft_target_loss(z, Record(index, log_prob, tail), temperature), logits)


def test_the_minimum_is_the_teacher():
    index, log_prob, tail = record(3, 8, 3)
    target = dense_target(8, index, log_prob, tail, 1.)
    logits = target.log().requires_grad_()
    loss = sparse_soft_target_loss(logits, Record(index, log_prob, tail))
    loss.sum().backward()
    assert logits.grad.abs().max() < 1e-12
    assert torch.allclose(loss, -(target * target.log()).sum(1))


@pytest.mark.parametrize('temperature', [1., 2.])
def test_no_tail_and_a_sure_teacher(temperature):
    index, log_prob = torch.tensor([[0, 4]]), torch.tensor([[0., -math.inf]])
    logits = torch.randn(1, 7, requires_grad=True)
    loss = sparse_soft_target_loss(logits, Record(index, log_prob, torch.zeros(1)), temperature)
    loss.sum().backward()
    expected = torch.nn.functional.cross_entropy(logits / temperature, torch.tensor([0])) * temperature**2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('temperature', [1., 2.])
def test_half_precision(device, dtype, temperature):
    index, log_prob, tail = Record(*(each.numpy() for each in record(4, 1000, 10))).to(device)[:3]
    log_prob, tail = log_prob.float(), tail.float()
    logits = (torch.randn(4, 1000, device=device) * 8).to(dtype).requires_grad_()
    exact = logits.detach().double().requires_grad_()
    with torch.autocast(device, torch.bfloat16):
        loss = sparse_soft_target_loss(logits, Record(index, log_prob, tail), temperature)
    loss.mean().backward()
    sparse_soft_target_loss(exact, Record(index, log_prob.double(), tail.double()), temperature).mean().backward()
    assert loss.dtype == torch.float32 and logits.grad.dtype == dtype
    assert torch.isfinite(loss).all() and torch.isfinite(logits.grad).all()
    assert torch.allclose(logits.grad.double(), exact.grad, rtol=0.03, atol=1e-4)


def test_a_head_under_autocast():
    index, log_prob, tail = (t.float() if t.is_floating_point() else t for t in record(4, 50, 5))
    head = torch.nn.Linear(16, 50)
    with torch.autocast('cpu', torch.bfloat16):
        loss = SparseSoftTargetLoss()(head(torch.randn(4, 16)), Record(index, log_prob, tail))
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(head.weight.grad).all() and head.weight.grad.any()


def test_huge_logits_stay_finite():
    index, log_prob, tail = record(2, 20, 3)
    logits = torch.tensor([[1e4] + [0.] * 19, [-3e4] + [3e4] * 19], requires_grad=True)
    loss = sparse_soft_target_loss(logits, Record(index, log_prob, tail))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize('temperature', [1., 2.])
def test_memory_for_one_array_of_the_size_of_the_logits_is_enough(temperature):
    """It holds the softmax after the forward pass, and the gradient after the backward pass."""
    index, log_prob, tail = (each.float() if each.is_floating_point() else each for each in record(200, 21841, 100))
    logits = torch.randn(200, 21841, requires_grad=True)
    peak = peak_bytes(lambda: torch.autograd.grad(
        sparse_soft_target_loss(logits, Record(index, log_prob, tail), temperature).sum(), logits))
    assert logits.nbytes <= peak < 1.5 * logits.nbytes


@pytest.mark.parametrize('temperature, smoothing, dtype', [
    (1., 0., torch.float64), (2.5, 0., torch.float64), (2., 0.3, torch.float64), (1., 0.1, torch.bfloat16)])
def test_many_rows(device, temperature, smoothing, dtype):
    """More logits than are worked on together on a CPU."""
    index, log_prob, tail = (each.to(device) for each in record(100, 21841, 100))
    weights = torch.rand(100, dtype=torch.float64, device=device)
    sparse = torch.randn(100, 21841, dtype=torch.float64, device=device).to(dtype).requires_grad_()
    dense = sparse.detach().double().requires_grad_()
    loss = sparse_soft_target_loss(sparse, Record(index, log_prob, tail), temperature, smoothing)
    target = dense_target(21841, index, log_prob, tail, temperature) * (1 - smoothing) + smoothing / 21841
    naive = -(target * (dense / temperature).log_softmax(1)).sum(1) * temperature**2
    (loss * weights).sum().backward()
    (naive * weights).sum().backward()
    close = 1e-10 if dtype == torch.float64 else 1e-4
    assert torch.allclose(loss.double(), naive, rtol=close, atol=close)
    assert torch.allclose(sparse.grad.double(), dense.grad, rtol=1e-10 if dtype == torch.float64 else 1e-2, atol=1e-10)


def test_a_second_backward_pass_gives_the_same_gradient():
    index, log_prob, tail = record(4, 50, 5)
    logits = torch.randn(4, 50, dtype=torch.float64, requires_grad=True)
    loss = sparse_soft_target_loss(logits, Record(index, log_prob, tail), 2.).sum()
    first, = torch.autograd.grad(loss, logits, retain_graph=True)
    before = first.clone()
    second, = torch.autograd.grad(3 * loss, logits)
    assert torch.equal(first, before) and torch.allclose(second, 3 * first, rtol=1e-12)


def test_a_second_derivative_is_refused():
    index, log_prob, tail = record(2, 20, 3)
    logits = torch.randn(2, 20, requires_grad=True)
    loss = sparse_soft_target_loss(logits, Record(index, log_prob, tail)).square().sum()
    gradient, = torch.autograd.grad(loss, logits, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        gradient.sum().backward()


@pytest.mark.parametrize('temperature', [1., 2.])
def test_without_gradients(temperature):
    index, log_prob, tail = record(4, 50, 5)
    logits = torch.randn(4, 50, dtype=torch.float64, requires_grad=True)
    expected = sparse_soft_target_loss(logits, Record(index, log_prob, tail), temperature)
    with torch.no_grad():
        loss = sparse_soft_target_loss(logits, Record(index, log_prob, tail), temperature)
    assert not loss.requires_grad and torch.allclose(loss, expected, rtol=1e-12)


def test_compiled():
    index, log_prob, tail = record(4, 50, 5)
    compiled = torch.compile(sparse_soft_target_loss, fullgraph=True, backend='eager')
    ours, theirs = (torch.randn(4, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
                    for _ in range(2))
    loss, expected = (function(z, Record(index, log_prob, tail), 2.) for function, z in ((compiled, ours),
                                                                                 (sparse_soft_target_loss, theirs)))
    loss.sum().backward()
    expected.sum().backward()
    assert torch.allclose(loss, expected, rtol=1e-12) and torch.allclose(ours.grad, theirs.grad, rtol=1e-10, atol=1e-12)


def test_the_module_is_the_weighted_mean():
    stored = Record(*record(5, 30, 4))
    logits = torch.randn(5, 30, dtype=torch.float64)
    each = sparse_soft_target_loss(logits, stored, 2., 0.2)
    loss = SparseSoftTargetLoss(temperature=2., loss_weight=0.25, label_smoothing=0.2)(logits, stored)
    assert loss.shape == () and loss.item() == pytest.approx(each.mean().item() / 4, rel=1e-12)


@pytest.mark.parametrize('change', [
    dict(logits=torch.zeros(3, 8)),
    dict(logits=torch.zeros(2, 8, 1)),
    dict(logits=torch.zeros(2, 2)),
    dict(index=torch.zeros(2, dtype=torch.long)),
    dict(log_prob=torch.zeros(2, 2)),
    dict(tail_mass=torch.zeros(2, 1)),
], ids=['batch', 'dimensions', 'classes', 'flat index', 'log_prob', 'tail_mass'])
def test_wrong_shapes(change):
    shapes = dict(logits=torch.zeros(2, 8), index=torch.zeros(2, 3, dtype=torch.long), log_prob=torch.zeros(2, 3),
                  tail_mass=torch.zeros(2))
    def loss(logits, **record):
        return sparse_soft_target_loss(logits, Record(**record))

    loss(**shapes)
    with pytest.raises(UserError, match=r'which do not fit'):
        loss(**shapes | change)


def test_wrong_label_smoothing():
    with pytest.raises(UserError, match='label_smoothing=1.0'):
        SparseSoftTargetLoss(label_smoothing=1.)


def test_wrong_temperature():
    with pytest.raises(UserError, match='temperature=0'):
        SparseSoftTargetLoss(temperature=0)
