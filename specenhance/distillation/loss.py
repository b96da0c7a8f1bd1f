"""Knowledge distillation: the loss, and a module that compares any student with a teacher.

Logits are ``(B, C)``: B samples of a batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from specenhance._choices import KdLoss
from specenhance.distillation.binary import binary
from specenhance.distillation.decoupled import decoupled
from specenhance.distillation.softened import at_least_float32, softened
from specenhance.distillation.teachers import FrozenTeacher, logits_of

__all__ = [
    "Compare",
    "DistillationLoss",
    "Distilled",
    "Distiller",
    "Losses",
    "check_weight",
    "comparison",
    "label_loss",
    "weighted",
]


class Losses(NamedTuple):
    """A loss and its two parts, as scalars.

    Attributes:
        total: The weighted mean of the parts, see :class:`DistillationLoss`.
        label: The loss on the labels.
        distill: The divergence from the teacher.

    >>> Losses(total=torch.tensor(1.5), label=torch.tensor(2.0), distill=torch.tensor(1.0)).total
    tensor(1.5000)
    """

    total: Tensor
    label: Tensor
    distill: Tensor


def label_loss(criterion: Callable[[Tensor, Tensor], Tensor], student_logits: Tensor, target: Tensor) -> Tensor:
    """Compute the loss on the labels, a scalar, in float32, or in float64 if the logits are float64.

    Args:
        criterion: As for :class:`DistillationLoss`.
        student_logits: The student's logits ``(B, C)``.
        target: The criterion's target.

    Raises:
        ValueError: for logits that are not (B, C), or a criterion that gives more than one number.

    >>> label_loss(nn.CrossEntropyLoss(), torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    tensor(0.1269)
    """
    if student_logits.ndim != 2:
        raise ValueError(f"the student's logits are {tuple(student_logits.shape)}: expected (batch, classes)")
    student = at_least_float32(student_logits)
    if target.shape == student.shape:
        target = target.to(student.dtype)
    label = criterion(student, target)
    if label.ndim:
        raise ValueError(
            f"the criterion gave a tensor of shape {tuple(label.shape)}: expected one number; use reduction='mean'"
        )
    return label


def weighted(label: Tensor, distill: Tensor, weight: float) -> Tensor:
    """Give ``w * label + (1 - w) * distill``.

    >>> weighted(torch.tensor(2.0), torch.tensor(1.0), weight=0.25)
    tensor(1.2500)
    """
    if weight == 0:  # 0 * label would be NaN if the label's loss is infinite
        return distill
    return weight * label + (1 - weight) * distill


def check_weight(weight: float) -> None:
    """Check the weight of the labels.

    Raises:
        ValueError: for a weight that is not in [0, 1].

    >>> check_weight(0.5)
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"weight={weight}: expected the labels' share of the loss, in [0, 1]")


