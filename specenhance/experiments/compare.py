"""Compare recipes: plan, train what is not trained, test under conditions, and say what was found."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

from specenhance._files import write_text
from specenhance.experiments import jobs as places
from specenhance.experiments.findings import Findings, find
from specenhance.experiments.grid import Run, run_grid
from specenhance.experiments.latency import latencies
from specenhance.experiments.measure import heard
from specenhance.experiments.page import to_page
from specenhance.experiments.plan import Plan, save_plan
from specenhance.experiments.tables import to_json, to_markdown
from specenhance.training.machine import Machine

__all__ = ["compare"]

_log = logging.getLogger(__name__)


def compare(plan: Plan, out: Path, *, jobs: int = 1, **machine: Any) -> Findings:
    """Run a comparison, or go on with one that was stopped.

    The plan is written to ``out/compare.toml`` before the first run. Each run has its folder in ``out/runs``. What is found is
    written to ``out/compare.md``, ``compare.json`` and ``compare.html``.

    Args:
        plan: What is compared.
        out: The folder of the comparison.
        jobs: The number of processes that share this machine.
        **machine: Fields of :class:`specenhance.training.machine.Machine`.

    Raises:
        ValueError: for another plan in ``out``.
        FileNotFoundError, ValueError: as :func:`specenhance.training.run.train`.
        RuntimeError: if a process of several was killed.
    """
    save_plan(plan, out)
    runs = plan.runs(out.resolve())
    work = partial(train_and_test, conditions=plan.heard, machine=machine)
    if jobs == 1:
        places.here(work, runs)
    else:
        places.processes(work, runs, jobs)
    first = {run.name: run.folder for run in reversed(runs)}
    findings = find(plan, runs, latencies({arm: first[arm] for arm in [plan.reference, *plan.rivals()]}))
    write_text(out / "compare.json", json.dumps(to_json(findings), indent=1) + "\n")
    write_text(out / "compare.md", to_markdown(plan, findings))
    write_text(out / "compare.html", to_page(plan, findings))
    return findings


def train_and_test(run: Run, conditions: list[str], machine: dict[str, Any]) -> None:
    """Train a run or go on with it, and test it under conditions. What is done is not done again."""
    for _ in run_grid([run], **machine):
        heard(run.folder, conditions, Machine(**machine))
