"""The distance of a student from a teacher class by class, for clips that may have several labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from specenhance.distillation.softened import at_least_float32

__all__ = ["binary"]


def binary(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compute the binary cross entropy of a student against a teacher's softened probability of each class::

        mean over B and C of  -(t * log(sigmoid(z_s)) + (1 - t) * log(1 - sigmoid(z_s)))    with  t = sigmoid(z_t / tau)

    The student is not softened. The minimum is the entropy of t, not 0. A teacher's logit of -inf says that the class is not
    there: t = 0.

    Args:
        student: The student's logits z_s ``(B, C)``.
        teacher: The teacher's logits z_t ``(B, C)``.
        temperature: The temperature tau of the teacher.

    Source: equation (3) of Xing et al., "Enhancing Spectrogram for Audio Classification Using Time-Frequency Enhancer", with a
    sigmoid and a binary cross entropy for each class in place of the softmax and the divergence over all classes.

    >>> binary(torch.tensor([[0.0, 0.0]]), torch.tensor([[9.0, -9.0]]), temperature=1.0)
    tensor(0.6931)
    """
    wanted = torch.sigmoid(at_least_float32(teacher) / temperature).to(student.dtype)
    return F.binary_cross_entropy_with_logits(student, wanted)
