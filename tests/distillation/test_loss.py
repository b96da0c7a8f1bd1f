"""Distillation: the loss against a formula in numpy, float64, written apart from it; teachers that stay as they are."""

import math

import numpy as np
import pytest
import timm
import torch
from timm.task import LogitDistillationTask
from torch import nn

import specenhance
from specenhance.distillation.loss import DistillationLoss, Distiller
from specenhance.distillation.teachers import FrozenTeacher

B, C = 6, 5


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(2, B, C, generator=generator, dtype=torch.float64)
    return student.requires_grad_(), teacher.requires_grad_()


HARD = torch.tensor([0, 4, 2, 2, 1, 3])
SHARES = 0.7 * nn.functional.one_hot(HARD, C).double() + 0.3 * nn.functional.one_hot(HARD.roll(1), C).double()
MULTI_HOT = (SHARES > 0).long()


# ---- The formula, in numpy and plain sums.


def log_softmax(z: np.ndarray) -> np.ndarray:
    shifted = z - z.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def divergence(student: np.ndarray, teacher: np.ndarray, temperature: float, student_temperature: float) -> float:
    log_p, log_q = log_softmax(teacher / temperature), log_softmax(student / student_temperature)
    p = np.exp(log_p)
    return math.fsum((p * log_p - p * log_q).ravel()) / len(p)


def cross_entropy(student: np.ndarray, shares: np.ndarray, smoothing: float = 0.0) -> float:
    shares = shares * (1 - smoothing) + smoothing / shares.shape[1]
    return -math.fsum((shares * log_softmax(student)).ravel()) / len(shares)


def binary_cross_entropy(student: np.ndarray, shares: np.ndarray) -> float:
    log_yes, log_no = -np.logaddexp(0, -student), -np.logaddexp(0, student)
    return -math.fsum((shares * log_yes + (1 - shares) * log_no).ravel()) / shares.size


LABELS = {
    "hard": (nn.CrossEntropyLoss(label_smoothing=0.1), HARD, lambda z: cross_entropy(z, np.eye(C)[HARD.numpy()], 0.1)),
    "shares": (nn.CrossEntropyLoss(), SHARES, lambda z: cross_entropy(z, SHARES.numpy())),
    "multi-hot": (nn.BCEWithLogitsLoss(), MULTI_HOT, lambda z: binary_cross_entropy(z, MULTI_HOT.numpy())),
    "mixed": (nn.BCEWithLogitsLoss(), SHARES, lambda z: binary_cross_entropy(z, SHARES.numpy())),
}


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize(
    ("settings", "temperature", "student_temperature", "factor"),
    [
        ({}, 5.0, 1.0, 1.0),  # equation (3)
        ({"temperature": 4.0, "student_temperature": 4.0, "scale_by_temperature": True}, 4.0, 4.0, 16.0),  # Hinton's
        ({"temperature": 0.5, "student_temperature": 2.0}, 0.5, 2.0, 1.0),
    ],
)
def test_the_loss_is_the_formula(logits, labels, weight, settings, temperature, student_temperature, factor):
    student, teacher = logits
    criterion, target, label_formula = LABELS[labels]
    losses = DistillationLoss(criterion, weight=weight, **settings)(student, teacher, target)
    z_s, z_t = student.detach().numpy(), teacher.detach().numpy()
    label = label_formula(z_s)
    distill = factor * divergence(z_s, z_t, temperature, student_temperature) if weight < 1 else 0.0
    assert losses.label.item() == pytest.approx(label, abs=1e-12, rel=1e-12)
    assert losses.distill.item() == pytest.approx(distill, abs=1e-12, rel=1e-12)
    assert losses.total.item() == pytest.approx(weight * label + (1 - weight) * distill, abs=1e-12, rel=1e-12)


def test_the_paper_is_the_default(logits):
    loss = DistillationLoss(nn.CrossEntropyLoss())
    assert (loss.weight, loss.temperature, loss.student_temperature, loss.scale_by_temperature) == (0.5, 5, 1, False)


