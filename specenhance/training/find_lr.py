"""Find a learning rate: train a few steps at a rate that rises, and see where the loss falls fastest, by Lightning's tuner."""

from __future__ import annotations

import logging
import tempfile
from contextlib import closing
from typing import Any, NamedTuple

import torch
from lightning.pytorch.tuner import Tuner

from specenhance.training.build import build_model, build_splits
from specenhance.training.folds import has_folds
from specenhance.training.loop import batches_of, module_for
from specenhance.training.machine import Machine, make_trainer, precision_on
from specenhance.training.prepare import prepare
from specenhance.training.recipe import Recipe
from specenhance.training.run import measured
from specenhance.training.teach import Teaching

__all__ = ["FoundRate", "find_lr"]

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 100

_log = logging.getLogger(__name__)


class FoundRate(NamedTuple):
    """The result of :func:`find_lr`.

    Attributes:
        rate: the rate at which the loss falls fastest, a cautious maximum for a one-cycle schedule.
        rates: the rate of each step.
        losses: the smoothed loss after each step.
    """

    rate: float
    rates: list[float]
    losses: list[float]


def find_lr(recipe: Recipe, steps: int = STEPS, **machine: Any) -> FoundRate:
    """Train a new model for some steps, whose rate rises from 1e-6 to 1, and suggest a rate. Nothing is kept.

    Teachers do not teach in these steps.

    Args:
        recipe: the recipe. Its own ``lr`` and ``schedule`` do not count.
        steps: number of steps.
        **machine: fields of :class:`specenhance.training.machine.Machine`.

    Raises:
        FileNotFoundError, ValueError: as the data set and the model do.
        ValueError: if no rate stands out, because the loss does not fall.

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186, as Lightning has it.

    Example (it trains for a minute, so it does not run as a test)::

        print(find_lr(recipe_for("synthetic", backbone="mobilenetv3_small_050")).rate)
    """
    settings = Machine(**machine)
    first = recipe.replace(fold=1) if has_folds(recipe) else recipe
    whole = prepare(first).recipe.replace(teacher="", schedule="constant", accumulate=1)
    parts = build_splits(whole)
    whole = measured(whole, parts["train"], settings)
    torch.manual_seed(whole.seed)
    model = build_model(whole, len(parts["train"].classes))
    module = _rising(module_for(whole))(model, whole, Teaching())
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(
            settings,
            max_epochs=steps,
            precision=precision_on(settings, whole.precision),
            gradient_clip_val=whole.clip_norm or None,
            logger=False,
            enable_progress_bar=False,
            default_root_dir=folder,
            num_sanity_val_steps=0,
            limit_val_batches=0,
        )
        with closing(batches_of(parts["train"], whole, settings, model, train=True)) as batches:
            found = Tuner(trainer).lr_find(
                module, batches, min_lr=LOWEST, max_lr=HIGHEST, num_training=steps, update_attr=False
            )
    rate = None if found is None else found.suggestion()
    if found is None or rate is None:
        raise ValueError("no learning rate stands out: the loss does not fall in these steps; try more of them")
    return FoundRate(
        float(rate), [float(one) for one in found.results["lr"]], [float(one) for one in found.results["loss"]]
    )


def _rising(base: type[Any]) -> type[Any]:
    class Rising(base):
        """A module whose rate Lightning's tuner may set."""

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.lr = self.recipe.lr

        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            """Do nothing: the tuner restores its own checkpoint."""

    return Rising
