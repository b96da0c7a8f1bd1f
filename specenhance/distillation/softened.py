"""The divergence of a student's probabilities from a teacher's, softened by temperatures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["at_least_float32", "divergence", "softened"]


def at_least_float32(logits: Tensor) -> Tensor:
    """Give numbers of any floating type as float32, or as float64 if they are float64.

    >>> at_least_float32(torch.zeros(1, dtype=torch.float16)).dtype
    torch.float32
    """
    return logits if logits.dtype == torch.float64 else logits.float()


def divergence(log_teacher: Tensor, log_student: Tensor, reduction: str = "batchmean") -> Tensor:
    """Compute KL(teacher || student) of logarithms of probabilities ``(B, C)``.

    A class whose probability is 0 by the teacher costs nothing, in value and gradient, for any student.

    Args:
        log_teacher: The logarithms of the teacher's probabilities.
        log_student: The logarithms of the student's probabilities.
        reduction: ``"batchmean"`` gives the mean over the batch, a scalar. ``"none"`` gives each term ``(B, C)``.

    >>> same = torch.tensor([[0.25, 0.75]]).log()
    >>> divergence(same, same)
    tensor(0.)
    """
    log_teacher = log_teacher.to(log_student.dtype)
    # p log(p / q) is 0 at p = 0 for every q. Finite numbers give this 0; kl_div would multiply 0 by an infinity.
    excluded = log_teacher.exp() == 0
    log_teacher = log_teacher.masked_fill(excluded, torch.finfo(log_teacher.dtype).min)
    log_student = log_student.masked_fill(excluded, 0.0)
    return F.kl_div(log_student, log_teacher, reduction=reduction, log_target=True)


def softened(student: Tensor, teacher: Tensor, temperature: float, student_temperature: float = 1.0) -> Tensor:
    """Compute ``KL(softmax(z_t / tau) || softmax(z_s / tau_s))``, the mean over the batch.

    Args:
        student: The student's logits z_s ``(B, C)``.
        teacher: The teacher's logits z_t ``(B, C)``.
        temperature: The temperature tau of the teacher.
        student_temperature: The temperature tau_s of the student.

    Source: with ``student_temperature=1`` the second part of equation (3) of Xing et al., "Enhancing Spectrogram for Audio
    Classification Using Time-Frequency Enhancer". With equal temperatures, and times tau squared, the loss of Hinton et al.,
    arXiv:1503.02531, section 2.

    >>> softened(torch.tensor([[2.0, 0.0]]), torch.tensor([[20.0, 0.0]]), temperature=5.0)
    tensor(0.0728)
    """
    log_teacher = F.log_softmax(at_least_float32(teacher) / temperature, dim=1)
    return divergence(log_teacher, F.log_softmax(student / student_temperature, dim=1))
