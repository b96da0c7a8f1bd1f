"""A linear head on the values of an embedding model, fitted on the training clips: so an embedding can teach."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from specenhance._missing import missing

__all__ = ["Head", "Headed", "fit_head"]

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of scikit-learn: a larger one regularises less
DEFAULT = 1e-2  # where too few groups can be held out
PARTS = 3  # of the cross-validation that chooses C
RARE = 1e-6  # probability of a class that a part of the clips does not have

Values = npt.NDArray[np.floating]


class Head(nn.Module):
    """A linear classifier on standardised values: ``(x - mean) / std @ weight.T + bias``.

    Attributes:
        held_out: Its accuracy on clips that were held out when its penalty was chosen, in [0, 1]. None if none were.

    Args:
        values: The number D of values of each clip.
        classes: The number of classes.

    >>> Head(values=3, classes=2)(torch.ones(4, 3)).shape
    torch.Size([4, 2])
    """

    held_out: float | None = None
    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, values: int, classes: int) -> None:
        super().__init__()
        for name, of in (
            ("mean", torch.zeros(values)),
            ("std", torch.ones(values)),
            ("weight", torch.zeros(classes, values)),
            ("bias", torch.zeros(classes)),
        ):
            self.register_buffer(name, of)

    def forward(self, x: Tensor) -> Tensor:
        """Give the logits ``(B, classes)``, float32, of values ``(B, D)``."""
        return ((x.float() - self.mean) / self.std) @ self.weight.T + self.bias


class Headed(nn.Module):
    """A model that gives an embedding, and a head on it.

    Args:
        model: A function that gives values ``(B, D)``.
        head: The head.

    >>> Headed(lambda x: x[:, :3], Head(values=3, classes=2))(torch.ones(4, 5)).shape
    torch.Size([4, 2])
    """

    def __init__(self, model: Callable[[Tensor], Tensor], head: Head) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, x: Tensor) -> Tensor:
        """Give the logits ``(B, classes)``."""
        return self.head(self.model(x))


def fit_head(values: Values, labels: Sequence[Any], classes: int, groups: Sequence[str] | None = None) -> Head:
    """Fit a head by logistic regression with an L2 penalty, as scikit-learn computes it.

    In a multi-label data set each class has a logistic regression of its own, and its logit is the log odds of the class.

    Values are standardised by their mean and deviation over the clips. Of five strengths of the penalty, the one is taken that
    gives held-out clips the largest likelihood. Clips are held out in three parts, and no group is in two of them. A class
    without a clip gets the logit -inf, one that all clips have inf.

    Args:
        values: The values of each clip ``(N, D)``, finite.
        labels: The class number of each clip, or the numbers of its classes.
        classes: The number of classes.
        groups: The group of each clip, such as its speaker. None takes each clip by itself.

    Raises:
        ValueError: for clips of fewer than two classes, or values that are not finite.
        ImportError: if scikit-learn is missing.

    >>> head = fit_head(np.array([[0.0], [1.0], [2.0], [3.0]]), [0, 0, 1, 1], classes=2)
    >>> head(torch.tensor([[0.0], [3.0]])).argmax(1)
    tensor([0, 1])
    """
    x = np.asarray(values, dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError(f"the values of {int((~np.isfinite(x)).any(1).sum())} clips are not finite")
    by_class = bool(labels) and isinstance(labels[0], tuple)
    if not by_class and len(set(labels)) < 2:
        raise ValueError(f"clips of {len(set(labels))} class(es): expected two or more to fit a head")
    head = Head(x.shape[1], classes)
    mean, std = x.mean(0), x.std(0)
    std[std == 0] = 1.0
    x = (x - mean) / std
    of = np.arange(len(x)) if groups is None else np.asarray(groups)
    if by_class:
        there = np.zeros((len(x), classes), dtype=np.int64)
        for i, label in enumerate(labels):
            there[i, list(label)] = 1
        weight, bias = _each_class(x, there, of)
    else:
        weight, bias, head.held_out = _one_class(x, np.asarray(labels), classes, of)
    found = {"mean": mean, "std": std, "weight": weight, "bias": bias}
    head.load_state_dict({name: torch.from_numpy(value) for name, value in found.items()})
    return head


def _each_class(x: Values, there: np.ndarray, groups: np.ndarray) -> tuple[Values, Values]:
    """Fit a logistic regression for each class. Return its weight ``(classes, D)`` and bias ``(classes,)``."""
    weight, bias = np.zeros((there.shape[1], x.shape[1])), np.full(there.shape[1], -np.inf)
    for label, y in enumerate(there.T):
        if y.all():
            bias[label] = np.inf
        elif y.any():
            both, biases, _ = _one_class(x, y, 2, groups)
            weight[label], bias[label] = both[1], biases[1]
    return weight, bias


def _one_class(x: Values, y: np.ndarray, classes: int, groups: np.ndarray) -> tuple[Values, Values, float | None]:
    """Fit a logistic regression over all classes. Return weight ``(classes, D)``, bias, and accuracy on held-out clips."""
    strength, held_out = _best_strength(x, y, classes, groups)
    model = _fitted(x, y, strength)
    weight, bias = np.zeros((classes, x.shape[1])), np.full(classes, -np.inf)
    if len(model.classes_) == 2:  # scikit-learn has one logit then, that of the second class
        weight[model.classes_[1]], bias[model.classes_[1]] = model.coef_[0], model.intercept_[0]
        bias[model.classes_[0]] = 0.0
    else:
        weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return weight, bias, held_out


def _best_strength(x: Values, y: np.ndarray, classes: int, groups: np.ndarray) -> tuple[float, float | None]:
    """Choose C by the likelihood of held-out clips. Return their accuracy with it, too."""
    held_out = _held_out(x, y, groups)
    if any(len(set(y[~held])) < 2 for held in held_out):
        held_out = []
    if not held_out:
        return DEFAULT, None
    losses, right = {}, {}
    for strength in STRENGTHS:
        losses[strength], right[strength] = 0.0, 0
        for held in held_out:
            model = _fitted(x[~held], y[~held], strength)
            probability = np.full((held.sum(), classes), RARE)
            probability[:, model.classes_] = np.maximum(model.predict_proba(x[held]), RARE)
            right[strength] += int((probability.argmax(1) == y[held]).sum())
            losses[strength] -= float(np.log(probability[np.arange(len(probability)), y[held]]).sum())
    best = min(losses, key=losses.__getitem__)
    return best, right[best] / len(y)


def _held_out(x: Values, y: np.ndarray, groups: np.ndarray) -> list[np.ndarray]:
    """Divide the clips into parts of like classes, no group in two. Return for each part which clips are in it."""
    try:
        from sklearn.model_selection import StratifiedGroupKFold
    except ImportError as error:
        raise missing(error, "a head on an embedding needs scikit-learn", "scikit-learn") from error
    if len(set(groups.tolist())) < PARTS or np.bincount(y).max() < PARTS:
        return []
    parts = StratifiedGroupKFold(PARTS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class may have fewer clips than there are parts
        return [np.isin(np.arange(len(y)), held) for _, held in parts.split(x, y, groups)]


def _fitted(x: Values, y: np.ndarray, strength: float):  # type: ignore[no-untyped-def]  # scikit-learn has no types
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=1000).fit(x, y)
