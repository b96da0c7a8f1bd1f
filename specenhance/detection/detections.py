"""From the probabilities of windows to detections: which classes are found in a window, and windows that belong together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from specenhance.audio.listen import Event
from specenhance.audio.windows import likeliest

__all__ = ["Collector", "detected"]

DIGITS = 6  # after the point, of seconds and of probabilities


def detected(
    probabilities: np.ndarray, thresholds: float | Sequence[float] | np.ndarray, *, several: bool
) -> list[list[tuple[int, float]]]:
    """Tell which classes are found in each window.

    Args:
        probabilities: Probabilities ``(windows, classes)``.
        thresholds: Minimum probability of each class ``(classes,)``, or one number for all.
        several: Whether a window may have several classes, or only the likeliest one, if that reaches its threshold.

    Returns:
        For each window the classes as pairs of number and probability, the likeliest first.

    >>> rows = np.array([[0.6, 0.55, 0.1], [0.2, 0.3, 0.1]])
    >>> detected(rows, 0.5, several=True)
    [[(0, 0.6), (1, 0.55)], []]
    >>> detected(rows, [0.7, 0.5, 0.5], several=True), detected(rows, 0.5, several=False)
    ([[(1, 0.55)], []], [[(0, 0.6)], []])
    """
    least = np.broadcast_to(np.asarray(thresholds, np.float64), probabilities.shape[1:])
    found = []
    for row in probabilities:
        ranked = likeliest(row, len(row) if several else 1)
        found.append([(label, probability) for label, probability in ranked if probability >= least[label]])
    return found


class Collector:
    """Collect the detections of one sound, window by window.

    Args:
        thresholds: As for :func:`detected`.
        several: As for :func:`detected`.
        merge: Maximum gap in seconds between two windows of a class that are one detection. None merges nothing.
        top: Number of classes that every window gives, whatever their thresholds are. None for those that are found.

    >>> collector = Collector(0.5, several=False, merge=0.0)
    >>> for start in (0.0, 1.0, 3.0):
    ...     collector.add(start, start + 1, np.array([0.9 - start / 10, 0.1]))
    >>> collector.result()
    [[0.0, 2.0, 0, 0.9], [3.0, 4.0, 0, 0.6]]
    """

    def __init__(
        self,
        thresholds: float | Sequence[float],
        several: bool = False,
        merge: float | None = None,
        top: int | None = None,
    ) -> None:
        self.thresholds, self.several, self.merge, self.top = thresholds, several, merge, top
        self._found: list[Event] = []
        self._open: dict[int, int] = {}  # of each class, where its last detection is

    def add(self, start: float, end: float, probabilities: np.ndarray) -> None:
        """Take a window. Windows come in their order."""
        if self.top is not None:
            found = likeliest(probabilities, self.top)
        else:
            (found,) = detected(probabilities[None], self.thresholds, several=self.several)
        for label, probability in found:
            if self.merge is not None and label in self._open:
                last = self._found[self._open[label]]
                if start - last.end <= self.merge + 1e-9:
                    joined = last._replace(end=max(last.end, end), probability=max(last.probability, probability))
                    self._found[self._open[label]] = joined
                    continue
            self._open[label] = len(self._found)
            self._found.append(Event(start, end, label, probability))

    def result(self) -> list[list[float]]:
        """Give the detections as lists that JSON keeps exactly, by their start."""
        rounded = [
            [round(one.start, DIGITS), round(one.end, DIGITS), one.label, round(one.probability, DIGITS)]
            for one in self._found
        ]
        return sorted(rounded, key=lambda one: one[0])  # stable: of one window, the likeliest first
