"""Accuracy with an interval over groups: clips of one speaker, recording, site or device stand and fall together.

The unit of chance is the group, not the clip: a draw of the bootstrap takes whole groups. Seeds are the inner noise: where each
clip was heard by the models of several seeds, a draw takes seeds too. What is compared is paired: a draw takes the same groups
and seeds for both.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 8; Davison and Hinkley (1997), section 3.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["LEVEL", "AccuracyInterval", "Interval", "Values", "accuracy_interval", "by_group", "sums_of", "wilson"]

DRAWS = 10_000
LEVEL = 0.95

Values = Sequence[Sequence[float]]
"""Of each seed the value of each clip, in [0, 1]: 1 where it is classified right, otherwise 0."""


class Interval(NamedTuple):
    """A figure in percent, and its 95% interval."""

    value: float
    low: float
    high: float

    def text(self, form: str = ".1f") -> str:
        """Write the figure and its interval.

        >>> Interval(80.0, 75.0, 84.0).text()
        '80.0 (75.0 to 84.0)'
        """
        return f"{self.value:{form}} ({self.low:{form}} to {self.high:{form}})"


class AccuracyInterval(NamedTuple):
    """The 95% interval of an accuracy.

    Attributes:
        low, high: Its ends, in [0, 1].
        over: What it is over, such as ``"12 groups (speaker)"``; empty if the clips are taken as independent.
    """

    low: float
    high: float
    over: str

    def text(self) -> str:
        """Write the interval.

        >>> AccuracyInterval(0.8, 0.9, "").text()
        "95% interval 80.0% to 90.0%, Wilson's"
        """
        by = f"over {self.over}" if self.over else "Wilson's"
        return f"95% interval {self.low:.1%} to {self.high:.1%}, {by}"


def accuracy_interval(right: Sequence[float], groups: Sequence[str] = (), unit: str = "") -> AccuracyInterval:
    """Compute the interval of an accuracy: over groups by a bootstrap, or over clips (Wilson).

    It is over clips where the groups are not known, or each clip is a group. So it is where all clips are one group, too, but
    then it says nothing of other groups.

    Args:
        right: 1 for each clip that is classified right, otherwise 0.
        groups: The group of each clip.
        unit: What a group is.

    >>> accuracy_interval([1, 1, 1, 0, 0, 1], ["a", "a", "b", "b", "c", "c"], "speaker").over
    '3 groups (speaker)'
    """
    number = len(set(groups))
    if number in (0, 1, len(right)):
        return AccuracyInterval(*wilson(int(sum(right)), len(right)), "")
    found = by_group([right], groups)
    return AccuracyInterval(found.low / 100, found.high / 100, f"{number} groups ({unit})")


def wilson(right: int, clips: int) -> tuple[float, float]:
    """Give the 95% interval of the probability that a clip is classified right.

    Args:
        right: number of clips that are classified right.
        clips: number of clips, 1 or more.

    Source: Wilson (1927), as scipy computes it.

    >>> low, high = wilson(90, 100)
    >>> round(low, 3), round(high, 3)
    (0.826, 0.945)
    """
    found = stats.binomtest(right, clips).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def by_group(
    values: Values, groups: Sequence[str], baseline: Values | None = None, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """Compute a mean in percent, or its difference to a baseline's, with an interval by a bootstrap over groups and seeds.

    Args:
        values: Of each seed the value of each clip.
        groups: The group of each clip.
        baseline: The same for another arm, on the same clips and seeds.
        draws: The number of draws.
        seed: Seed of the draws.

    >>> by_group([[1, 1, 0, 0]], ["a", "a", "b", "b"], draws=100)
    Interval(value=50.0, low=0.0, high=100.0)
    """
    sums, counts = sums_of(values, groups, baseline)
    seeds, number = sums.shape
    rng = np.random.default_rng(seed)
    drawn = rng.integers(number, size=(draws, number))
    if seeds == 1:
        tops = sums[0][drawn].sum(1)
    else:
        weight = rng.multinomial(seeds, [1 / seeds] * seeds, size=draws) / seeds
        tops = np.take_along_axis(weight @ sums, drawn, 1).sum(1)
    low, high = np.percentile(100 * tops / counts[drawn].sum(1), [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Interval(float(100 * sums.mean(0).sum() / counts.sum()), float(low), float(high))


def sums_of(
    values: Values, groups: Sequence[str], baseline: Values | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum up the values of each seed and group, less those of a baseline ``(seeds, groups)``, and count each group's clips.

    The groups are in the order of their names.

    >>> sums, counts = sums_of([[1, 1, 0]], ["b", "b", "a"])
    >>> sums.tolist(), counts.tolist()
    ([[0.0, 2.0]], [1.0, 2.0])
    """
    names, of = np.unique(np.asarray(groups), return_inverse=True)
    clips = np.asarray(values, float)
    if baseline is not None:
        clips = clips - np.asarray(baseline, float)
    sums: NDArray[np.float64] = np.stack([np.bincount(of, row, len(names)) for row in clips]).astype(float)
    return sums, np.bincount(of, minlength=len(names)).astype(float)
