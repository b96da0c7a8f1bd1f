"""What may be said of a comparison: intervals over groups, paired differences, corrected p values, and what could be seen.

Clips of one group (speaker, recording, site, device) stand and fall together. So the unit of chance is the group, not the clip:
a draw of the bootstrap takes whole groups. Seeds are the inner noise: a clip's value is first its mean over the seeds. What is
compared is paired: the same groups are drawn for both arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["Effect", "Interval", "by_group", "effect", "holm", "mixed_effect"]

DRAWS = 10_000
LEVEL = 0.95
POWER = 0.8  # a difference that is visible is seen in four of five such comparisons

Values = Sequence[Sequence[float]]  # of each seed the value of each clip


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


class Effect(NamedTuple):
    """What an arm gains over the baseline.

    Attributes:
        difference: The paired difference in percentage points.
        p: The two-sided p value of a t-test over the groups' differences. NaN for a single group.
        visible: The smallest difference, in points, that such a comparison would find four times of five.
    """

    difference: Interval
    p: float
    visible: float


def by_group(
    values: Values, groups: Sequence[str], baseline: Values | None = None, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """Compute a mean in percent, or its difference to a baseline's, with an interval by a bootstrap over groups.

    Args:
        values: 1 for each clip that is right, otherwise 0; a row for each seed.
        groups: The group of each clip.
        baseline: The same for another arm, on the same clips. It may have another number of seeds.
        draws: The number of draws.
        seed: Seed of the draws.

    >>> by_group([[1, 1, 0, 0]], ["a", "a", "b", "b"], draws=100)
    Interval(value=50.0, low=0.0, high=100.0)
    """
    sums, counts = _sums(values, groups, baseline)
    drawn = np.random.default_rng(seed).integers(len(counts), size=(draws, len(counts)))
    means = 100 * sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Interval(float(100 * sums.sum() / counts.sum()), float(low), float(high))


def effect(values: Values, groups: Sequence[str], baseline: Values, draws: int = DRAWS) -> Effect:
    """Compare an arm with the baseline on the same clips.

    >>> found = effect([[1, 1, 1, 0, 1, 1]], ["a", "a", "b", "b", "c", "c"], [[1, 0, 0, 0, 1, 0]])
    >>> found.difference.value, round(found.p, 3)
    (50.0, 0.0)
    """
    sums, counts = _sums(values, groups, baseline)
    each = 100 * sums / counts
    if len(each) < 2:
        return Effect(by_group(values, groups, baseline, draws), float("nan"), float("nan"))
    p = 0.0 if np.ptp(each) == 0 and each[0] != 0 else float(stats.ttest_1samp(each, 0).pvalue)
    freedom = len(each) - 1
    visible = (stats.t.ppf((1 + LEVEL) / 2, freedom) + stats.t.ppf(POWER, freedom)) * stats.sem(each)
    return Effect(by_group(values, groups, baseline, draws), 1.0 if np.isnan(p) else p, float(visible))


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Correct p values for their number (Holm 1979).

    Args:
        p: The p value of each test, by the test's name.

    >>> {name: round(value, 2) for name, value in holm({"a": 0.01, "b": 0.04, "c": 0.03}).items()}
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    from statsmodels.stats.multitest import multipletests  # it brings pandas: only a report needs it

    return dict(zip(p, map(float, multipletests(list(p.values()), method="holm")[1]), strict=True))


def mixed_effect(values: Values, groups: Sequence[str], baseline: Values) -> Interval:
    """Estimate the difference to the baseline by a linear mixed model: a fixed effect of the arm, a random level of each group.

    Its observations are the accuracies of each group in each seed.

    Returns:
        The difference in percentage points, with the model's 95% interval.

    >>> rng = np.random.default_rng(0)
    >>> groups = [f"g{i % 8}" for i in range(160)]
    >>> found = mixed_effect(rng.random((2, 160)) < 0.8, groups, rng.random((2, 160)) < 0.5)
    >>> found.low < 30 < found.high
    True
    """
    import pandas as pd
    import statsmodels.formula.api as smf

    rows = []
    for arm, each in ((1, values), (0, baseline)):
        for seed, row in enumerate(each):
            sums, counts = _sums([row], groups)
            rows += [(arm, seed, g, 100 * s / n) for g, (s, n) in enumerate(zip(sums, counts, strict=True))]
    table = pd.DataFrame(rows, columns=["arm", "seed", "group", "accuracy"])
    fitted = smf.mixedlm("accuracy ~ arm", table, groups=table["group"]).fit()
    low, high = fitted.conf_int(1 - LEVEL).loc["arm"]
    return Interval(float(fitted.params["arm"]), float(low), float(high))


def _sums(
    values: Values, groups: Sequence[str], baseline: Values | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum up each group's clips, a clip being its mean over the seeds; and count them."""
    names, of = np.unique(np.asarray(groups), return_inverse=True)
    clips = np.asarray(values, float).mean(0)
    if baseline is not None:
        clips = clips - np.asarray(baseline, float).mean(0)
    return np.bincount(of, clips, len(names)), np.bincount(of, minlength=len(names)).astype(float)
