"""Against a naive loop in float64, and a straightforward implementation for what is kept alive."""
import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from mmtinyvit.errors import UserError
from mmtinyvit.models.losses import RelationDistillationLoss, relation_distillation_loss


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def qkv(heads: int = 2, tokens: int = 5, width: int = 3, batch: int = 3, scale: float = 2.) -> torch.Tensor:
    return torch.randn(3, batch, heads, tokens, width, dtype=torch.float64) * scale


def naive(a, b, ta, tb, scale, teacher_scale, softmax) -> list[float]:
    """The definition, entry by entry."""
    B, H, N, _ = a.shape
    totals = []
    for i in range(B):
        total = 0.
        for h in range(H):
            for n in range(N):
                ours = [scale * sum((a[i, h, n] * b[i, h, m]).tolist()) for m in range(N)]
                theirs = [teacher_scale * sum((ta[i, h, n] * tb[i, h, m]).tolist()) for m in range(N)]
                if softmax:
                    log_s = [x - math.log(sum(map(math.exp, ours))) for x in ours]
                    log_t = [x - math.log(sum(map(math.exp, theirs))) for x in theirs]
                    total += sum(math.exp(t) * (t - s) for s, t in zip(log_s, log_t, strict=True))
                else:
                    total += sum((s - t)**2 for s, t in zip(ours, theirs, strict=True)) / N
        totals.append(total / (H * N))
    return totals


def straightforward(a, b, ta, tb, softmax=True) -> torch.Tensor:
    ours, theirs = (a @ b.mT) * a.shape[-1]**-0.5, (ta @ tb.mT) * ta.shape[-1]**-0.5
    if not softmax:
        return F.mse_loss(ours, theirs)
    return F.kl_div(ours.log_softmax(-1), theirs.log_softmax(-1), reduction='none', log_target=True).sum(-1).mean()


@pytest.mark.parametrize('softmax', [True, False])
@pytest.mark.parametrize(('scale', 'teacher_scale'), [(None, None), (0.3, 1.7)])
@pytest.mark.parametrize('relation', ['qq', 'kk', 'vv', 'qk'])
def test_against_a_naive_loop(device, relation, scale, teacher_scale, softmax):
    ours, theirs = (dict(zip('qkv', x.to(device), strict=True)) for x in (qkv(width=3), qkv(width=4)))
    tensors = [x[name] for x in (ours, theirs) for name in relation]
    got = relation_distillation_loss(*tensors, scale, teacher_scale, softmax)
    expected = naive(*tensors, scale or 3**-0.5, teacher_scale or 4**-0.5, softmax)
    assert got.dtype == torch.float64 and got.shape == (3, )
    assert (got.cpu() - torch.tensor(expected, dtype=torch.float64)).abs().max() < 1e-10


@pytest.mark.parametrize('softmax', [True, False])
@pytest.mark.parametrize('relation', ['vv', 'qk'])
def test_gradcheck(relation, softmax):
    ours, theirs = (dict(zip('qkv', x, strict=True)) for x in (qkv(tokens=4), qkv(tokens=4, width=5)))
    inputs = [ours[name].requires_grad_() for name in sorted(set(relation))]
    targets = [theirs[name] for name in relation]

    def loss(*tensors):
        named = dict(zip(sorted(set(relation)), tensors, strict=True))
        return relation_distillation_loss(*(named[name] for name in relation), *targets, softmax=softmax)

    assert gradcheck(loss, inputs)


@pytest.mark.parametrize('tokens', [7, 512, 1000])
@pytest.mark.parametrize('softmax', [True, False])
def test_a_batch_is_its_images(device, tokens, softmax):
    """Whether a CPU works on all of them together, on two or on one; also in the gradient, with a factor per image."""
    student, teacher = qkv(heads=2, tokens=tokens).to(device), qkv(heads=2, tokens=tokens, width=6).to(device)
    weights = torch.rand(3, dtype=torch.float64, device=device)
    grads = []
    for parts in ([slice(3)], [slice(i, i + 1) for i in range(3)]):
        x = student.clone().requires_grad_()
        losses = torch.cat([relation_distillation_loss(x[0, part], x[1, part], teacher[0, part], teacher[1, part],
                                                       softmax=softmax) for part in parts])
        (losses * weights).sum().backward()
        grads.append(x.grad)
    assert torch.allclose(*grads, rtol=1e-11, atol=1e-15) and grads[0].any()


