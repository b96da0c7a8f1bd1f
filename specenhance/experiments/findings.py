"""The findings of a comparison: what each arm reaches and gains, from what was measured of its runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from specenhance.analysis.intervals import Interval, by_group
from specenhance.analysis.masks import CONSTANT
from specenhance.experiments.grid import Run
from specenhance.experiments.latency import Latency
from specenhance.experiments.measure import HEARD
from specenhance.experiments.plan import Plan
from specenhance.experiments.statistics import Effect, effect, holm, mixed_effect
from specenhance.training.store import RESULT, read_history

__all__ = ["Arm", "Findings", "find"]

# A mixed model of fewer groups cannot tell their spread; one of more is a bootstrap that takes minutes.
LEAST_GROUPS, MOST_GROUPS = 5, 500


class Arm(NamedTuple):
    """What was found of an arm.

    Attributes:
        name: Its name.
        accuracy: The accuracy under each condition.
        gains: What it gains over the baseline under each condition; empty for the baseline.
        p: The p value of its gain on clean clips, corrected for the number of arms; None for the baseline.
        mixed: The gain on clean clips by a mixed model; None for the baseline, and where there are too few or too many groups.
        parameters: The number of parameters, and of those the front end's.
        seconds: The mean time of a training.
        latency: The time that a clip takes; None if it was not measured.
        runs: The number of runs.
        curves: For each run the validation accuracy after each epoch, in percent.
        mask_change: For each run how much its mask changes between clean clips, as a part of its mean; None without a mask.

    >>> Arm("tfe4", {}, {}, None, None, (10, 0), 1.0, None, 2, [], [0.002, 0.3]).constant
    1
    """

    name: str
    accuracy: dict[str, Interval]
    gains: dict[str, Effect]
    p: float | None
    mixed: Interval | None
    parameters: tuple[int, int]
    seconds: float
    latency: Latency | None
    runs: int
    curves: list[list[float]]
    mask_change: list[float | None]

    @property
    def masks(self) -> list[float]:
        """The changes of the masks, of the runs that have one."""
        return [change for change in self.mask_change if change is not None]

    @property
    def constant(self) -> int:
        """The number of runs whose mask is the same for every clip."""
        return sum(change < CONSTANT for change in self.masks)


class Findings(NamedTuple):
    """What was found of all arms, the baseline first.

    Attributes:
        arms: The arms.
        clips: The number of test clips.
        groups: The number of groups.
        unit: What a group is, such as ``"speaker"``.
    """

    arms: list[Arm]
    clips: int
    groups: int
    unit: str


def find(plan: Plan, runs: Sequence[Run], latency: Mapping[str, Latency] | None = None) -> Findings:
    """Put together what was measured of all runs.

    Args:
        plan: The plan.
        runs: Its runs.
        latency: The time that a clip takes, of each arm.

    Raises:
        FileNotFoundError: for a run that was not measured.
    """
    heard = {run.folder: json.loads((run.folder / HEARD).read_text(encoding="utf-8")) for run in runs}
    of = {arm: [run for run in runs if run.name == arm] for arm in plan.arms()}
    names = [plan.reference, *plan.rivals()]
    values = {name: _values(of[name], heard, plan.heard) for name in names}
    base = values[plan.reference]
    groups = len(set(base.groups))
    gains = {
        name: {c: effect(values[name].right[c], base.groups, base.right[c]) for c in plan.heard}
        for name in plan.rivals()
    }
    corrected = holm({name: found["clean"].p for name, found in gains.items()})
    arms = []
    for name in names:
        results = [json.loads((run.folder / RESULT).read_text(encoding="utf-8")) for run in of[name]]
        right = values[name].right
        mixed = name in gains and LEAST_GROUPS <= groups <= MOST_GROUPS
        arms.append(
            Arm(
                name=name,
                accuracy={c: by_group(right[c], base.groups) for c in plan.heard},
                gains=gains.get(name, {}),
                p=corrected.get(name),
                mixed=mixed_effect(right["clean"], base.groups, base.right["clean"]) if mixed else None,
                parameters=(results[0]["parameters"]["total"], results[0]["parameters"]["frontend"]),
                seconds=float(np.mean([result["seconds"] for result in results])),
                latency=(latency or {}).get(name),
                runs=len(of[name]),
                curves=[[100 * row["val_accuracy"] for row in read_history(run.folder)] for run in of[name]],
                mask_change=[heard[run.folder]["mask change"] for run in of[name]],
            )
        )
    return Findings(arms, len(base.groups), groups, heard[runs[0].folder]["unit"])


class _Values(NamedTuple):
    groups: list[str]  # of each clip of all folds
    right: dict[str, list[list[int]]]  # for each condition and seed


def _values(runs: Sequence[Run], heard: Mapping[Path, Mapping[str, Any]], conditions: Sequence[str]) -> _Values:
    """Put the folds of each seed one after the other."""
    seeds = sorted({run.seed for run in runs})
    by_seed = {seed: [heard[run.folder] for run in runs if run.seed == seed] for seed in seeds}
    parts = by_seed[seeds[0]]
    return _Values(
        [group for part in parts for group in part["groups"]],
        {c: [[value for part in by_seed[s] for value in part["right"][c]] for s in seeds] for c in conditions},
    )