def test_the_gradient_is_that_of_the_formula_and_only_the_students(logits):
    student, teacher = logits
    DistillationLoss(nn.CrossEntropyLoss(), weight=0.25, temperature=5.0)(student, teacher, HARD).total.backward()
    assert teacher.grad is None
    q = np.exp(log_softmax(student.detach().numpy()))
    p = np.exp(log_softmax(teacher.detach().numpy() / 5))
    expected = (0.25 * (q - np.eye(C)[HARD.numpy()]) + 0.75 * (q - p)) / B
    np.testing.assert_allclose(student.grad.numpy(), expected, atol=1e-14)


# ---- Classes that a teacher excludes, and rows that say nothing.

INF = float("inf")


def limit(z_s: np.ndarray, z_t: np.ndarray, tau: float, tau_s: float) -> tuple[float, np.ndarray]:
    """KL and its gradient in the student's logits, in float64, by plain sums over the classes that the teacher has."""
    value, gradient = [], np.zeros_like(z_s)
    for row, (student, teacher) in enumerate(zip(z_s, z_t, strict=True)):
        kept = teacher > -INF
        p = np.zeros(len(teacher))
        p[kept] = np.exp(log_softmax(teacher[kept][None] / tau)[0])
        log_q = student / tau_s - np.logaddexp.reduce(student / tau_s)
        value += [p[i] * (math.log(p[i]) - log_q[i]) for i in np.flatnonzero(p)]
        gradient[row] = (np.exp(log_q) - p) / tau_s / len(z_s)
    return math.fsum(value) / len(z_s), gradient


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("temperature", "student_temperature"), [(5.0, 1.0), (4.0, 4.0)])
@pytest.mark.parametrize("student_too", [False, True])
def test_a_class_that_the_teacher_excludes_costs_nothing(logits, dtype, temperature, student_temperature, student_too):
    student, teacher = (z.detach().clone() for z in logits)
    teacher[0, 1] = teacher[1, :4] = teacher[2, [0, 3]] = -INF  # one, all but one, some
    if student_too:
        student[0, 1] = student[2, 3] = -INF
    value, gradient = limit(student.numpy(), teacher.numpy(), temperature, student_temperature)
    z = student.to(dtype).requires_grad_()
    loss = DistillationLoss(nn.CrossEntropyLoss(), 0.0, temperature, student_temperature)
    losses = loss(z, teacher.to(dtype), HARD)
    losses.total.backward()
    tolerance = {"rel": 1e-12, "abs": 1e-13} if dtype == torch.float64 else {"rel": 1e-5, "abs": 1e-6}
    assert losses.distill.item() == pytest.approx(value, **tolerance)
    np.testing.assert_allclose(z.grad.numpy(), gradient, rtol=tolerance["rel"], atol=tolerance["abs"])
    if not student_too:
        near = teacher.masked_fill(teacher == -INF, -1e5)  # the limit is what large numbers come to
        assert losses.distill.item() == pytest.approx(loss(z, near.to(dtype), HARD).distill.item(), rel=1e-6)


def test_a_class_that_only_the_student_excludes_costs_everything(logits):
    student, teacher = (z.detach().clone() for z in logits)
    student[3, 2] = -INF
    assert DistillationLoss(nn.CrossEntropyLoss())(student, teacher, HARD).distill == INF