def _check_temperature(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise ValueError(f"{name}={value}: expected a finite number > 0")


Compare = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""A function of the logits of student and teacher ``(B, C)``, the target and the temperature. It gives a scalar."""


def comparison(kind: KdLoss, *, alpha: float = 1.0, beta: float = 8.0) -> Compare:
    """Give a comparison of logits by its name, for :class:`DistillationLoss`.

    ======================== =========================================================================================
    ``"paper"``              ``KL(softmax(z_t / tau) || softmax(z_s))``, :func:`specenhance.distillation.softened.softened`
    ``"hinton"``             ``tau^2 * KL(softmax(z_t / tau) || softmax(z_s / tau))``
    ``"binary"``             binary cross entropy of each class, :func:`specenhance.distillation.binary.binary`
    ``"decoupled"``          the label's class and the others, :func:`specenhance.distillation.decoupled.decoupled`
    ======================== =========================================================================================

    Args:
        kind: The name. Names of feature matching belong to :class:`specenhance.distillation.feature.FeatureLoss`.
        alpha: The weight of the label's class, for ``"decoupled"``.
        beta: The weight of the other classes, for ``"decoupled"``.

    Raises:
        ValueError: for another name.

    >>> loss = DistillationLoss(nn.CrossEntropyLoss(), temperature=4.0, compare=comparison("hinton"))
    >>> loss(torch.tensor([[2.0, 0.0]]), torch.tensor([[20.0, 0.0]]), torch.tensor([0])).distill
    tensor(6.9959)
    """
    if kind not in COMPARISONS:
        raise ValueError(f"kind = {kind!r}: expected one of {', '.join(COMPARISONS)}")
    return partial(decoupled, alpha=alpha, beta=beta) if kind == "decoupled" else COMPARISONS[kind]


COMPARISONS: dict[str, Compare] = {
    "paper": lambda student, teacher, target, tau: softened(student, teacher, tau),
    "hinton": lambda student, teacher, target, tau: tau**2 * softened(student, teacher, tau, tau),
    "binary": lambda student, teacher, target, tau: binary(student, teacher, tau),
    "decoupled": decoupled,
}


class DistillationLoss(nn.Module):
    """The weighted mean of a loss on the labels and of the divergence of the student from the teacher.

    The loss is::

        total = w * criterion(z_s, y) + (1 - w) * KL(softmax(z_t / tau) || softmax(z_s / tau_s))

    w is the weight. z_s and z_t are the logits of student and teacher. y is the target. tau and tau_s are the temperatures.
    KL is the mean over the batch.

    The defaults are equation (3) of Xing et al., "Enhancing Spectrogram for Audio Classification Using Time-Frequency
    Enhancer", after Gong et al., CMKD, arXiv:2203.06760: only the teacher is softened. The loss of Hinton et al.,
    arXiv:1503.02531, is ``student_temperature=temperature, scale_by_temperature=True``.

    ``compare`` puts another comparison in the place of KL, such as those of :func:`comparison`.

    A teacher's logit of -inf excludes a class: its probability is 0. Its term of KL is 0 too, in value and gradient, for any
    logit of the student. KL is inf if the student's logit is -inf and the teacher's probability is not 0. KL is NaN if a row of
    the teacher is no distribution (a NaN, a +inf, or only -inf). There is no error, because a check would make a GPU wait at
    every step.

    Args:
        criterion: A function of ``(logits, target)`` that gives a scalar, such as ``nn.CrossEntropyLoss()`` (class numbers or
            probabilities) or ``nn.BCEWithLogitsLoss()`` (multi-hot labels or probabilities).
        weight: The weight w of the labels, in [0, 1]. At 1 there is no distillation and no teacher is needed.
        temperature: The temperature tau > 0 that divides the teacher's logits.
        student_temperature: The temperature tau_s > 0 that divides the student's logits.
        scale_by_temperature: Whether to multiply KL by tau squared. This keeps the size of its gradients if both student and
            teacher are softened.
        compare: A function of ``(student_logits, teacher_logits, target, temperature)`` that gives a scalar, in place of KL.
            It knows itself how to soften the student.

    Raises:
        TypeError: for a criterion or a comparison that cannot be called.
        ValueError: for a weight or a temperature out of its range, or settings of KL together with ``compare``.

    >>> loss = DistillationLoss(nn.CrossEntropyLoss(), weight=0.5, temperature=5.0)
    >>> student, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[20.0, 0.0]])
    >>> loss(student, teacher, torch.tensor([0]))
    Losses(total=tensor(0.0999), label=tensor(0.1269), distill=tensor(0.0728))
    """

    def __init__(
        self,
        criterion: Callable[[Tensor, Tensor], Tensor],
        weight: float = 0.5,
        temperature: float = 5.0,
        student_temperature: float = 1.0,
        scale_by_temperature: bool = False,
        compare: Compare | None = None,
    ) -> None:
        super().__init__()
        if not callable(criterion):
            raise TypeError(f"criterion: expected a loss such as nn.CrossEntropyLoss(), got {type(criterion).__name__}")
        if compare is not None and not callable(compare):
            raise TypeError(f"compare: expected a function such as comparison('hinton'), got {type(compare).__name__}")
        check_weight(weight)
        _check_temperature("temperature", temperature)
        _check_temperature("student_temperature", student_temperature)
        if compare is not None and (student_temperature != 1 or scale_by_temperature):
            raise ValueError(
                "compare: softens the student itself; leave out student_temperature and scale_by_temperature"
            )
        self.criterion = criterion
        self.weight = weight
        self.temperature = temperature
        self.student_temperature = student_temperature
        self.scale_by_temperature = scale_by_temperature
        self.compare = compare

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None,
        target: Tensor,
        *,
        weight: float | None = None,
        temperature: float | None = None,
    ) -> Losses:
        """Give the loss of a batch. The teacher's logits get no gradient.

        The loss is computed in float32, or in float64 if the logits are float64.

        Args:
            student_logits: The student's logits ``(B, C)``.
            teacher_logits: The teacher's logits ``(B, C)``. If the weight is 1, they are ignored and may be None.
            target: The criterion's target: class numbers ``(B,)``, or probabilities or multi-hot labels ``(B, C)`` of any type.
            weight: The weight for this batch, such as of a schedule. None takes the loss's own.
            temperature: The teacher's temperature for this batch. None takes the loss's own.

        Raises:
            ValueError: for logits that are not (B, C) or differ in shape, a missing teacher, a criterion that gives
                more than one number, or a weight or a temperature out of its range.
        """
        weight = self.weight if weight is None else weight
        temperature = self.temperature if temperature is None else temperature
        check_weight(weight)
        _check_temperature("temperature", temperature)
        label = label_loss(self.criterion, student_logits, target)
        if weight == 1:
            return Losses(label, label, torch.zeros_like(label))
        if teacher_logits is None:
            raise ValueError(f"weight={weight} needs the teacher's logits, got None; only weight=1 goes without")
        student = at_least_float32(student_logits)
        if teacher_logits.shape != student.shape:
            raise ValueError(
                f"the teacher's logits are {tuple(teacher_logits.shape)}, the student's {tuple(student.shape)}: expected "
                "the same (batch, classes); give both the same classes and the same batch"
            )
        teacher = teacher_logits.detach()
        if self.compare is not None:
            distill = self.compare(student, teacher, target, temperature)
        else:
            distill = softened(student, teacher, temperature, self.student_temperature)
            distill = distill * temperature**2 if self.scale_by_temperature else distill
        return Losses(weighted(label, distill, weight), label, distill)

    def extra_repr(self) -> str:
        """Describe the loss in one line, as torch prints it."""
        return (
            f"weight={self.weight}, temperature={self.temperature}, student_temperature={self.student_temperature}, "
            f"scale_by_temperature={self.scale_by_temperature}" + (f", compare={self.compare}" if self.compare else "")
        )


class Distilled(NamedTuple):
    """The result of a step of distillation.

    Attributes:
        total: The loss, a scalar, see :class:`Losses`.
        label: The loss on the labels, a scalar.
        distill: The divergence from the teacher, a scalar.
        logits: The student's logits ``(B, C)``.

    >>> zero = torch.tensor(0.0)
    >>> Distilled(zero, zero, zero, logits=torch.zeros(2, 3)).logits.shape
    torch.Size([2, 3])
    """

    total: Tensor
    label: Tensor
    distill: Tensor
    logits: Tensor


class Distiller(nn.Module):
    """A student, a teacher, and the loss between them.

    ``parameters()`` and ``state_dict()`` have the parameters of the student, and those of the criterion if it has any. They do
    not have the teacher's.

    Args:
        student: Any model that gives logits ``(B, C)``. A function, such as a bound method, works too, but its parameters are
            not in ``parameters()``.
        teacher: A timm model, a Hugging Face model or a function, of which a
            :class:`specenhance.distillation.teachers.FrozenTeacher` is made. It may also be a frozen teacher, such as a
            :class:`specenhance.distillation.cache.CachedTeacher`. None if the weight of the loss is 1.
        loss: The loss that compares student and teacher.

    Raises:
        ValueError: if the loss needs a teacher and there is none.
        TypeError: for a teacher that cannot be called.

    >>> distiller = Distiller(nn.Linear(4, 3), nn.Linear(4, 3), DistillationLoss(nn.CrossEntropyLoss()))
    >>> distiller(torch.zeros(2, 4), torch.tensor([0, 1])).logits.shape
    torch.Size([2, 3])
    """

    def __init__(self, student: Callable[..., Any], teacher: Callable[..., Any] | None, loss: DistillationLoss) -> None:
        super().__init__()
        if teacher is None and loss.weight < 1:
            raise ValueError(f"teacher=None: a loss of weight={loss.weight} needs one; only weight=1 goes without")
        self.student = student
        self.teacher = teacher if teacher is None or isinstance(teacher, FrozenTeacher) else FrozenTeacher(teacher)
        self.loss = loss

    def forward(
        self, x: Tensor, target: Tensor, keys: Sequence[str] | None = None, *, student_args: Sequence[Any] = ()
    ) -> Distilled:
        """Run student and teacher on the same input, and compare them. The teacher does not run if the weight is 1.

        Args:
            x: The student's input. The teacher's ``transform`` maps it to the teacher's input.
            target: The target for :class:`DistillationLoss`.
            keys: A name for each sample, for a cached teacher.
            student_args: Further arguments of the student only, such as the real frames of ``x``.

        Raises:
            ValueError: as :class:`DistillationLoss` and the teacher.
        """
        logits = logits_of(self.student(x, *student_args))
        taught = None if self.teacher is None or self.loss.weight == 1 else self.teacher(x, keys)
        losses = self.loss(logits, taught, target)
        return Distilled(losses.total, losses.label, losses.distill, logits)
