"""Write the report of a run. This module reads the run folder, :mod:`specenhance.analysis.report` writes the page."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from specenhance.analysis.report import report
from specenhance.training.build import open_split
from specenhance.training.recipe import Recipe
from specenhance.training.store import HISTORY, RESULT, load_stored, read_history

__all__ = ["report_run"]


def report_run(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    split: str = "test",
    clips: Sequence[str | os.PathLike[str]] = (),
    worst: int = 8,
    conditions: Sequence[str] = (),
    root: Path | None = None,
    csv: Path | None = None,
) -> Path:
    """Write the page of a finished run, as :func:`specenhance.analysis.report.report` does. The same run gives the same page.

    Args:
        run: the run folder.
        out: the file to write. None writes ``report.html`` into the run folder.
        split: the clips that are classified: ``"train"``, ``"validation"`` or ``"test"``.
        clips: audio files whose mask is shown. Without any, some clips of the split are shown that the model classifies right.
        worst: number of wrongly classified clips to show.
        conditions: conditions under which the accuracy is measured too, such as ``"noise:20"``.
        root: the data set's new folder, if it has moved.
        csv: the data set's new table, if it has moved.

    Returns:
        The path of the file.

    Raises:
        FileNotFoundError, ValueError: as :func:`specenhance.training.store.load_stored`, the data set and
            :func:`specenhance.analysis.report.report`.

    Example (it needs a finished run, so it does not run as a test)::

        report_run("runs/a")  # writes runs/a/report.html
    """
    run = Path(run)
    model, classes, recipe = load_stored(run)
    recipe = recipe.moved_to(root, csv)
    path = run / RESULT
    result = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    facts = _facts(recipe, len(classes)) | {"run folder": str(run.resolve())}
    if result is not None:
        facts["finished"] = f"{datetime.fromtimestamp(path.stat().st_mtime, timezone.utc):%Y-%m-%d %H:%M} UTC"
    return report(
        model,
        open_split(recipe, split, classes),
        run / "report.html" if out is None else out,
        title=run.resolve().name,
        split=split,
        frontend=recipe.frontend,
        backbone=recipe.backbone,
        facts=facts,
        history=read_history(run) if (run / HISTORY).is_file() else None,
        result=result,
        clips=clips,
        worst=worst,
        conditions=conditions,
        batch_size=recipe.batch_size,
        group=recipe.group,
    )


def _facts(recipe: Recipe, classes: int) -> dict[str, str]:
    """Describe a recipe in the rows of a table."""
    facts = {
        "spectrogram": f"{recipe.features}, {recipe.frames} frames x {recipe.bins} bins at {recipe.sample_rate} Hz",
        "training": f"{recipe.epochs} epochs, batch {recipe.batch_size}, {recipe.optimizer} at {recipe.lr:g}, "
        f"{recipe.schedule}, seed {recipe.seed}",
        "data": f"{recipe.data}, {classes} classes" + (f", fold {recipe.fold}" if recipe.fold else ""),
    }
    if recipe.root:
        facts["data folder"] = recipe.root
    if recipe.csv:
        facts["table"] = recipe.csv
    if recipe.teacher:
        facts["teacher"] = f"{recipe.teacher}, weight of the labels {recipe.kd_weight}"
    return facts
