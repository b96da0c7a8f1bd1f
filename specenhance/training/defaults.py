"""What a recipe leaves to the data: frames from the length of the training clips, batch and epochs from their number."""

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
"""Of the lengths of the training clips: the usual length, which :attr:`Recipe.clip_seconds` states."""
STEPS = 1000
"""The number of steps that a small data set gets at least, as far as :data:`MOST_EPOCHS` allow."""

MOST_FRAMES = 1024  # ten seconds at the usual 10 ms; the time of a step grows with them
FRAME_MULTIPLE = 16  # a patch of most transformers
BATCHES = 16  # of an epoch, at least, where the batch allows it
SMALLEST_BATCH, LARGEST_BATCH = 8, 64
FEWEST_EPOCHS, MOST_EPOCHS = 30, 200


def fitted(recipe: Recipe, seconds: Sequence[float]) -> Recipe:
    """Fill in the fields of a recipe that are left to the data.

    ``clip_seconds`` becomes the :data:`PERCENTILE` of the lengths; ``frames`` so many as hold that, rounded up to a multiple
    of 16, and at most 1,024; ``batch_size`` a power of two from 8 to 64 that makes about 16 batches an epoch or more;
    ``epochs`` so many, from 30 to 200, that there are :data:`STEPS` steps.

    Args:
        recipe: what is left to the data is 0 in it (``clip_seconds``: None).
        seconds: the lengths of the training clips.

    Raises:
        ValueError: for features that do not exist.
    """
    changes: dict[str, Any] = {}
    usual = recipe.clip_seconds
    if usual is None:
        usual = changes["clip_seconds"] = max(0.001, round(float(np.percentile(seconds, PERCENTILE)), 3))
    if not recipe.frames:
        features = build_features(recipe.replace(frames=1))  # its frames are what is asked for
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
