"""Decoupled knowledge distillation: the class of the label, and all other classes, each with a weight of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from specenhance.distillation.softened import at_least_float32, divergence

__all__ = ["decoupled"]


def decoupled(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float, alpha: float = 1.0, beta: float = 8.0
) -> Tensor:
    """Compute ``tau^2 * (alpha * TCKD + beta * NCKD)``, the mean over the batch.

    p and q are the probabilities of teacher and student, both softened by tau. t is the class of the label. Then::

        TCKD = KL((p_t, 1 - p_t) || (q_t, 1 - q_t))
        NCKD = KL(p' || q')    p'_i = p_i / (1 - p_t),  q'_i = q_i / (1 - q_t)    for all classes i but t

    ``TCKD + (1 - p_t) * NCKD`` is KL(p || q).

    The loss needs one class for each clip. Of a mixed clip it is the class with the larger part, and the first of equal ones.

    A class that the teacher excludes by a logit of -inf has p = 0. If the teacher excludes all classes but t, NCKD is 0.

    Args:
        student: The student's logits ``(B, C)``.
        teacher: The teacher's logits ``(B, C)``.
        target: Class numbers ``(B,)``, or probabilities ``(B, C)`` of mixed clips.
        temperature: The temperature tau of both.
        alpha: The weight of TCKD.
        beta: The weight of NCKD. The paper has 8 for CIFAR-100 and 0.5 for ImageNet.

    Source: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, arXiv:2203.08679, sections 3.1 and 3.3. The factor
    tau^2 is that of the authors' code.

    >>> student, teacher = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[2.0, 1.0, 0.0]])
    >>> decoupled(student, teacher, torch.tensor([0]), temperature=1.0)
    tensor(0.9271)
    """
    if target.ndim == 2:
        target = target.argmax(1)
    z_s, z_t = student / temperature, at_least_float32(teacher) / temperature
    z_t = z_t.to(z_s.dtype)
    label = F.one_hot(target, z_s.shape[1]).bool()
    of_label = divergence(_two(z_t, label), _two(z_s, label))
    none = z_t.masked_fill(label, float("-inf")).eq(float("-inf")).all(1, keepdim=True)  # no other class is left
    others_t = F.log_softmax(z_t.masked_fill(none, 0.0).masked_fill(label, float("-inf")), dim=1)
    others_s = F.log_softmax(z_s.masked_fill(label, float("-inf")), dim=1)
    of_others = divergence(others_t, others_s, reduction="none").masked_fill(none, 0.0).sum() / len(z_s)
    return temperature**2 * (alpha * of_label + beta * of_others)


def _two(logits: Tensor, label: Tensor) -> Tensor:
    """Give the logarithms ``(B, 2)`` of the probability of the label's class, and of all others together."""
    own = logits.masked_fill(~label, float("-inf")).logsumexp(1)
    others = logits.masked_fill(label, float("-inf")).logsumexp(1)
    return F.log_softmax(torch.stack([own, others], 1), dim=1)
