"""Hinton's, the binary and the decoupled comparison, against their formulas in numpy, float64, written apart from them."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from specenhance.distillation.binary import binary
from specenhance.distillation.decoupled import decoupled
from specenhance.distillation.loss import DistillationLoss, comparison

B, C = 6, 5
INF = float("inf")
HARD = torch.tensor([0, 4, 2, 2, 1, 3])


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(2, B, C, generator=generator, dtype=torch.float64)
    return student.requires_grad_(), teacher.requires_grad_()


def softmax(z):
    return np.exp(z) / np.exp(z).sum()


def kl(p, q):
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def two_parts(student, teacher, classes, tau):
    """TCKD and NCKD of each clip, and the teacher's probability of its class."""
    found = []
    for z_s, z_t, t in zip(student, teacher, classes, strict=True):
        p, q = softmax(z_t / tau), softmax(z_s / tau)
        others = [i for i in range(len(p)) if i != t]
        tckd = kl([p[t], sum(p[others])], [q[t], sum(q[others])])
        nckd = kl(p[others] / sum(p[others]), q[others] / sum(q[others])) if sum(p[others]) else 0.0
        found.append((tckd, nckd, p[t]))
    return np.array(found).T


@pytest.mark.parametrize(("tau", "alpha", "beta"), [(1.0, 1.0, 8.0), (4.0, 0.5, 2.0), (5.0, 0.0, 1.0), (2.0, 1.0, 0.0)])
def test_decoupled_is_the_formula(logits, tau, alpha, beta):
    student, teacher = logits
    tckd, nckd, _ = two_parts(student.detach().numpy(), teacher.detach().numpy(), HARD, tau)
    expected = tau**2 * (alpha * tckd.mean() + beta * nckd.mean())
    assert decoupled(student, teacher, HARD, tau, alpha, beta).item() == pytest.approx(expected, rel=1e-12)
    losses = DistillationLoss(nn.CrossEntropyLoss(), 0.3, tau, compare=comparison("decoupled", alpha=alpha, beta=beta))(
        student, teacher, HARD
    )
    label = nn.functional.cross_entropy(student, HARD).item()
    assert losses.total.item() == pytest.approx(0.3 * label + 0.7 * expected, rel=1e-12)


def test_the_two_parts_make_up_the_whole_divergence(logits):
    student, teacher = (z.detach().numpy() for z in logits)
    tckd, nckd, p = two_parts(student, teacher, HARD, 4.0)
    whole = [kl(softmax(z_t / 4), softmax(z_s / 4)) for z_s, z_t in zip(student, teacher, strict=True)]
    np.testing.assert_allclose(tckd + (1 - p) * nckd, whole, rtol=1e-12)


def test_a_mixed_clip_counts_as_its_larger_part(logits):
    student, teacher = logits
    mixed = 0.7 * nn.functional.one_hot(HARD, C).double() + 0.3 * nn.functional.one_hot(HARD.roll(1), C).double()
    assert torch.equal(decoupled(student, teacher, mixed, 2.0), decoupled(student, teacher, HARD, 2.0))


def test_decoupled_has_the_gradient_of_differences_and_only_for_the_student(logits):
    student, teacher = logits
    loss = DistillationLoss(nn.CrossEntropyLoss(), 0.0, 3.0, compare=comparison("decoupled"))
    assert torch.autograd.gradcheck(lambda z: loss(z, teacher, HARD).total, student)
    loss(student, teacher, HARD).total.backward()
    assert teacher.grad is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_classes_that_the_teacher_excludes_cost_no_more_than_they_say(logits, dtype):
    student, teacher = (z.detach().clone() for z in logits)
    teacher[0, 1] = -INF  # one of the others
    teacher[1, :4] = -INF  # all others
    teacher[2, 2] = -INF  # the label's own
    tckd, nckd, _ = two_parts(student.numpy(), teacher.numpy(), HARD, 2.0)
    z = student.to(dtype).requires_grad_()
    value = decoupled(z, teacher.to(dtype), HARD, 2.0)
    value.backward()
    assert value.item() == pytest.approx(
        4 * (tckd.mean() + 8 * nckd.mean()), rel=1e-12 if dtype == torch.float64 else 1e-5
    )
    assert z.grad.isfinite().all()
    teacher[3] = -INF  # no distribution
    assert decoupled(student, teacher, HARD, 2.0).isnan()


