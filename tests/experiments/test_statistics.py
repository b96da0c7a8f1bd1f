"""Paired differences and p values: against scipy on the groups' means, and simulated comparisons."""

import numpy as np
import pytest
from scipy import stats

from specenhance.analysis.intervals import by_group
from specenhance.experiments.statistics import effect, holm, mixed_effect

GROUPS = ["a"] * 2 + ["b"] * 4 + ["c"] * 4
RIGHT = [1, 1, 1, 0, 1, 0, 0, 0, 0, 1]
BASE = [1, 0, 1, 0, 0, 0, 0, 0, 1, 1]


def test_an_effect_is_a_t_test_over_groups():
    rng = np.random.default_rng(0)
    groups = [f"g{i % 12}" for i in range(600)]
    right, base = (rng.random((1, 600)) < p for p in (0.7, 0.6))
    found = effect(right, groups, base)
    each = [
        100 * np.mean([float(right[0, i]) - float(base[0, i]) for i in range(600) if groups[i] == g])
        for g in sorted(set(groups))
    ]
    assert found.p == pytest.approx(stats.ttest_rel(each, np.zeros(12)).pvalue)


@pytest.mark.parametrize("seeds", [1, 6])
def test_intervals_and_p_values_hold_the_truth_nineteen_times_of_twenty(seeds):
    """The gain differs from group to group and, in the same measure, from seed to seed."""
    rng = np.random.default_rng(0)
    groups = [f"g{i}" for i in range(24) for _ in range(20)]
    held = found_by_chance = 0
    for _ in range(200):
        of_group = rng.normal(0, 0.1, 24).repeat(20)
        of_seed = rng.normal(0, 0.05, (seeds, 1)) if seeds > 1 else 0
        base = rng.random((seeds, 480)) < 0.5
        right = rng.random((seeds, 480)) < 0.6 + of_group + of_seed
        same = rng.random((seeds, 480)) < 0.5 + of_group + of_seed
        found = by_group(right, groups, base, draws=500)
        held += found.low < 10 < found.high
        found_by_chance += effect(same, groups, base).p < 0.05
    assert 0.87 < held / 200 <= 1
    assert found_by_chance / 200 < 0.1


def test_what_is_called_visible_is_found_four_times_of_five():
    rng = np.random.default_rng(1)
    groups = [f"g{i}" for i in range(20) for _ in range(10)]
    noise = rng.normal(0, 0.05, (400, 20)).repeat(10, axis=1)
    visible = np.median([effect([row], groups, [np.zeros(200)]).visible for row in noise[:100]])
    seen = [effect([row + visible / 100], groups, [np.zeros(200)]).p < 0.05 for row in noise]
    assert 0.7 < np.mean(seen) < 0.9


def test_no_difference_is_no_effect_and_one_group_has_no_p():
    found = effect([RIGHT], GROUPS, [RIGHT])
    assert (found.difference, found.p, found.visible) == ((0, 0, 0), 1.0, 0.0)
    assert np.isnan(effect([RIGHT], ["a"] * 10, [BASE]).p)


def test_corrected_p_values():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.01, "one group": float("nan"), "c": 0.03}) == pytest.approx(
        {"a": 0.02, "one group": float("nan"), "c": 0.03}, nan_ok=True
    )


def test_a_mixed_model_finds_a_difference_that_groups_hide():
    rng = np.random.default_rng(2)
    level = rng.uniform(0.2, 0.8, 10).repeat(40)
    groups = [f"g{i}" for i in range(10) for _ in range(40)]
    base, right = rng.random((3, 400)) < level, rng.random((3, 400)) < level + 0.1
    found = mixed_effect(right, groups, base)
    assert found.low > 0
    assert found.low < 10 < found.high


def test_a_mixed_model_of_one_seed_is_the_t_test_over_groups():
    rng = np.random.default_rng(3)
    groups = [f"g{i % 10}" for i in range(400)]
    level = np.tile(rng.uniform(0.1, 0.9, 10), 40)
    right, base = rng.random((1, 400)) < level + 0.1, rng.random((1, 400)) < level
    found = mixed_effect(right, groups, base)
    each = [100 * np.mean(right[0, k::10].astype(float) - base[0, k::10]) for k in range(10)]
    assert found.value == pytest.approx(np.mean(each), abs=1e-6)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * stats.sem(each), rel=0.02)


def test_a_mixed_model_does_not_take_seeds_for_groups():
    """The gain differs between five groups: twenty seeds tell nothing more of other groups."""
    rng = np.random.default_rng(4)
    groups = [f"g{i}" for i in range(5) for _ in range(60)]
    level = np.array([0.0, 0.1, 0.2, 0.3, 0.4]).repeat(60)
    base, right = rng.random((20, 300)) < 0.5, rng.random((20, 300)) < 0.5 + level
    found = mixed_effect(right, groups, base)
    assert found.high - found.low > 20
