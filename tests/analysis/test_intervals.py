"""Intervals: against all draws that can be listed, within their range, and in simulations as often right as they say."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, logit

from specenhance.analysis.intervals import by_group

GROUPS = ["a"] * 2 + ["b"] * 4 + ["c"] * 4
RIGHT = [1, 1, 1, 0, 1, 0, 0, 0, 0, 1]
BASE = [1, 0, 1, 0, 0, 0, 0, 0, 1, 1]
ROWS = {name: [i for i, g in enumerate(GROUPS) if g == name] for name in "abc"}


def mean_of(values, draw):
    return np.mean([values[i] for name in draw for i in ROWS[name]])


def expected(value, parts, low, high):
    """The interval on the scale of log-odds: parts of the variance, each with what a draw's was multiplied with."""
    variance = sum(part * n / (n - 1) for part, n in parts)
    freedom = variance**2 / sum((part * n / (n - 1)) ** 2 / (n - 1) for part, n in parts)
    p = (value - low) / (high - low)
    reach = stats.t.ppf(0.975, freedom) * variance**0.5 / ((high - low) * p * (1 - p))
    return [100 * (low + (high - low) * expit(logit(p) + sign * reach)) for sign in (-1, 1)]


@pytest.mark.parametrize("baseline", [None, BASE])
def test_intervals_are_those_of_all_draws_of_groups(baseline):
    """Three groups have 27 equally probable draws, which can be listed."""
    values = RIGHT if baseline is None else [r - b for r, b in zip(RIGHT, BASE, strict=True)]
    drawn = [mean_of(values, draw) for draw in product("abc", repeat=3)]
    found = by_group([RIGHT], GROUPS, None if baseline is None else [baseline], draws=400_000)
    assert found.value == pytest.approx(100 * np.mean(values))
    ends = expected(np.mean(values), [(np.var(drawn), 3)], 0 if baseline is None else -1, 1)
    assert [found.low, found.high] == pytest.approx(ends, abs=0.3)
    assert by_group([RIGHT], GROUPS, None if baseline is None else [baseline]) == pytest.approx(found, abs=2)


def test_intervals_are_those_of_all_draws_of_groups_and_seeds():
    seeds = [RIGHT, BASE]
    mean = np.mean(seeds, 0)
    over_groups = np.var([mean_of(mean, draw) for draw in product("abc", repeat=3)])
    over_seeds = np.var([np.mean([np.mean(seeds[s]) for s in draw]) for draw in product(range(2), repeat=2)])
    found = by_group(seeds, GROUPS, draws=400_000)
    ends = expected(np.mean(seeds), [(over_groups, 3), (over_seeds, 2)], 0, 1)
    assert [found.low, found.high] == pytest.approx(ends, abs=0.3)


def test_groups_of_one_size_need_no_draws():
    rng = np.random.default_rng(0)
    right, groups = rng.random((1, 60)) < 0.8, list("abcdef") * 10
    found = by_group(right, groups)
    means = [right[0, k::6].mean() for k in range(6)]
    assert found == by_group(right, groups, draws=1)
    assert [found.low, found.high] == pytest.approx(expected(right.mean(), [(np.var(means) / 6, 6)], 0, 1))
    larger = by_group(np.append(right, [[1]], 1), [*groups, "f"])  # groups differ in size: draws
    assert larger == pytest.approx(found, abs=3)


def test_seeds_are_averaged_within_a_clip():
    other = [0] * 10
    assert by_group([RIGHT, other], GROUPS).value == pytest.approx(50 * np.mean(RIGHT))
    both = by_group([RIGHT, other], GROUPS, [BASE, other])
    assert both.value == pytest.approx(50 * (np.mean(RIGHT) - np.mean(BASE)))


def test_a_source_of_chance_that_is_seen_once_or_does_not_vary_has_no_part():
    assert by_group([RIGHT], ["a"] * 10) == pytest.approx((50, 50, 50))
    assert by_group([RIGHT, RIGHT], ["a"] * 10) == pytest.approx((50, 50, 50))
    assert by_group([RIGHT, RIGHT], GROUPS) == pytest.approx(by_group([RIGHT], GROUPS))
    assert by_group([[1] * 10], GROUPS) == (100, 100, 100)
    assert by_group([[0] * 10], GROUPS, [[1] * 10]) == (-100, -100, -100)
    two = by_group([[1, 1, 1, 0], [1, 1, 1, 1]], ["a"] * 4)
    assert [two.low, two.high] == pytest.approx(expected(0.875, [(0.125**2 / 2, 2)], 0, 1))


@given(st.integers(1, 4), st.integers(1, 5), st.floats(0, 1), st.booleans(), st.integers(0, 2**32 - 1))
def test_an_interval_has_the_value_and_stays_in_the_range(seeds, number, chance, paired, seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(number, size=30).astype(str).tolist()
    right, base = rng.random((seeds, 30)) < chance, rng.random((seeds, 30)) < 0.5
    found = by_group(right, groups, base if paired else None, draws=100)
    least = -100 if paired else 0
    assert least - 1e-9 <= found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high <= 100 + 1e-9


# An accuracy of about 94%. Percentiles of a bootstrap's draws would hold the truth in 77, 88, 87, 84 and 91 of 100 simulations.
@pytest.mark.parametrize(("seeds", "number"), [(1, 3), (1, 9), (2, 5), (2, 9), (4, 9)])
def test_an_interval_of_few_holds_the_truth_as_often_as_it_says(seeds, number):
    rng = np.random.default_rng([seeds, number])
    spread = np.array([0.7, 0.4 if seeds > 1 else 0])  # of the log-odds: between groups, between seeds
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    truth = 100 * np.average(expit(3 + nodes * np.linalg.norm(spread)), weights=weights)
    groups = [f"g{i}" for i in range(number) for _ in range(30)]
    held = 0
    for _ in range(400):
        odds = 3 + rng.normal(0, spread[0], number).repeat(30) + rng.normal(0, spread[1], (seeds, 1))
        found = by_group(rng.random((seeds, 30 * number)) < expit(odds), groups)
        held += found.low <= truth <= found.high
    assert 0.9 < held / 400 <= 0.99
