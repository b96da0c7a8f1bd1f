"""A trained model on the clips of its data set."""

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
    """The score of the model in a folder."""

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
    """Score the model of a finished run on its data set; of a run with folds, the model of each fold.

    Args:
        run: the run folder.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        root: the data set's new folder, if it has moved.
        csv: the data set's new table, if it has moved.
        device: where to compute.
        workers: number of processes that read clips.

    Raises:
        FileNotFoundError, ValueError: as :func:`specenhance.training.store.load_stored` and the data set do.
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
        recipe: names the data.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        classes: what the model's logits stand for, in order.
        device: where to compute.
        workers: number of processes that read clips.

    Raises as :func:`open_split`.
    """
    data = open_split(recipe, split, classes)
    machine = Machine(device=device, workers=workers)
    trainer = make_trainer(machine, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    return test(trainer, Classifier(model, recipe), data, recipe, machine)
