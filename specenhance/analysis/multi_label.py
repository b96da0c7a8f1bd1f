"""The scores of a model whose clips have any number of classes: average precision, AUROC, and F1 at each class's threshold."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics.functional.classification import multilabel_auroc, multilabel_average_precision

__all__ = ["ClassScore", "MultiLabelScore", "tuned_thresholds"]

UNKNOWN = 0.5
"""The threshold of a class that no clip has."""


class ClassScore(NamedTuple):
    """The scores of one class. A score that the clips do not give is NaN.

    Attributes:
        clips: Number of clips that have the class.
        average_precision: Mean precision over all recalls, in [0, 1].
        auroc: Area under the receiver operating characteristic, in [0, 1].
        threshold: Probability from which on the class counts as found.
        precision: Part of the clips with the class found that have it.
        recall: Part of the clips with the class in which it is found.
        f1: Harmonic mean of precision and recall.
    """

    clips: int
    average_precision: float
    auroc: float
    threshold: float
    precision: float
    recall: float
    f1: float


@dataclass
class MultiLabelScore:
    """The scores of a model on a set of clips.

    Attributes:
        probabilities: Probability of each class in each clip, ``(clips, classes)``.
        targets: 1 for each class that a clip has, else 0, ``(clips, classes)``.
        thresholds: Probability from which on each class counts as found, ``(classes,)``.

    >>> probabilities = torch.tensor([[0.9, 0.2], [0.6, 0.7], [0.1, 0.4]])
    >>> score = MultiLabelScore(probabilities, torch.tensor([[1, 0], [0, 1], [0, 1]]), [0.7, 0.5])
    >>> score.mean_ap, score.each_class()[1].recall
    (1.0, 0.5)
    """

    probabilities: Tensor
    targets: Tensor
    thresholds: Sequence[float]

    @property
    def headline(self) -> str:
        """The name of the figure that counts most."""
        return "mean_ap"

    @property
    def clips(self) -> int:
        """The number of clips."""
        return len(self.targets)

    @property
    def average_precision(self) -> Tensor:
        """The average precision of each class ``(classes,)``; NaN for a class that no clip has.

        It is the sum over all thresholds of precision times the gain of recall, without interpolation, as scikit-learn's.
        """
        found = self._each(multilabel_average_precision)
        return torch.where(self.targets.sum(0) > 0, found, torch.nan)

    @property
    def auroc(self) -> Tensor:
        """The AUROC of each class ``(classes,)``; NaN for a class that no clip has, or that every clip has."""
        known = (self.targets.sum(0) > 0) & (self.targets.sum(0) < self.clips)
        return torch.where(known, self._each(multilabel_auroc).clamp(max=1), torch.nan)  # rounding may give more

    @property
    def mean_ap(self) -> float:
        """The mean average precision (mAP): over the classes that clips have. NaN if there is none."""
        return float(self.average_precision.nanmean())

    @property
    def mean_f1(self) -> float:
        """The mean F1 at the thresholds: over the classes that clips have (macro F1)."""
        return float(torch.tensor([row.f1 for row in self.each_class() if row.clips]).mean())

    def figures(self) -> dict[str, float]:
        """Give the means over the classes by name."""
        return {"mean_ap": self.mean_ap, "auroc": float(self.auroc.nanmean()), "f1": self.mean_f1}

    def each_class(self) -> list[ClassScore]:
        """Give the scores of each class, in their order."""
        found = self.probabilities >= torch.tensor(self.thresholds, dtype=self.probabilities.dtype)
        there = self.targets > 0
        hits, named, had = (found & there).sum(0).double(), found.sum(0), there.sum(0)
        precision, recall = hits / named, hits / had
        f1 = torch.where(had > 0, 2 * hits / (named + had), torch.nan)
        rows = zip(had, self.average_precision, self.auroc, self.thresholds, precision, recall, f1, strict=True)
        return [ClassScore(int(clips), *(float(value) for value in values)) for clips, *values in rows]

    def weakest(self, classes: Sequence[str], number: int) -> list[str]:
        """Write the classes of the lowest average precision, a line each.

        Args:
            classes: names of the classes, in order.
            number: maximum number of lines.
        """
        rows = [(row, name) for row, name in zip(self.each_class(), classes, strict=True) if row.clips]
        return [
            f"{name}: average precision {row.average_precision:.1%}, F1 {row.f1:.1%}, {row.clips} clips"
            for row, name in sorted(rows, key=lambda pair: pair[0].average_precision)[:number]
        ]

    def text(self) -> str:
        """Write the means in one line.

        >>> ones = torch.tensor([[0.9, 0.2], [0.1, 0.7]])
        >>> MultiLabelScore(ones, ones.round().int(), [0.5, 0.5]).text()
        'mAP 100.00%, AUROC 100.00%, F1 100.00% of 2 clips'
        """
        figures = self.figures()
        return f"mAP {figures['mean_ap']:.2%}, AUROC {figures['auroc']:.2%}, F1 {figures['f1']:.2%} of {self.clips:,} clips"

    def _each(self, score: Callable[..., Any]) -> Tensor:
        classes = self.targets.shape[1]
        # In float64: sums of float32 would lose digits over many clips. torchmetrics takes no fewer than two labels.
        p, y = self.probabilities.double(), self.targets.long()
        if classes == 1:
            p, y = p.expand(-1, 2), y.expand(-1, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes that no clip has: their scores are NaN here
            found: Tensor = score(p, y, num_labels=p.shape[1], average="none", validate_args=False)
        return found[:classes]


def tuned_thresholds(probabilities: Tensor, targets: Tensor) -> list[float]:
    """Give for each class the threshold of the highest F1.

    Candidates are the probabilities of the clips. Of equal ones the highest is taken. The threshold lies halfway between the
    chosen probability and the next lower one, so that rounding moves no clip across it. A class that no clip has gets 0.5.

    Args:
        probabilities: Probability of each class in each clip, ``(clips, classes)``.
        targets: 1 for each class that a clip has, else 0, ``(clips, classes)``.

    >>> tuned_thresholds(torch.tensor([[0.75], [0.5], [0.25]]), torch.tensor([[1], [1], [0]]))
    [0.375]
    """
    thresholds = []
    for p, y in zip(probabilities.double().T, targets.T, strict=True):
        if not y.sum():
            thresholds.append(UNKNOWN)
            continue
        p, order = p.sort(descending=True, stable=True)
        hits, named = y[order].cumsum(0).double(), torch.arange(1, len(p) + 1)
        f1 = 2 * hits / (named + y.sum())
        last = torch.ones(len(p), dtype=torch.bool)
        last[:-1] = p[1:] < p[:-1]  # clips of equal probability stand on one side
        best = int(torch.where(last, f1, -1.0).argmax())
        below = float(p[best + 1]) if best + 1 < len(p) else 0.0
        thresholds.append((float(p[best]) + below) / 2)
    return thresholds
