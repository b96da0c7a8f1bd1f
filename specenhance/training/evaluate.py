"""A trained model on the clips of its data set."""

from __future__ import annotations

from collections.abc import Sequence

from specenhance.models.adapter import FrontendModel
from specenhance.training.build import open_split
from specenhance.training.loop import Score, test
from specenhance.training.machine import Machine, make_trainer
from specenhance.training.module import Classifier
from specenhance.training.recipe import Recipe

__all__ = ["evaluate"]


def evaluate(
    model: FrontendModel, recipe: Recipe, split: str, classes: Sequence[str], *, device: str = "auto", workers: int = 0
) -> Score:
    """Score a model on one split of the recipe's data.

    Args:
        model: the model.
        recipe: names the data.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        classes: what the model's logits stand for, in order.
        device: where to compute.
        workers: processes that read clips.

    Raises as :func:`open_split`.
    """
    data = open_split(recipe, split, classes)
    machine = Machine(device=device, workers=workers)
    trainer = make_trainer(machine, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    return test(trainer, Classifier(model, recipe), data, recipe, machine)
