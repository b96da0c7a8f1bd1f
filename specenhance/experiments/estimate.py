"""How long a comparison takes: its runs and steps, and hours from a few timed steps of each arm."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch

from specenhance.data.base import Batch
from specenhance.experiments.plan import Plan
from specenhance.training.build import build_model, build_splits
from specenhance.training.module import Classifier
from specenhance.training.prepare import prepare
from specenhance.training.recipe import Recipe

__all__ = ["estimate", "step_seconds"]

STEPS = 3  # that are timed, after one that warms up


def estimate(plan: Plan, jobs: int = 1) -> str:
    """Say how many runs and steps a comparison has, and how long it takes on this machine.

    The recipe's fitted values are those of the first run. Testing and a teacher are not counted.

    Args:
        plan: The comparison.
        jobs: The number of processes that share the machine.

    Raises:
        FileNotFoundError, ValueError: as :func:`specenhance.training.prepare.prepare`.
    """
    runs = plan.runs(Path())
    arms = {run.name: run.recipe for run in reversed(runs)}
    repeats = len(runs) // len(arms)
    lines, total = [], 0.0
    for arm, recipe in arms.items():
        made = prepare(recipe).recipe
        parts = build_splits(made)
        steps = math.ceil(len(parts["train"]) / made.batch_size)
        # A validation clip costs a forward pass, about a third of a training clip.
        passes = 1 + len(parts["validation"]) / len(parts["train"]) / 3
        hours = repeats * made.epochs * steps * passes * step_seconds(made, len(parts["train"].classes)) / 3600 / jobs
        total += hours
        lines.append(f"{arm}: {repeats} runs of {made.epochs} epochs of {steps} steps, {hours:.2f} hours")
    return "\n".join([*lines, f"about {total:.1f} hours in all, on this machine's {jobs} processes"])


def step_seconds(recipe: Recipe, classes: int) -> float:
    """Time a training step of a recipe on noise, in seconds.

    >>> step_seconds(Recipe(backbone="test_resnet", frontend="tfe1", frames=24, bins=16, batch_size=2), classes=3) > 0
    True
    """
    module = Classifier(build_model(recipe, classes).to(memory_format=torch.channels_last), recipe).train()  # type: ignore[call-overload]
    samples = module.model.features.samples
    B = recipe.batch_size
    batch = Batch(0.1 * torch.randn(B, samples), torch.full((B,), samples), torch.randint(classes, (B,)))
    times = []
    for _ in range(1 + STEPS):
        start = time.perf_counter()
        module.losses(batch)[0].total.backward()
        times.append(time.perf_counter() - start)
    return min(times[1:])
