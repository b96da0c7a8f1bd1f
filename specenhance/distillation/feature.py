"""Feature matching: a student learns the features that its teacher has before its last layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from specenhance._choices import require
from specenhance.distillation.loss import Losses, check_weight, label_loss, weighted
from specenhance.distillation.softened import at_least_float32

__all__ = ["Distance", "FeatureLoss", "PooledFeatures", "feature_distance", "last_layer", "pooled"]

Distance = Literal["mse", "cosine"]
"""How features are compared."""


def feature_distance(student: Tensor, teacher: Tensor, distance: Distance = "mse") -> Tensor:
    """Compute the distance of features ``(B, D)``, a scalar.

    ``"mse"`` is the mean of ``(s - t)^2`` over B and D. ``"cosine"`` is the mean of ``1 - s.t / (|s| |t|)`` over B. It does not
    depend on how large the teacher's features are.

    Args:
        student: The student's features s ``(B, D)``, brought to the teacher's width.
        teacher: The teacher's features t ``(B, D)``. They get no gradient.
        distance: How they are compared.

    Raises:
        ValueError: for another distance, or features of different shapes.

    >>> import torch
    >>> s, t = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    >>> feature_distance(s, t), feature_distance(s, t, "cosine")
    (tensor(2.5000), tensor(1.))
    """
    require("distance", distance, Distance)
    if student.shape != teacher.shape:
        raise ValueError(
            f"the student's features are {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}: expected the same "
            "(batch, values)"
        )
    s = at_least_float32(student)
    t = at_least_float32(teacher.detach()).to(s.dtype)
    return F.mse_loss(s, t) if distance == "mse" else (1 - F.cosine_similarity(s, t, dim=1)).mean()


class FeatureLoss(nn.Module):
    """The weighted mean of a loss on the labels and of the distance of the student's features from the teacher's::

        total = w * criterion(z_s, y) + (1 - w) * distance(projector(f_s), f_t)

    f_s and f_t are the features before the last layers, see :func:`pooled`. The projector is linear. Where both have the same
    width, there is none. Its parameters are trained with the student's and are not needed later.

    Args:
        criterion: As for :class:`specenhance.distillation.loss.DistillationLoss`.
        widths: The widths of the features of student and teacher.
        weight: The weight w of the labels, in [0, 1].
        distance: How features are compared.

    Raises:
        ValueError: for a weight out of its range, or another distance.

    Source: Romero et al., FitNets, arXiv:1412.6550, equation (3), on pooled features, as timm's ``FeatureDistillationTask``
    has it.

    >>> import torch
    >>> loss = FeatureLoss(nn.CrossEntropyLoss(), widths=(8, 4))
    >>> loss(torch.zeros(2, 3), torch.zeros(2, 8), torch.ones(2, 4), torch.tensor([0, 2])).label
    tensor(1.0986)
    """

    def __init__(
        self,
        criterion: Callable[[Tensor, Tensor], Tensor],
        widths: tuple[int, int],
        weight: float = 0.5,
        distance: Distance = "mse",
    ) -> None:
        super().__init__()
        check_weight(weight)
        require("distance", distance, Distance)
        self.criterion, self.weight, self.distance = criterion, weight, distance
        self.projector = nn.Identity() if widths[0] == widths[1] else nn.Linear(*widths)

    def forward(
        self,
        student_logits: Tensor,
        student_features: Tensor,
        teacher_features: Tensor,
        target: Tensor,
        *,
        weight: float | None = None,
    ) -> Losses:
        """Give the loss of a batch.

        Args:
            student_logits: The student's logits ``(B, C)``.
            student_features: The student's features ``(B, D_s)``.
            teacher_features: The teacher's features ``(B, D_t)``.
            target: The criterion's target.
            weight: The weight w for this batch. None takes the loss's own.

        Raises:
            ValueError: as :func:`feature_distance`, and for a criterion that gives more than one number.
        """
        label = label_loss(self.criterion, student_logits, target)
        projected = self.projector(at_least_float32(student_features))
        distance = feature_distance(projected, teacher_features, self.distance)
        # Without a special case for w = 1: several processes wait for a gradient of each parameter.
        return Losses(weighted(label, distance, self.weight if weight is None else weight), label, distance)


def last_layer(model: Any) -> nn.Module:
    """Find the layer of a model that maps features to logits.

    It is what the model's ``get_classifier()`` gives, which every model of timm has. Of two heads it is the first. Of a model
    of transformers it is its ``classifier``. A model that wraps another as its ``model`` or ``backbone`` has that one's.

    Args:
        model: A model.

    Raises:
        ValueError: for a model of which this is not known.

    >>> import timm
    >>> last_layer(timm.create_model("test_resnet", num_classes=3)).out_features
    3
    """
    found: Any = None
    if hasattr(model, "get_classifier"):
        found = model.get_classifier()
        found = found[0] if isinstance(found, (tuple, list, nn.ModuleList)) else found
    elif isinstance(getattr(model, "classifier", None), nn.Module):
        found = model.classifier
    else:
        for name in ("model", "backbone"):
            if isinstance(getattr(model, name, None), nn.Module):
                return last_layer(getattr(model, name))
    if not isinstance(found, nn.Module):
        raise ValueError(
            f"{type(model).__name__} does not say which layer gives its logits, so its features are not known; give it a "
            "method get_classifier() that returns the layer, as timm's models have, or compare logits: kd_loss = 'paper'"
        )
    return found


@contextmanager
def pooled(model: Any) -> Iterator[list[Tensor]]:
    """Keep the features ``(B, D)`` that go into a model's last layer, each time that the model runs in the block.

    The model runs as always, so its dropout is the same for features and logits.

    Args:
        model: A model, as for :func:`last_layer`.

    Raises:
        ValueError: as :func:`last_layer`.

    >>> import timm, torch
    >>> model = timm.create_model("test_resnet", num_classes=3).eval()
    >>> with pooled(model) as features:
    ...     logits = model(torch.zeros(2, 3, 32, 32))
    >>> torch.equal(last_layer(model)(features[-1]), logits)
    True
    """
    found: list[Tensor] = []
    handle = last_layer(model).register_forward_pre_hook(lambda _, args: found.append(args[0].flatten(1)))
    try:
        yield found
    finally:
        handle.remove()


class PooledFeatures(nn.Module):
    """A model that gives its features in place of its logits.

    Args:
        model: A model, as for :func:`last_layer`.

    Raises:
        ValueError: as :func:`last_layer`.

    >>> import timm, torch
    >>> PooledFeatures(timm.create_model("test_resnet", num_classes=3))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 96])
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        last_layer(model)
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Give the features ``(B, D)`` of an input of the model."""
        with pooled(self.model) as found:
            self.model(x)
        return found[-1]
