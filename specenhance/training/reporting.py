"""The report of a run: its folder is read here, the page is :mod:`specenhance.analysis.report`'s."""

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
    root: Path | None = None,
    csv: Path | None = None,
) -> Path:
    """Write the page of a finished run, as :func:`specenhance.analysis.report.report` does. The same run gives the same page.

    Args:
        run: the run folder.
        out: the file to write; ``report.html`` in the run folder if left out.
        split: the clips to look at, ``"train"``, ``"validation"`` or ``"test"``.
        clips: audio files whose mask is shown. If left out: some clips of the split that the model classifies right.
        worst: number of wrongly classified clips to show.
        root: the data set's folder, if it has moved.
        csv: the data set's table, if it has moved.

    Returns:
        The file.

    Raises:
        FileNotFoundError, ValueError: as :func:`specenhance.training.store.load_stored`, the data set and
            :func:`specenhance.analysis.report.report` do.
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
        batch_size=recipe.batch_size,
    )


def _facts(recipe: Recipe, classes: int) -> dict[str, str]:
    """Say what a recipe trains, in rows of a table."""
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
