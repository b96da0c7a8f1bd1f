"""Classify a whole sound, however long: windows of it, one after another, and the mean of what is heard in them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from specenhance.audio.listen import Heard, Listener, listen

__all__ = ["QUIET", "Classified", "classify", "likeliest"]

QUIET = 40.0
"""Decibels below the loudest window of a sound, from which on a window is taken for a pause and does not count."""


class Classified(NamedTuple):
    """What a sound was taken for.

    Attributes:
        probabilities: of each class, ``(classes,)``: the mean over the windows that count.
        windows: how many there are.
        counted: how many of them count.
        whole: whether they cover the sound.
    """

    probabilities: np.ndarray
    windows: int
    counted: int
    whole: bool = True


def classify(
    model: Listener, blocks: Iterable[np.ndarray], window: int, longest: int, *, first_only: bool = False
) -> Classified:
    """Classify a sound in constant memory.

    One that is not longer than ``longest`` is classified as it is. A longer one is cut into windows that overlap by half.
    A window far softer than the loudest (:data:`QUIET`) is a pause and does not count: a model without a background class
    would name something in it, too.

    Args:
        model: gives the probabilities.
        blocks: the sound, float32 ``(samples,)`` each at the model's rate, of any length.
        window: samples of a window, such as the length of the training clips.
        longest: samples that the model looks at together.
        first_only: look at the first ``longest`` samples, whatever follows.

    Raises:
        ValueError: for a window that is not from 1 to ``longest``, and for a sound without a sample.
    """
    if not 1 <= window <= longest:
        raise ValueError(f"a window of {window} samples: expected 1 to {longest}, which the model looks at together")
    stream = iter(blocks)
    start = np.concatenate([np.zeros(0, np.float32), *_up_to(stream, longest)])
    if not len(start):
        raise ValueError("a sound without a sample: expected one or more")
    if len(start) <= longest or first_only:
        return Classified(model.probabilities(start[:longest]), 1, 1, whole=len(start) <= longest)
    heard = list(listen(model, chain([start], stream), window, max(1, window // 2)))
    counted = _loud(heard)
    return Classified(np.mean([part.probabilities for part in counted], axis=0), len(heard), len(counted))


def likeliest(probabilities: np.ndarray, top: int) -> list[tuple[int, float]]:
    """Give the labels of the highest probabilities with them, the likeliest first; of equals the first label."""
    return [(int(label), float(probabilities[label])) for label in np.argsort(-probabilities, kind="stable")[:top]]


def _up_to(stream: Iterator[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """Give blocks until there are more than so many samples."""
    read = 0
    while read <= samples and (block := next(stream, None)) is not None:
        read += len(block)
        yield block


def _loud(heard: list[Heard]) -> list[Heard]:
    loudest = max(part.level for part in heard)
    if math.isinf(loudest):  # silence throughout
        return heard
    return [part for part in heard if part.level >= loudest - QUIET]
