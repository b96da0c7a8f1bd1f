"""The findings of a comparison: what each arm reaches and gains, from what was measured of its runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from specenhance.experiments.grid import Run
from specenhance.experiments.measure import HEARD
from specenhance.experiments.plan import Plan
from specenhance.experiments.statistics import Effect, Interval, by_group, effect, holm, mixed_effect
from specenhance.training.store import RESULT, read_history

__all__ = ["Arm", "Findings", "find"]


class Arm(NamedTuple):
    """What was found of an arm.

    Attributes:
        name: Its name.
        accuracy: The accuracy under each condition.
        gains: What it gains over the baseline under each condition; empty for the baseline.
        p: The p value of its gain on clean clips, corrected for the number of arms; None for the baseline.
        mixed: The gain on clean clips by a mixed model; None for the baseline, and for a single group.
        parameters: The number of parameters, and of those the front end's.
        seconds: The mean time of a training.
        constant: The number of runs whose mask is the same for every clip; None without a mask.
        runs: The number of runs.
        curves: For each run the validation accuracy after each epoch, in percent.
    """

    name: str
    accuracy: dict[str, Interval]
    gains: dict[str, Effect]
    p: float | None
    mixed: Interval | None
    parameters: tuple[int, int]
    seconds: float
    constant: int | None
    runs: int
    curves: list[list[float]]


class Findings(NamedTuple):
    """What was found of all arms, the baseline first.

    Attributes:
        arms: The arms.
        clips, groups: The numbers of test clips and of groups.
    """

    arms: list[Arm]
    clips: int
    groups: int


def find(plan: Plan, runs: Sequence[Run]) -> Findings:
    """Put together what was measured of all runs.

    Raises:
        FileNotFoundError: for a run that was not measured.
    """
    heard = {run.folder: json.loads((run.folder / HEARD).read_text(encoding="utf-8")) for run in runs}
    of = {arm: [run for run in runs if run.name == arm] for arm in plan.arms()}
    base = _values(of[plan.reference], heard, plan.heard)
    found = []
    for name in [plan.reference, *plan.rivals()]:
        values = _values(of[name], heard, plan.heard)
        rival = name != plan.reference
        results = [json.loads((run.folder / RESULT).read_text(encoding="utf-8")) for run in of[name]]
        masks = [heard[run.folder]["constant"] for run in of[name]]
        found.append(
            Arm(
                name,
                {c: by_group(values.right[c], values.groups) for c in plan.heard},
                {c: effect(values.right[c], values.groups, base.right[c]) for c in plan.heard if rival},
                None,
                mixed_effect(values.right["clean"], values.groups, base.right["clean"])
                if rival and len(set(values.groups)) > 1
                else None,
                (results[0]["parameters"]["total"], results[0]["parameters"]["frontend"]),
                float(np.mean([result["seconds"] for result in results])),
                None if None in masks else sum(masks),
                len(of[name]),
                [[100 * row["val_accuracy"] for row in read_history(run.folder)] for run in of[name]],
            )
        )
    corrected = _corrected({arm.name: arm.gains["clean"].p for arm in found[1:]})
    found = [arm._replace(p=corrected.get(arm.name)) for arm in found]
    return Findings(found, len(base.groups), len(set(base.groups)))


class _Values(NamedTuple):
    groups: list[str]  # of each clip of all folds
    right: dict[str, list[list[int]]]  # for each condition and seed


def _values(runs: Sequence[Run], heard: Mapping[Path, Mapping[str, Any]], conditions: Sequence[str]) -> _Values:
    """Put the folds of each seed one after the other."""
    seeds = sorted({run.seed for run in runs})
    by_seed = {seed: [heard[run.folder] for run in runs if run.seed == seed] for seed in seeds}
    groups = [group for part in by_seed[seeds[0]] for group in part["groups"]]
    return _Values(
        groups, {c: [[value for part in by_seed[s] for value in part["right"][c]] for s in seeds] for c in conditions}
    )


def _corrected(p: Mapping[str, float]) -> dict[str, float]:
    known = {name: value for name, value in p.items() if not np.isnan(value)}
    return dict(p) | (holm(known) if known else {})
