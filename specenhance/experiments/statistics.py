"""What may be said of a comparison: paired differences with intervals, p values and what could be seen.

Intervals are those of :mod:`specenhance.analysis.intervals`: by a bootstrap over groups and seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from specenhance.analysis.intervals import LEVEL, Interval, Values, by_group, sums_of

__all__ = ["Effect", "effect", "holm", "mixed_effect"]

POWER = 0.8  # a difference that is visible is seen in four of five such comparisons


class Effect(NamedTuple):
    """What an arm gains over the baseline.

    Attributes:
        difference: The paired difference in percentage points.
        p: The two-sided p value of a t-test of the difference, see :func:`effect`. NaN for a single group.
        visible: The smallest difference, in points, that such a comparison would find four times of five. NaN for a single
            group.
    """

    difference: Interval
    p: float
    visible: float


def effect(values: Values, groups: Sequence[str], baseline: Values) -> Effect:
    """Compare an arm with the baseline on the same clips and seeds.

    The variance of the difference is that between groups, divided by their number, plus that between seeds, divided by
    theirs. Its degrees of freedom are Satterthwaite's (1946). With one seed this is a paired t-test over groups.

    Args:
        values: Of each seed the value of each clip.
        groups: The group of each clip.
        baseline: The same for the baseline.

    >>> found = effect([[1, 1, 1, 0, 1, 1]], ["a", "a", "b", "b", "c", "c"], [[1, 0, 0, 0, 1, 0]])
    >>> found.difference.value, round(found.p, 3)
    (50.0, 0.0)
    """
    difference = by_group(values, groups, baseline)
    sums, counts = sums_of(values, groups, baseline)
    between = [100 * sums.mean(0) / counts, 100 * sums.sum(1) / counts.sum()]  # groups, seeds
    if len(counts) < 2:
        return Effect(difference, float("nan"), float("nan"))
    parts = [(float(stats.sem(each)) ** 2, len(each) - 1) for each in between if len(each) > 1]
    variance = sum(square for square, _ in parts)
    middle = float(np.mean(between[0]))
    if variance == 0:
        return Effect(difference, float(middle == 0), 0.0)
    freedom = variance**2 / sum(square**2 / free for square, free in parts)
    p = 2 * stats.t.sf(abs(middle) / variance**0.5, freedom)
    visible = (stats.t.ppf((1 + LEVEL) / 2, freedom) + stats.t.ppf(POWER, freedom)) * variance**0.5
    return Effect(difference, float(p), float(visible))


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Correct p values for their number (Holm 1979). A p value that is NaN is no test and stays.

    Args:
        p: The p value of each test, by the test's name.

    >>> {name: round(value, 2) for name, value in holm({"a": 0.01, "b": 0.04, "c": 0.03}).items()}
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    from statsmodels.stats.multitest import multipletests  # it brings pandas: only a report needs it

    tests = {name: value for name, value in p.items() if not np.isnan(value)}
    if not tests:
        return dict(p)
    corrected = multipletests(list(tests.values()), method="holm")[1]
    return {**p, **dict(zip(tests, map(float, corrected), strict=True))}


def mixed_effect(values: Values, groups: Sequence[str], baseline: Values) -> Interval:
    """Estimate the difference to the baseline by a linear mixed model.

    Its observations are the accuracies of each group in each seed. The arm has a fixed effect. Each group has a random level
    and, with several seeds, a random effect of the arm; with one seed that cannot be told from the rest.

    Args:
        values: Of each seed the value of each clip.
        groups: The group of each clip; two groups or more.
        baseline: The same for the baseline.

    Returns:
        The difference in percentage points, with the model's 95% interval; NaN where the model cannot be fitted.

    Source: Barr et al. (2013) on the random effect of what is compared.

    >>> rng = np.random.default_rng(0)
    >>> groups = [f"g{i % 8}" for i in range(160)]
    >>> found = mixed_effect(rng.random((2, 160)) < 0.8, groups, rng.random((2, 160)) < 0.5)
    >>> found.low < 30 < found.high
    True
    """
    import warnings

    import pandas as pd
    import statsmodels.formula.api as smf

    rows = []
    for arm, each in ((1, values), (0, baseline)):
        sums, counts = sums_of(each, groups)
        rows += [(arm, group, value) for row in 100 * sums / counts for group, value in enumerate(row)]
    table = pd.DataFrame(rows, columns=["arm", "group", "accuracy"])
    slope = {"re_formula": "~arm"} if len(values) > 1 else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a variance at its bound 0: the estimate is right
        try:
            fitted = smf.mixedlm("accuracy ~ arm", table, groups=table["group"], **slope).fit()
            low, high = fitted.conf_int(1 - LEVEL).loc["arm"]
        except np.linalg.LinAlgError:  # nothing varies
            return Interval(*[float("nan")] * 3)
    return Interval(float(fitted.params["arm"]), float(low), float(high))
