"""Score a trained model on a split of its data set."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from specenhance._choices import Device, Split
from specenhance.analysis.accuracy import Score
from specenhance.analysis.intervals import AccuracyInterval, accuracy_interval
from specenhance.analysis.multi_label import MultiLabelScore
from specenhance.conditions import create_condition
from specenhance.conditions.altered import Altered
from specenhance.data import AudioDataset
from specenhance.data.groups import groups_of, kind_of
from specenhance.models.adapter import FrontendModel
from specenhance.training.build import open_split
from specenhance.training.loop import module_for, test
from specenhance.training.machine import Machine, make_trainer
from specenhance.training.recipe import Recipe
from specenhance.training.store import load_stored, stored_runs

__all__ = ["CLEAN", "Evaluated", "evaluate", "evaluate_run", "figures"]

CLEAN = "clean"
"""The condition that changes nothing."""


class Evaluated(NamedTuple):
    """The score of a stored model.

    Attributes:
        folder: the folder of the model: a run folder, or the folder of a fold.
        classes: the names of the classes, in order.
        score: the score.
        interval: the interval of the accuracy, over the data set's groups if it has some. None for a multi-label model.
        condition: the condition under which the clips were heard.
    """

    folder: Path
    classes: list[str]
    score: Score | MultiLabelScore
    interval: AccuracyInterval | None
    condition: str = CLEAN


def evaluate_run(
    run: str | os.PathLike[str],
    split: Split = "test",
    *,
    conditions: Sequence[str] = (CLEAN,),
    root: Path | None = None,
    csv: Path | None = None,
    device: Device = "auto",
    workers: int = 0,
) -> Iterator[Evaluated]:
    """Score the model of a finished run on its data set. For a run with folds, score the model of each fold.

    Each model is scored under each condition. A clip sounds the same for all models.

    Args:
        run: the run folder.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        conditions: conditions such as ``"noise:20"``, see :func:`specenhance.conditions.create_condition`.
        root: the data set's new folder, if it has moved.
        csv: the data set's new table, if it has moved.
        device: device that computes. ``"auto"`` uses a GPU if there is one.
        workers: number of processes that read clips. With 0 the main process reads them.

    Raises:
        FileNotFoundError, ValueError: as :func:`specenhance.training.store.load_stored` and the data set.

    Example (it needs a finished run, so it does not run as a test)::

        for found in evaluate_run("runs/a", conditions=["clean", "noise:20"]):
            print(found.condition, found.score.accuracy)
    """
    for condition in conditions:
        create_condition(condition)  # before any model is scored
    for folder in stored_runs(run):
        model, classes, recipe = load_stored(folder)
        moved = recipe.moved_to(root, csv)
        data = open_split(moved, split, classes)
        unit = kind_of(data, recipe.group)
        groups = groups_of(data, unit)
        for condition in conditions:
            score = _score(model, moved, data, condition, Machine(device=device, workers=workers))
            interval = accuracy_interval(score.right, groups, unit) if isinstance(score, Score) else None
            yield Evaluated(folder, classes, score, interval, condition)


def figures(found: Sequence[Evaluated], split: Split) -> str:
    """Write scores as JSON: a list with the folder, condition, score and number of clips of each.

    The score is the accuracy and its 95% interval. For a multi-label model it is the mean average precision, the AUROC and the
    F1, each a mean over the classes, and the scores of each class.
    """
    rows = []
    for one in found:
        rows.append(
            {
                "folder": str(one.folder),
                "split": split,
                "condition": one.condition,
                **one.score.figures(),
                **(one.interval._asdict() if one.interval else {}),
                **({} if isinstance(one.score, Score) else {"classes": _of_classes(one.score, one.classes)}),
                "clips": one.score.clips,
            }
        )
    return json.dumps(rows, indent=2) + "\n"


def _of_classes(score: MultiLabelScore, classes: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Give the scores of each class. JSON has no NaN, so a score that is not known is null."""
    return {
        name: {key: None if math.isnan(value) else value for key, value in row._asdict().items()}
        for name, row in zip(classes, score.each_class(), strict=True)
    }


def evaluate(
    model: FrontendModel,
    recipe: Recipe,
    split: Split,
    classes: Sequence[str],
    *,
    condition: str = CLEAN,
    device: Device = "auto",
    workers: int = 0,
) -> Score | MultiLabelScore:
    """Score a model on one split of the recipe's data.

    Args:
        model: the model.
        recipe: the recipe that names the data.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        classes: the names of the model's classes, in order.
        condition: the condition under which the clips are heard, such as ``"noise:20"``.
        device: device that computes. ``"auto"`` uses a GPU if there is one.
        workers: number of processes that read clips. With 0 the main process reads them.

    It raises as :func:`specenhance.training.build.open_split`.

    Example (it reads a thousand clips, so it does not run as a test)::

        model = load_model("runs/a")
        evaluate(model, recipe_for("synthetic"), "test", model.classes).accuracy
    """
    return _score(model, recipe, open_split(recipe, split, classes), condition, Machine(device=device, workers=workers))


def _score(
    model: FrontendModel, recipe: Recipe, data: AudioDataset, condition: str, machine: Machine
) -> Score | MultiLabelScore:
    if condition != CLEAN:
        data = Altered(data, create_condition(condition))
    trainer = make_trainer(machine, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    return test(trainer, module_for(recipe)(model, recipe), data, recipe, machine)