@pytest.mark.parametrize("tau", [1.0, 5.0])
def test_hintons_is_the_formula(logits, tau):
    student, teacher = logits
    found = DistillationLoss(nn.CrossEntropyLoss(), 0.5, tau, compare=comparison("hinton"))(student, teacher, HARD)
    pairs = zip(student.detach().numpy(), teacher.detach().numpy(), strict=True)
    expected = tau**2 * np.mean([kl(softmax(z_t / tau), softmax(z_s / tau)) for z_s, z_t in pairs])
    assert found.distill.item() == pytest.approx(expected, rel=1e-12)
    flags = DistillationLoss(nn.CrossEntropyLoss(), 0.5, tau, tau, scale_by_temperature=True)
    assert torch.equal(found.total, flags(student, teacher, HARD).total)


def test_the_papers_by_name_is_the_papers_by_default(logits):
    student, teacher = logits
    by_name = DistillationLoss(nn.CrossEntropyLoss(), compare=comparison("paper"))(student, teacher, HARD)
    assert torch.equal(by_name.total, DistillationLoss(nn.CrossEntropyLoss())(student, teacher, HARD).total)


@pytest.mark.parametrize("tau", [1.0, 5.0])
def test_binary_is_the_formula(logits, tau):
    student, teacher = logits
    t, s = (1 / (1 + np.exp(-z)) for z in (teacher.detach().numpy() / tau, student.detach().numpy()))
    expected = -(t * np.log(s) + (1 - t) * np.log(1 - s)).mean()
    assert binary(student, teacher, tau).item() == pytest.approx(expected, rel=1e-12)
    loss = DistillationLoss(nn.BCEWithLogitsLoss(), 0.0, tau, compare=comparison("binary"))
    loss(student, teacher, nn.functional.one_hot(HARD, C)).total.backward()
    np.testing.assert_allclose(student.grad.numpy(), (s - t) / (B * C), atol=1e-14)
    assert teacher.grad is None


def test_binary_takes_an_excluded_class_for_an_absent_one(logits):
    student, teacher = (z.detach().clone() for z in logits)
    teacher[0, 1] = -INF
    assert binary(student, teacher, 5.0).item() == pytest.approx(
        binary(student, teacher.masked_fill(teacher == -INF, -1e5), 5.0).item(), rel=1e-12
    )


@pytest.mark.parametrize("kind", ["paper", "hinton", "binary", "decoupled"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loses_nothing_but_its_own_rounding(logits, kind, dtype):
    student, teacher = (z.detach().to(dtype) for z in logits)
    loss = DistillationLoss(nn.CrossEntropyLoss(), compare=comparison(kind))
    found = loss(student, teacher, HARD).total
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(loss(student.double(), teacher.double(), HARD).total.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["paper", "hinton", "binary", "decoupled"])
def test_a_batch_may_have_its_own_weight_and_temperature(logits, kind):
    student, teacher = logits
    asked = DistillationLoss(nn.CrossEntropyLoss(), 0.9, 5.0, compare=comparison(kind))
    made = DistillationLoss(nn.CrossEntropyLoss(), 0.2, 3.0, compare=comparison(kind))
    found = asked(student, teacher, HARD, weight=0.2, temperature=3.0)
    assert torch.equal(found.total, made(student, teacher, HARD).total)
    assert not torch.equal(found.total, asked(student, teacher, HARD).total)
    assert torch.equal(asked(student, None, HARD, weight=1.0).total, found.label)
    with pytest.raises(ValueError, match=r"weight=1\.5"):
        asked(student, teacher, HARD, weight=1.5)
    with pytest.raises(ValueError, match="temperature=0"):
        asked(student, teacher, HARD, temperature=0)


def test_what_a_comparison_cannot_be_is_refused():
    with pytest.raises(ValueError, match="kind = 'kl': expected one of paper, hinton, binary, decoupled"):
        comparison("kl")
    with pytest.raises(TypeError, match=r"compare: expected a function .*got str"):
        DistillationLoss(nn.CrossEntropyLoss(), compare="hinton")
    with pytest.raises(ValueError, match="softens the student itself"):
        DistillationLoss(nn.CrossEntropyLoss(), student_temperature=2.0, compare=comparison("hinton"))
