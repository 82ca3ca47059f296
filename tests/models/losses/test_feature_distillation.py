"""Class token and feature distillation, against naive loops in float64."""
import math

import pytest
import torch
from torch.autograd import gradcheck

from mmtinyvit.errors import UserError
from mmtinyvit.models.losses import (
    ClassTokenDistillationLoss,
    FeatureDistillationLoss,
    class_token_distillation_loss,
    feature_distillation_loss,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def normal(*shape: int, scale: float = 2.) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64) * scale


def log_softmax(row: list[float]) -> list[float]:
    return [x - math.log(sum(map(math.exp, row))) for x in row]


def test_class_token_against_a_naive_loop():
    ours, theirs = normal(4, 6), normal(4, 6)
    got = class_token_distillation_loss(ours, theirs)
    for value, row, target in zip(got.tolist(), ours.tolist(), theirs.tolist(), strict=True):
        expected = sum(math.exp(t) * (t - s) for s, t in zip(log_softmax(row), log_softmax(target), strict=True))
        assert abs(value - expected) < 1e-10


def smooth_l1(distance: float, beta: float) -> float:
    return distance**2 / (2 * beta) if distance < beta else distance - beta / 2


@pytest.mark.parametrize('beta', [2., 0.5])
def test_feature_against_a_naive_loop(beta):
    """With a beta that some distances exceed and some do not."""
    ours, theirs = normal(2, 3, 5, scale=3.), normal(2, 3, 5)
    got = feature_distillation_loss(ours, theirs, beta)
    for i in range(2):
        total = 0.
        for row, target in zip(ours[i].tolist(), theirs[i].tolist(), strict=True):
            mean = sum(target) / 5
            deviation = math.sqrt(sum((x - mean)**2 for x in target) / 5 + 1e-6)
            total += sum(smooth_l1(abs(s - (t - mean) / deviation), beta) for s, t in zip(row, target, strict=True))
        assert abs(got[i].item() - total / 15) < 1e-10


def test_gradcheck():
    token, tokens = normal(3, 4).requires_grad_(), normal(2, 3, 4).requires_grad_()
    target, targets = normal(3, 4), normal(2, 3, 4)
    assert gradcheck(lambda x: class_token_distillation_loss(x, target), token)
    assert gradcheck(lambda x: feature_distillation_loss(x, targets), tokens)


def test_identical_tokens_and_whitened_features_have_no_loss():
    token, tokens = normal(2, 5), normal(2, 3, 5)
    assert class_token_distillation_loss(token, token).abs().max() == 0
    white = (tokens - tokens.mean(-1, keepdim=True)) / (tokens.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
    assert feature_distillation_loss(white, tokens).max() < 1e-20


def test_the_teacher_may_have_any_affine_scale():
    tokens, targets = normal(2, 3, 64), normal(2, 3, 64)
    assert torch.allclose(feature_distillation_loss(tokens, targets),
                          feature_distillation_loss(tokens, targets * 40 + 7), rtol=1e-6)


def test_modules_project_and_weigh():
    student, teacher = normal(2, 4, 6).float().requires_grad_(), normal(2, 4, 8).float()
    cls, feature = ClassTokenDistillationLoss(6, 8, loss_weight=0.5), FeatureDistillationLoss(6, 8, loss_weight=0.25)
    got = cls(student, teacher)['cls'] + feature(student, teacher)['feature']
    expected = (class_token_distillation_loss(cls.projection(student[:, 0]), teacher[:, 0]).mean() / 2
                + feature_distillation_loss(feature.projection(student), teacher).mean() / 4)
    assert got.item() == pytest.approx(expected.item(), rel=1e-6)
    got.backward()
    assert student.grad[:, 0].any() and all(p.grad.any() for m in (cls, feature) for p in m.parameters())


def test_equal_widths():
    """The class token is compared as it is; features have a projection all the same."""
    assert not list(ClassTokenDistillationLoss(6, 6).parameters())
    assert FeatureDistillationLoss(6, 6).projection.weight.shape == (6, 6)


def test_queries_keys_and_values_side_by_side():
    student, teacher = normal(3, 2, 4, 5, 2).float(), normal(3, 2, 3, 5, 4).float()
    loss = FeatureDistillationLoss(24, 36, feature='qkv')
    flat = [torch.cat([part.transpose(1, 2).flatten(2) for part in each], -1) for each in (student, teacher)]
    assert loss(student, teacher)['feature'].item() == pytest.approx(
        feature_distillation_loss(loss.projection(flat[0]), flat[1]).mean().item(), rel=1e-6)


def test_half_precision():
    token, tokens = normal(2, 8).bfloat16(), normal(2, 3, 8).bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        cls, feature = class_token_distillation_loss(token, token * 3), feature_distillation_loss(tokens, tokens * 3)
    assert cls.dtype == feature.dtype == torch.float32
    assert torch.allclose(cls.double(), class_token_distillation_loss(token.double(), token.double() * 3), rtol=0.03)
    assert torch.allclose(feature.double(), feature_distillation_loss(tokens.double(), tokens.double() * 3), rtol=0.03)


def test_mismatches_are_named():
    with pytest.raises(UserError, match=r'student has 6 channels and the teacher 9, but the loss was made for 6 and 8'):
        FeatureDistillationLoss(6, 8)(torch.zeros(2, 4, 6), torch.zeros(2, 4, 9))
    with pytest.raises(UserError, match=r'\(2, 4, 8\) and the teacher.s \(2, 5, 8\)'):
        FeatureDistillationLoss(6, 8)(torch.zeros(2, 4, 6), torch.zeros(2, 5, 8))
    with pytest.raises(UserError, match=r'student has 6 channels and the teacher 8'):
        ClassTokenDistillationLoss(6, 6)(torch.zeros(2, 4, 6), torch.zeros(2, 4, 8))
    with pytest.raises(UserError, match='feature='):
        ClassTokenDistillationLoss(6, 6, feature='qkv')
    with pytest.raises(UserError, match='beta=0'):
        FeatureDistillationLoss(6, 6, beta=0)
