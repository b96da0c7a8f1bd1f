"""Classify a sound of any length: in windows, whose probabilities are averaged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from specenhance.audio.listen import Heard, Listener, listen

__all__ = ["QUIET", "Classified", "classify", "likeliest"]

QUIET = 40.0
"""A window is a pause, and does not count, if its level is more than this below the loudest window's, in decibels."""


class Classified(NamedTuple):
    """The result of :func:`classify`.

    Attributes:
        probabilities: Probability of each class, ``(classes,)``: the mean over the windows that count.
        windows: Number of windows.
        counted: Number of windows that count.
        whole: Whether the windows cover the whole sound.
    """

    probabilities: np.ndarray
    windows: int
    counted: int
    whole: bool = True


def classify(
    model: Listener, blocks: Iterable[np.ndarray], window: int, longest: int, *, first_only: bool = False
) -> Classified:
    """Classify a sound in constant memory.

    A sound of at most ``longest`` samples is one window. A longer sound is cut into windows that overlap by half. A window
    much softer than the loudest (:data:`QUIET`) is a pause and does not count, because a model without a background class
    would recognise something in it too.

    Args:
        model: The model that gives the probabilities.
        blocks: Blocks of the sound, float32 ``(samples,)`` of any length, at the model's sample rate.
        window: Length of a window, in samples, such as the length of the training clips.
        longest: Maximum number of samples that the model takes at once.
        first_only: Whether to classify only the first ``longest`` samples.

    Raises:
        ValueError: for a window that is not from 1 to ``longest``, and for a sound without samples.

    >>> class Model:
    ...     sample_rate = 10
    ...
    ...     def probabilities(self, waveform):
    ...         return np.array([0.9, 0.1])
    >>> classify(Model(), [np.ones(25, np.float32), np.zeros(25, np.float32)], window=10, longest=10)
    Classified(probabilities=array([0.9, 0.1]), windows=9, counted=5, whole=True)
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
    """Give the classes of the highest probabilities as pairs ``(label, probability)``, the likeliest first.

    Args:
        probabilities: Probability of each class, ``(classes,)``. Of equal ones, the lower label comes first.
        top: Number of classes.

    >>> likeliest(np.array([0.2, 0.5, 0.3]), top=2)
    [(1, 0.5), (2, 0.3)]
    """
    return [(int(label), float(probabilities[label])) for label in np.argsort(-probabilities, kind="stable")[:top]]


def _up_to(stream: Iterator[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """Yield blocks until they have more than ``samples`` samples."""
    read = 0
    while read <= samples and (block := next(stream, None)) is not None:
        read += len(block)
        yield block


def _loud(heard: list[Heard]) -> list[Heard]:
    loudest = max(part.level for part in heard)
    if math.isinf(loudest):  # all windows are silent
        return heard
    return [part for part in heard if part.level >= loudest - QUIET]