@pytest.mark.parametrize("row", [[-INF] * 5, [INF, 0, 0, 0, 0], [INF, INF, 0, 0, -INF], [float("nan"), 0, 0, 0, 0]])
def test_a_teacher_without_a_distribution_gives_no_number(logits, row):
    student, teacher = (z.detach().clone() for z in logits)
    teacher[2] = torch.tensor(row)
    losses = DistillationLoss(nn.CrossEntropyLoss())(student.requires_grad_(), teacher, HARD)
    losses.total.backward()
    assert losses.distill.isnan()
    assert losses.total.isnan()
    assert student.grad[2].isnan().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_logits_give_the_very_bits_of_pytorchs_divergence(logits, dtype):
    student, teacher = (z.detach().to(dtype) for z in logits)
    teacher[0, 0] = -300.0  # a probability that rounds to 0
    ours, theirs = (student.clone().requires_grad_() for _ in range(2))
    value = DistillationLoss(nn.CrossEntropyLoss(), 0.0, 1.0)(ours, teacher, HARD).total
    expected = nn.functional.kl_div(
        theirs.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True
    )
    assert torch.equal(value, expected)
    for loss in (value, expected):
        loss.backward()
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("labels", LABELS)
def test_extreme_logits_give_a_finite_loss_and_gradient(dtype, labels):
    signs = torch.tensor([[1, -1, 1, -1, 1], [-1, -1, -1, -1, 1], [1, 1, 1, 1, 1], [-1, 1, -1, 1, 1]])
    student = (1e4 * signs).to(dtype).requires_grad_()
    teacher = (-1e4 * signs).to(dtype)
    criterion, target, _ = LABELS[labels]
    loss = DistillationLoss(criterion)
    losses = loss(student, teacher, target[:4])
    losses.total.backward()
    exact = loss(student.detach().double(), teacher.double(), target[:4])
    assert losses.total.dtype == torch.float32
    assert student.grad.dtype == dtype
    assert student.grad.isfinite().all()
    for ours, theirs in zip(losses, exact, strict=True):
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_lose_nothing_but_their_own_rounding(logits, dtype):
    student, teacher = (z.detach().to(dtype) for z in logits)
    loss = DistillationLoss(nn.CrossEntropyLoss())
    assert loss(student, teacher, HARD).total.item() == pytest.approx(
        loss(student.double(), teacher.double(), HARD).total.item(), rel=1e-6
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(student, teacher, HARD).total.dtype == torch.float32


def test_a_teacher_and_a_student_may_differ_in_precision(logits):
    student, teacher = logits
    loss = DistillationLoss(nn.CrossEntropyLoss())
    exact = loss(student, teacher, HARD).total.item()
    assert loss(student.float(), teacher, HARD).total.item() == pytest.approx(exact, rel=1e-6)
    assert loss(student, teacher.float(), HARD).total.item() == pytest.approx(exact, rel=1e-6)


def test_weight_one_goes_without_a_teacher(logits):
    student, teacher = logits
    loss = DistillationLoss(nn.CrossEntropyLoss(), weight=1)
    losses = loss(student, None, HARD)
    assert losses.total.item() == nn.functional.cross_entropy(student, HARD).item()
    assert losses.distill.item() == 0
    assert loss(student, teacher, HARD) == losses


def test_weight_zero_ignores_what_the_labels_say(logits):
    student, teacher = logits
    losses = DistillationLoss(lambda z, y: z.sum() * float("inf"), weight=0)(student, teacher, HARD)
    assert losses.total == losses.distill
    assert losses.total.isfinite()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": -0.1}, r"weight=-0.1: expected the labels' share of the loss, in \[0, 1\]"),
        ({"weight": 1.5}, "weight=1.5"),
        ({"weight": float("nan")}, "weight=nan"),
        ({"temperature": 0}, "temperature=0: expected a finite number > 0"),
        ({"temperature": -5.0}, "temperature=-5.0"),
        ({"temperature": float("inf")}, "temperature=inf"),
        ({"student_temperature": 0.0}, "student_temperature=0.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DistillationLoss(nn.CrossEntropyLoss(), **settings)


def test_what_cannot_be_compared_is_refused(logits):
    student, teacher = logits
    loss = DistillationLoss(nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match=r"teacher's logits are \(6, 4\), the student's \(6, 5\)"):
        loss(student, teacher[:, :4], HARD)
    with pytest.raises(ValueError, match=r"teacher's logits are \(1, 5\)"):  # would broadcast in silence
        loss(student, teacher[:1], HARD)
    with pytest.raises(ValueError, match=r"student's logits are \(5,\): expected \(batch, classes\)"):
        loss(student[0], teacher[0], HARD[0])
    with pytest.raises(ValueError, match=r"weight=0\.5 needs the teacher's logits, got None"):
        loss(student, None, HARD)
    with pytest.raises(ValueError, match=r"criterion gave a tensor of shape \(6,\).*reduction='mean'"):
        DistillationLoss(nn.CrossEntropyLoss(reduction="none"))(student, teacher, HARD)
    with pytest.raises(TypeError, match=r"criterion: expected a loss .*got str"):
        DistillationLoss("cross entropy")


# ---- timm's own task.


@pytest.fixture
def models():
    torch.manual_seed(0)
    made = [timm.create_model("test_resnet", in_chans=1, num_classes=C).eval() for _ in range(2)]
    return specenhance.with_frontend(made[0], "tfe2").eval(), specenhance.with_frontend(made[1], "identity").eval()


def test_timms_task_takes_our_models_and_gives_the_same_loss(models):
    student, teacher = models
    spec = torch.randn(B, 1, 32, 32)
    task = LogitDistillationTask(
        student, teacher, criterion=nn.CrossEntropyLoss(), task_loss_weight=0.3, temperature=4.0, verbose=False
    ).eval()
    theirs = task(spec, HARD)
    loss = DistillationLoss(
        nn.CrossEntropyLoss(), 0.3, temperature=4.0, student_temperature=4.0, scale_by_temperature=True
    )
    ours = loss(student(spec), teacher(spec), HARD)
    assert ours.total.item() == pytest.approx(theirs["loss"].item(), rel=1e-6)
    assert ours.label.item() == pytest.approx(theirs["task_loss"].item(), rel=1e-6)
    assert ours.distill.item() == pytest.approx(theirs["kd_loss"].item(), rel=1e-5)


# ---- Student and teacher together.


def test_a_distiller_compares_both_on_the_same_input(models):
    student, teacher = models
    loss = DistillationLoss(nn.CrossEntropyLoss())
    spec = torch.randn(B, 1, 32, 32)
    distilled = Distiller(student, teacher, loss)(spec, HARD)
    expected = loss(student(spec), teacher(spec), HARD)
    assert torch.equal(distilled.total, expected.total)
    assert torch.equal(distilled.label, expected.label)
    assert torch.equal(distilled.distill, expected.distill)
    assert torch.equal(distilled.logits, student(spec))


def test_only_the_student_is_trained_and_stored(models):
    student, teacher = models
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    distiller = Distiller(student, teacher, DistillationLoss(nn.CrossEntropyLoss())).train()
    assert {name.removeprefix("student.") for name in distiller.state_dict()} == set(student.state_dict())
    assert len(list(distiller.parameters())) == len(list(student.parameters()))
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
    start = student.backbone.get_classifier().weight.clone()
    for _ in range(2):
        optimizer.zero_grad()
        distiller(torch.randn(B, 1, 32, 32), HARD).total.backward()
        optimizer.step()
    assert not torch.equal(student.backbone.get_classifier().weight, start)
    for name, tensor in teacher.state_dict().items():  # batch norm's running means among them
        assert torch.equal(tensor, before[name]), name


def test_the_student_learns_the_teacher(models):
    student, teacher = models
    distiller = Distiller(student, teacher, DistillationLoss(nn.CrossEntropyLoss(), weight=0.0, temperature=1.0))
    spec = torch.randn(16, 1, 32, 32)
    taught = teacher(spec).softmax(1)
    optimizer = torch.optim.Adam(distiller.parameters(), lr=1e-3)
    distances = []
    for _ in range(30):
        step = distiller(spec, torch.zeros(16, dtype=torch.long))
        optimizer.zero_grad()
        step.total.backward()
        optimizer.step()
        distances.append((step.logits.softmax(1) - taught).abs().sum().item())
    assert distances[-1] < 0.1 * distances[0]


def test_weight_one_never_calls_a_teacher(models):
    student, _ = models

    def teacher(spec: torch.Tensor) -> torch.Tensor:
        raise AssertionError("called")

    loss = DistillationLoss(nn.CrossEntropyLoss(), weight=1.0)
    spec = torch.randn(B, 1, 32, 32)
    for given in (teacher, None):
        assert Distiller(student, given, loss)(spec, HARD).total == nn.functional.cross_entropy(student(spec), HARD)


def test_a_missing_teacher_is_said_before_the_first_step(models):
    with pytest.raises(ValueError, match=r"teacher=None: a loss of weight=0\.5 needs one"):
        Distiller(models[0], None, DistillationLoss(nn.CrossEntropyLoss()))


def test_a_function_may_be_the_student(models):
    student, teacher = models
    distiller = Distiller(student.classify, FrozenTeacher(teacher), DistillationLoss(nn.CrossEntropyLoss()))
    assert not list(distiller.parameters())
    distiller(torch.randn(B, 1, 32, 32), HARD).total.backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