@pytest.mark.parametrize('softmax', [True, False])
def test_identical_networks_have_no_loss_and_no_gradient(softmax):
    student = qkv(heads=3, tokens=9).float().requires_grad_()
    terms = RelationDistillationLoss(('qq', 'kk', 'vv', 'qk'), softmax)(student, student.detach().clone())
    assert list(terms) == ['qq', 'kk', 'vv', 'qk'] and all(value.item() == 0 for value in terms.values())
    sum(terms.values()).backward()
    assert not student.grad.any()


def test_the_module_weighs_each_relation():
    student, teacher = qkv(), qkv(width=4)
    terms = RelationDistillationLoss(loss_weight=0.25)(student, teacher)
    assert list(terms) == ['qk', 'vv']
    for name, value in terms.items():
        i, j = ('qkv'.index(each) for each in name)
        whole = straightforward(student[i], student[j], teacher[i], teacher[j])
        assert value.shape == () and value.item() == pytest.approx(0.25 * whole.item(), rel=1e-12)


# ---------------------------------------------------------------- precision
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    """Products of 600 would be far beyond what softmax in half precision keeps apart."""
    student, teacher = (qkv(heads=2, tokens=16, width=16, scale=6.).to(dtype) for _ in range(2))
    student.requires_grad_()
    exact = student.detach().double().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        terms = RelationDistillationLoss()(student, teacher)
    sum(terms.values()).backward()
    expected = RelationDistillationLoss()(exact, teacher.double())
    sum(expected.values()).backward()
    assert student.grad.dtype == dtype
    for name, value in terms.items():
        assert value.dtype == torch.float32 and value.item() == pytest.approx(expected[name].item(), rel=1e-5)
    assert torch.allclose(student.grad.double(), exact.grad, rtol=2**-7, atol=1e-5)


def test_sure_teacher_stays_finite():
    """Probabilities that round to 0 in float32; log(softmax(x)) would be -inf."""
    student, teacher = torch.randn(3, 1, 1, 4, 2) * 1e3, torch.randn(3, 1, 1, 4, 2) * 1e3
    student.requires_grad_()
    loss = sum(RelationDistillationLoss()(student, teacher).values())
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(student.grad).all() and student.grad.any()


# ---------------------------------------------------------------- memory
def kept_bytes(function) -> tuple[int, list[tuple[int, ...]]]:
    """What autograd keeps for the backward pass of ``function``: bytes and shapes, each storage once."""
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
            lambda t: kept.update({t.untyped_storage().data_ptr(): t}) or t, lambda t: t):
        result = function()  # noqa: F841  the graph holds what it saved until here
    return sum(t.untyped_storage().nbytes() for t in kept.values()), [tuple(t.shape) for t in kept.values()]


@pytest.mark.parametrize('softmax', [True, False])
def test_no_relation_outlives_the_forward_pass(softmax):
    B, H, N, d = 2, 12, 197, 64
    student, teacher = torch.randn(3, B, H, N, d, requires_grad=True), torch.randn(3, B, H, N, d)
    ours, shapes = kept_bytes(lambda: RelationDistillationLoss(softmax=softmax)(student, teacher))
    theirs, _ = kept_bytes(lambda: [straightforward(student[i], student[j], teacher[i], teacher[j], softmax)
                                    for i, j in ((0, 1), (2, 2))])
    relation = B * H * N * N * 4
    assert not any(shape[-2:] == (N, N) for shape in shapes)
    assert ours <= 3 * B * H * N * d * 4 + 1024  # one gradient for q, one for k, one for v
    assert theirs >= 2 * relation and ours < theirs / 2


def test_nothing_is_kept_without_gradients():
    with torch.no_grad():
        size, _ = kept_bytes(lambda: relation_distillation_loss(*(torch.randn(2, 2, 5, 3) for _ in range(4))))
    assert size == 0


# ---------------------------------------------------------------- wrong input
@pytest.mark.parametrize(('teacher', 'said'), [
    (dict(heads=12), 'student has 2 heads over 5 tokens of 3 images and the teacher 12 heads over 5 tokens'),
    (dict(tokens=6), 'the teacher 2 heads over 6 tokens'),
    (dict(batch=4), 'of 4 images'),
])
def test_mismatch_names_both_sides(teacher, said):
    with pytest.raises(UserError, match=said):
        RelationDistillationLoss()(qkv(), qkv(**teacher))


@pytest.mark.parametrize('relations', [[], ['qv'], 'qk', ['qk', 'xx']])
def test_unknown_relations(relations):
    with pytest.raises(UserError, match='some of qq, kk, vv, qk'):
        RelationDistillationLoss(relations)
