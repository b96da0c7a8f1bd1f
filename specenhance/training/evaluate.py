"""Score a trained model on a split of its data set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from specenhance._choices import Device, Split
from specenhance.models.adapter import FrontendModel
from specenhance.training.build import open_split
from specenhance.training.loop import Score, test
from specenhance.training.machine import Machine, make_trainer
from specenhance.training.module import Classifier
from specenhance.training.recipe import Recipe
from specenhance.training.store import load_stored, stored_runs

__all__ = ["Evaluated", "evaluate", "evaluate_run"]


class Evaluated(NamedTuple):
    """The score of a stored model.

    Attributes:
        folder: the folder of the model: a run folder, or the folder of a fold.
        classes: the names of the classes, in order.
        score: the score.
    """

    folder: Path
    classes: list[str]
    score: Score


def evaluate_run(
    run: str | os.PathLike[str],
    split: Split = "test",
    *,
    root: Path | None = None,
    csv: Path | None = None,
    device: Device = "auto",
    workers: int = 0,
) -> Iterator[Evaluated]:
    """Score the model of a finished run on its data set. For a run with folds, score the model of each fold.

    Args:
        run: the run folder.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        root: the data set's new folder, if it has moved.
        csv: the data set's new table, if it has moved.
        device: device that computes. ``"auto"`` uses a GPU if there is one.
        workers: number of processes that read clips. With 0 the main process reads them.

    Raises:
        FileNotFoundError, ValueError: as :func:`specenhance.training.store.load_stored` and the data set.

    Example (it needs a finished run, so it does not run as a test)::

        for folder, classes, score in evaluate_run("runs/a"):
            print(folder, score.accuracy)
    """
    for folder in stored_runs(run):
        model, classes, recipe = load_stored(folder)
        score = evaluate(model, recipe.moved_to(root, csv), split, classes, device=device, workers=workers)
        yield Evaluated(folder, classes, score)


def evaluate(
    model: FrontendModel,
    recipe: Recipe,
    split: Split,
    classes: Sequence[str],
    *,
    device: Device = "auto",
    workers: int = 0,
) -> Score:
    """Score a model on one split of the recipe's data.

    Args:
        model: the model.
        recipe: the recipe that names the data.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        classes: the names of the model's classes, in order.
        device: device that computes. ``"auto"`` uses a GPU if there is one.
        workers: number of processes that read clips. With 0 the main process reads them.

    It raises as :func:`specenhance.training.build.open_split`.

    Example (it reads a thousand clips, so it does not run as a test)::

        model = load_model("runs/a")
        evaluate(model, recipe_for("synthetic"), "test", model.classes).accuracy
    """
    data = open_split(recipe, split, classes)
    machine = Machine(device=device, workers=workers)
    trainer = make_trainer(machine, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    return test(trainer, Classifier(model, recipe), data, recipe, machine)
