"""Accuracy with an interval over groups: clips of one speaker, recording, site or device stand and fall together.

The unit of chance is the group, not the clip: a draw of the bootstrap takes whole groups. Where each clip was heard by the
models of several seeds, seeds are a second source of chance. What is compared is paired: a draw takes the same groups and seeds
for both. Groups and seeds are few, and a draw of n from n has only (n - 1) / n of their variance: :func:`by_group` has the
correction.
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
        low: Its lower end, in [0, 1].
        high: Its upper end, in [0, 1].
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

    The square of the standard error has two parts, ``s^2 = G / (G - 1) * V_G + S / (S - 1) * V_S``. ``V_G`` is the variance of
    the value over draws of the ``G`` groups, ``V_S`` that over draws of the ``S`` seeds. A single group or seed has no part.

    The ends of the interval are ``tanh(artanh(x) +- t * s / (1 - x^2))``. ``x`` is the value on a scale on which its range is
    from -1 to 1, and ``s`` its standard error on that scale. ``t`` is the quantile of Student's distribution with
    Satterthwaite's degrees of freedom. For an accuracy, ``artanh(x)`` is half the log-odds. So an interval is within the range:
    0 to 100 for a mean, -100 to 100 for a difference. It has no width at an end of the range, and where no group and no seed
    differs from another.

    Args:
        values: Of each seed the value of each clip.
        groups: The group of each clip.
        baseline: The same for another arm, on the same clips and seeds.
        draws: The number of draws of groups. It matters only where groups differ in size: else ``V_G`` is known without draws,
            as ``V_S`` always is.
        seed: Seed of the draws.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 8 and 12 (a standard error by draws of
    groups, with Student's t); Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69 (2015)
    371-386 (the factor n / (n - 1); why not percentiles of few); Satterthwaite (1946).

    >>> by_group([[1, 1, 1, 0] * 2, [1, 1, 0, 0] * 2], list("aabbccdd")).text()
    '62.5 (7.9 to 97.0)'
    >>> by_group([[1, 1, 0, 0] * 5], list("abcd") * 5, [[0, 1, 0, 0] * 5]).text("+.1f")
    '+25.0 (-53.2 to +80.2)'
    """
    sums, counts = sums_of(values, groups, baseline)
    seeds, number = sums.shape
    parts = []  # of the variance, with their degrees of freedom
    if number > 1:
        over_groups = _variance_over_draws(sums.mean(0), counts, draws, seed)
        parts.append((over_groups * number / (number - 1), number - 1))
    if seeds > 1:
        parts.append((float(np.var(sums.sum(1) / counts.sum(), ddof=1)) / seeds, seeds - 1))
    middle, half = (0.5, 0.5) if baseline is None else (0.0, 1.0)
    value = float(sums.mean(0).sum() / counts.sum())
    low, high = _ends((value - middle) / half, [(part / half**2, free) for part, free in parts])
    return Interval(100 * value, 100 * (middle + half * low), 100 * (middle + half * high))


def _variance_over_draws(sums: NDArray[np.float64], counts: NDArray[np.float64], draws: int, seed: int) -> float:
    """Compute the variance of the mean over draws of as many groups as there are."""
    number = len(counts)
    if counts.min() == counts.max():
        return float(np.var(sums / counts)) / number
    drawn = np.random.default_rng(seed).integers(number, size=(draws, number))
    return float(np.var(sums[drawn].sum(1) / counts[drawn].sum(1)))


def _ends(x: float, parts: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Compute the ends of the interval of x, in [-1, 1], from the parts of its variance and their degrees of freedom."""
    variance = sum(part for part, _ in parts)
    if variance < 1e-20 or abs(x) >= 1:  # what is equal differs by rounding
        return x, x
    freedom = variance**2 / sum(part**2 / free for part, free in parts)
    reach = stats.t.ppf((1 + LEVEL) / 2, freedom) * variance**0.5 / (1 - x**2)
    return float(np.tanh(np.arctanh(x) - reach)), float(np.tanh(np.arctanh(x) + reach))


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
