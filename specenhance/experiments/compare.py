"""Compare recipes: plan, train what is not trained, test under conditions, and say what was found."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from specenhance._files import write_text
from specenhance._stopping import Stopped
from specenhance.analysis.plots import save_figure
from specenhance.experiments.findings import Findings, find
from specenhance.experiments.grid import Run, check_settings, numbered, train_or_resume
from specenhance.experiments.jobs import Place, here
from specenhance.experiments.latency import latencies
from specenhance.experiments.measure import heard, is_heard
from specenhance.experiments.page import to_page
from specenhance.experiments.plan import Plan, save_plan
from specenhance.experiments.plots import plot_forest
from specenhance.experiments.tables import DIFFERENCES, to_json, to_markdown
from specenhance.training.machine import Machine
from specenhance.training.run import check_recipe

__all__ = ["compare", "train_and_test"]

_log = logging.getLogger(__name__)


def compare(plan: Plan, out: Path, place: Place = here, **machine: Any) -> Findings:
    """Run a comparison, or go on with one that was stopped.

    The plan is written to ``out/compare.toml`` before the first run. Each run has its folder in ``out/runs``. What is found is
    written to ``out/compare.md`` with its picture ``differences.png``, ``compare.json`` and ``compare.html``.

    Args:
        plan: What is compared.
        out: The folder of the comparison.
        place: Where the runs are executed. :func:`specenhance.experiments.jobs.here` does one after the other. A partial of
            :func:`specenhance.experiments.jobs.processes` or of :func:`specenhance.experiments.cluster.on_ray` does several
            at once.
        **machine: Fields of :class:`specenhance.training.machine.Machine`.

    Raises:
        ValueError: for another plan in ``out``, or a run that was made with other settings.
        FileNotFoundError, ValueError: as :func:`specenhance.training.run.train`.
        RuntimeError: if a process of several was killed.
        Exception: the first error of a run.
        Stopped: if a signal has asked for a stop. The same call goes on.

    Example (it trains for minutes, so it does not run as a test)::

        plan = Plan(recipe={"data": "synthetic"}, factors={"frontend": ["identity", "clipnorm"]}, seeds=2)
        compare(plan, Path("compare"), device="cpu")
    """
    runs = plan.runs(out.resolve())
    for run in runs:
        check_settings(run)
    undone = [run for run in runs if not is_heard(run.folder, plan.heard)]
    for run in {run.name: run for run in undone}.values():
        check_recipe(run.recipe, Machine(**machine))  # an arm's wrong name must not show after hours
    save_plan(plan, out)
    if len(undone) < len(runs):
        _log.info(f"{len(runs) - len(undone)} of {len(runs)} runs are done")
    try:
        if undone:
            place(partial(train_and_test, conditions=plan.heard, machine=machine, numbers=numbered(runs)), undone)
    except Stopped as stop:
        raise Stopped(stop.signum, f"stopped; the same command goes on with {out}") from None
    first = {run.name: run.folder for run in reversed(runs)}
    findings = find(plan, runs, latencies({arm: first[arm] for arm in [plan.reference, *plan.rivals()]}))
    write_text(out / "compare.json", json.dumps(to_json(findings), indent=1) + "\n")
    if plan.rivals():
        save_figure(plot_forest(findings, plan.heard), out / DIFFERENCES)
    write_text(out / "compare.md", to_markdown(plan, findings))
    write_text(out / "compare.html", to_page(plan, findings))
    return findings


def train_and_test(
    run: Run, conditions: list[str], machine: dict[str, Any], numbers: Mapping[tuple[str, int, int], str]
) -> None:
    """Train a run or go on with it, and test it under conditions. What is done is not done again."""
    _log.info(f"{numbers[run.key]}: {run.name}, fold {run.recipe.fold}, seed {run.seed}")
    train_or_resume(run, **machine)
    heard(run.folder, conditions, Machine(**machine))
