"""Fill in the values that a recipe leaves to the data, by the length and the number of the training clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from specenhance.training.batches import steps_per_epoch
from specenhance.training.build import build_features
from specenhance.training.recipe import Recipe

__all__ = ["PERCENTILE", "STEPS", "fitted"]

PERCENTILE = 95
"""Percentile of the lengths of the training clips. It is their usual length, :attr:`Recipe.clip_seconds`."""
STEPS = 1000
"""Minimum number of steps on a small data set, if :data:`MOST_EPOCHS` epochs have as many."""

MOST_FRAMES = 1024  # about ten seconds at a hop of 10 ms; more frames make each step slower
FRAME_MULTIPLE = 16  # the size of a patch in most transformers
BATCHES = 16  # minimum number of batches of an epoch, if the batch size can be chosen so
SMALLEST_BATCH, LARGEST_BATCH = 8, 64
FEWEST_EPOCHS, MOST_EPOCHS = 30, 200


def fitted(recipe: Recipe, seconds: Sequence[float]) -> Recipe:
    """Fill in the fields of a recipe that are left to the data.

    - ``clip_seconds`` becomes the :data:`PERCENTILE` of the lengths.
    - ``frames`` becomes the number of frames of that length, rounded up to a multiple of 16, and at most 1,024.
    - ``batch_size`` becomes a power of two from 8 to 64, so that an epoch has about 16 batches or more.
    - ``epochs`` becomes a number from 30 to 200, so that there are :data:`STEPS` steps.

    Args:
        recipe: the recipe. A field that is left to the data is 0 in it, and ``clip_seconds`` is None.
        seconds: lengths of the training clips, in seconds.

    Raises:
        ValueError: for features that do not exist.

    >>> recipe = fitted(Recipe(frames=0, epochs=0, batch_size=0), seconds=[1.0] * 400)
    >>> recipe.clip_seconds, recipe.frames, recipe.batch_size, recipe.epochs
    (1.0, 112, 16, 40)
    """
    changes: dict[str, Any] = {}
    usual = recipe.clip_seconds
    if usual is None:
        usual = changes["clip_seconds"] = max(0.001, round(float(np.percentile(seconds, PERCENTILE)), 3))
    if not recipe.frames:
        features = build_features(recipe.replace(frames=1))  # any number of frames
        needed = math.ceil((usual * recipe.sample_rate - features.window_length) / features.hop_length) + 1
        frames = min(MOST_FRAMES, max(1, needed))
        changes["frames"] = math.ceil(frames / FRAME_MULTIPLE) * FRAME_MULTIPLE
    batch = recipe.batch_size
    if not batch:
        batch = SMALLEST_BATCH
        while batch < LARGEST_BATCH and len(seconds) >= 2 * batch * BATCHES:
            batch *= 2
        changes["batch_size"] = batch
    if not recipe.epochs:
        needed = math.ceil(STEPS / steps_per_epoch(len(seconds), batch))
        changes["epochs"] = min(MOST_EPOCHS, max(FEWEST_EPOCHS, needed))
    return recipe.replace(**changes)
