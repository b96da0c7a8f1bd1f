"""Compare recipes: plan, train what is not trained, test under conditions, and say what was found."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

from specenhance.experiments.findings import Findings, find
from specenhance.experiments.grid import Run, run_grid
from specenhance.experiments.jobs import Place, here
from specenhance.experiments.measure import heard
from specenhance.experiments.plan import Plan, save_plan
from specenhance.experiments.tables import write_findings

__all__ = ["compare"]

_log = logging.getLogger(__name__)


def compare(plan: Plan, out: Path, place: Place = here, **machine: Any) -> Findings:
    """Run a comparison, or go on with one that was stopped.

    The plan is written to ``out/compare.toml`` before the first run. Each run has its folder in ``out/runs``. What is found is
    written to ``out/compare.md`` and ``out/compare.json``.

    Args:
        plan: What is compared.
        out: The folder of the comparison.
        place: Where the runs are executed. :func:`specenhance.experiments.jobs.here` does one after the other. A partial of
            :func:`specenhance.experiments.jobs.processes` or of :func:`specenhance.experiments.cluster.on_ray` does several
            at once.
        **machine: Fields of :class:`specenhance.training.machine.Machine`.

    Raises:
        ValueError: for another plan in ``out``.
        FileNotFoundError, ValueError: as :func:`specenhance.training.run.train`.
        RuntimeError: if a process of several was killed.
        Exception: the first error of a run.
    """
    save_plan(plan, out)
    runs = plan.runs(out.resolve())
    work = partial(train_and_test, conditions=plan.heard, machine=machine)
    place(work, runs)
    findings = find(plan, runs)
    write_findings(plan, findings, out)
    return findings


def train_and_test(run: Run, conditions: list[str], machine: dict[str, Any]) -> None:
    """Train a run or go on with it, and test it under conditions. What is done is not done again."""
    for _ in run_grid([run], **machine):
        heard(run.folder, conditions)
