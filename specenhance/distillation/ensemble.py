"""Several teachers as one: the mean of what they say, and parts of mixed clips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from specenhance._choices import KdLoss, TeacherMean, require
from specenhance.distillation.names import FEATURES
from specenhance.distillation.softened import at_least_float32

__all__ = ["from_parts", "mean_logits", "to_parts"]


def mean_logits(
    logits: Sequence[Tensor], weights: Sequence[float], mean: TeacherMean = "probabilities", kind: KdLoss = "paper"
) -> Tensor:
    """Give the logits ``(B, C)`` of several teachers together.

    With weights w_k that are divided by their sum, ``"logits"`` gives sum_k w_k z_k, which is the geometric mean of the
    probabilities. ``"probabilities"`` gives the logits of sum_k w_k p_k: the logarithm of that mean, or with
    ``kind="binary"`` its log odds. Both means are taken before any softening.

    A class that one teacher excludes by a logit of -inf is excluded in a mean of logits. In a mean of probabilities the other
    teachers still count. One teacher's logits stay as they are.

    Args:
        logits: The logits of each teacher ``(B, C)``.
        weights: The weight of each teacher, a number > 0.
        mean: What is averaged.
        kind: The loss. ``"binary"`` has a probability for each class by itself, the others one distribution over all classes.

    Raises:
        ValueError: for another number of weights than of teachers, or logits of different shapes.

    Source: Hinton et al., arXiv:1503.02531, section 2: an ensemble teaches by the arithmetic or the geometric mean of its
    distributions.

    >>> two = [torch.tensor([[0.2, 0.8]]).log(), torch.tensor([[0.6, 0.4]]).log()]
    >>> mean_logits(two, [1, 3]).softmax(1)
    tensor([[0.5000, 0.5000]])
    """
    require("mean", mean, TeacherMean)
    if len(logits) != len(weights):
        raise ValueError(f"{len(weights)} weights for {len(logits)} teachers: expected one for each")
    if len({tuple(part.shape) for part in logits}) > 1:
        raise ValueError(f"logits of the shapes {[tuple(part.shape) for part in logits]}: expected the same (B, C)")
    if len(logits) == 1:
        return logits[0]
    z = torch.stack([at_least_float32(part) for part in logits])
    w = torch.tensor(weights, dtype=z.dtype, device=z.device)[:, None, None]
    w = w / w.sum()
    if mean == "logits":
        return (w * z).sum(0)
    if kind == "binary":
        yes, no = ((w.log() + F.logsigmoid(sign * z)).logsumexp(0) for sign in (1, -1))
        return yes - no
    return (w.log() + F.log_softmax(z, dim=2)).logsumexp(0)


def to_parts(values: Tensor, kind: KdLoss) -> Tensor:
    """Give what a teacher says of clips in a form of which parts can be added, as parts of mixed clips' labels are.

    Args:
        values: Logits ``(B, C)``, or features ``(B, D)``.
        kind: The loss.

    Returns:
        Probabilities ``(B, C)``. For ``"binary"`` the probabilities of each class and of its absence ``(B, 2 C)``. Features
        stay as they are.

    >>> from_parts(to_parts(torch.tensor([[3.0, -40.0]]), "binary"), "binary")
    tensor([[  3., -40.]])
    """
    if kind in FEATURES:
        return values
    if kind == "binary":
        return torch.cat([values.sigmoid(), (-values).sigmoid()], 1)
    return values.softmax(1)


def from_parts(parts: Tensor, kind: KdLoss) -> Tensor:
    """Give the values of what :func:`to_parts` gave. The logits of a distribution are the logarithms of its probabilities.

    Args:
        parts: Sums of what :func:`to_parts` gave.
        kind: The loss.

    >>> from_parts(torch.tensor([[0.5, 0.5]]), "paper").softmax(1)
    tensor([[0.5000, 0.5000]])
    """
    if kind in FEATURES:
        return parts
    if kind == "binary":
        yes, no = parts.chunk(2, dim=1)
        return yes.log() - no.log()
    return parts.log()
