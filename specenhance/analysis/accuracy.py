"""The score of a model whose clips have exactly one class: its accuracy and its confusions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

__all__ = ["ClassCounts", "Score"]


class ClassCounts(NamedTuple):
    """The scores of one class. A score that the clips do not give is NaN.

    Attributes:
        clips: Number of clips of the class.
        precision: Part of the clips that are taken for the class that are of it.
        recall: Part of the clips of the class that are taken for it.
        f1: Harmonic mean of precision and recall.
    """

    clips: int
    precision: float
    recall: float
    f1: float


class Score(NamedTuple):
    """The accuracy and the confusions of a model on a set of clips.

    Attributes:
        accuracy: the accuracy, in [0, 1].
        confusion: the number of clips of each true and each predicted class ``(true, predicted)``.
        right: for each clip 1 if it is classified right, otherwise 0. Of several devices, the clips of the first.

    >>> import torch
    >>> score = Score(0.75, torch.tensor([[2, 0], [1, 1]]))
    >>> score.text(), score.confusions(), score.each_class()[1].recall
    ('accuracy 75.00% of 4 clips', [(1, 0, 1, 2)], 0.5)
    """

    accuracy: float
    confusion: Tensor
    right: Sequence[int] = ()

    @property
    def headline(self) -> str:
        """The name of the figure that counts most."""
        return "accuracy"

    @property
    def clips(self) -> int:
        """The number of clips."""
        return int(self.confusion.sum())

    def figures(self) -> dict[str, float]:
        """Give the accuracy by its name."""
        return {"accuracy": self.accuracy}

    def text(self) -> str:
        """Write the accuracy in one line."""
        return f"accuracy {self.accuracy:.2%} of {self.clips} clips"

    def each_class(self) -> list[ClassCounts]:
        """Give the scores of each class, in their order."""
        hits, had, named = (
            values.tolist() for values in (self.confusion.diag(), self.confusion.sum(1), self.confusion.sum(0))
        )
        return [
            ClassCounts(clips, _part(right, taken), _part(right, clips), _part(2 * right, taken + clips))
            for right, clips, taken in zip(hits, had, named, strict=True)
        ]

    def weakest(self, classes: Sequence[str], number: int) -> list[str]:
        """Write the most frequent confusions, a line each.

        Args:
            classes: names of the classes, in order.
            number: maximum number of lines.
        """
        return [
            f"{count} of {clips} {classes[true]} taken for {classes[predicted]}"
            for true, predicted, count, clips in self.confusions()[:number]
        ]

    def confusions(self) -> list[tuple[int, int, int, int]]:
        """List which classes are taken for which, the most frequent confusion first.

        Returns:
            For each pair: the number of the true class, that of the predicted class, the number of clips that were confused,
            and the number of clips of the true class.
        """
        wrong = self.confusion.clone().fill_diagonal_(0)
        clips = self.confusion.sum(1).tolist()
        pairs = (divmod(flat, len(clips)) for flat in wrong.flatten().argsort(descending=True, stable=True).tolist())
        return [(true, named, int(wrong[true, named]), clips[true]) for true, named in pairs if wrong[true, named]]


def _part(count: int, of: int) -> float:
    return count / of if of else float("nan")
