"""What a finished training leaves in its run folder: the model, the figures, the pictures, and the last news."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
from pathlib import Path
from typing import Any

from torch import Tensor

from specenhance._files import write_text
from specenhance._names import cell
from specenhance.analysis.accuracy import Score
from specenhance.analysis.masks import constant_mask
from specenhance.analysis.multi_label import MultiLabelScore
from specenhance.training.given import NOTHING, Given
from specenhance.training.loop import Trained
from specenhance.training.pictures import CONFUSION, draw_pictures
from specenhance.training.recipe import Recipe
from specenhance.training.store import RESULT, Stored, save_model, save_pretrained

__all__ = ["CLASSES", "finish"]

CLASSES = "classes.csv"
"""Name of the table of each class's scores in a run folder."""

_log = logging.getLogger(__name__)


def finish(recipe: Recipe, out: Path, trained: Trained, given: Given = NOTHING) -> dict[str, Any]:
    """Write the files of a finished training. ``result.json`` comes last, except for the pictures: it marks a finished run."""
    save_model(trained.model, trained.classes, out)
    if recipe.role == "teacher":
        save_pretrained(trained.model, trained.classes, out)
    if isinstance(trained.score, Score):
        _write_confusion(trained.score.confusion, trained.classes, out)
    _write_classes(trained.score, trained.classes, out)
    write_text(out / RESULT, json.dumps(trained.result, indent=2) + "\n")
    draw_pictures(out, Stored(trained.model, trained.classes, recipe), given)
    if warning := constant_mask(trained.model, recipe.frontend, trained.validation):
        _log.warning(warning.removeprefix("warning: "))
    if isinstance(trained.score, Score):
        _warn_of_chance(trained.score, trained.classes)
        _log.info(f"test accuracy {trained.score.accuracy:.2%}, in {out}")
    else:
        _log.info(f"test {trained.score.text()}, in {out}")
    return trained.result


def _warn_of_chance(score: Score, classes: list[str]) -> None:
    """Warn if a model is no better than one that always predicts the class with the most test clips."""
    counts = score.confusion.sum(1)
    largest = int(counts.argmax())
    always = float(counts[largest] / counts.sum())
    if score.accuracy <= always:
        _log.warning(
            f"the test accuracy is no better than that of always predicting {classes[largest]!r} ({always:.2%}). "
            "Try more epochs (--epochs), another learning rate (--lr) or more clips. curves.png shows whether the model "
            "learned at all"
        )


def _write_classes(score: Score | MultiLabelScore, classes: list[str], out: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rows = score.each_class()
    writer.writerow(["class", *rows[0]._fields])
    for name, row in zip(classes, rows, strict=True):
        clips, *values = row
        writer.writerow([cell(name), clips, *("" if math.isnan(value) else f"{value:.6f}" for value in values)])
    write_text(out / CLASSES, text.getvalue())


def _write_confusion(confusion: Tensor, classes: list[str], out: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(["true \\ predicted", *map(cell, classes)])
    writer.writerows([cell(name), *row] for name, row in zip(classes, confusion.tolist(), strict=True))
    write_text(out / CONFUSION, text.getvalue())
