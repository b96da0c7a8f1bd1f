"""A few clips of each class: what a model learns from little data."""

from __future__ import annotations

from collections import Counter

import numpy as np

from specenhance.data.base import AudioDataset, classes_of

__all__ = ["few"]


def few(data: AudioDataset, per_class: int, seed: int = 0) -> AudioDataset:
    """Take at most so many clips of each class.

    The clips of a smaller number are among those of a larger one with the same seed. In a multi-label data set a clip is taken
    if one of its classes has too few; clips without a class count as a class of their own.

    Args:
        data: The data set.
        per_class: The number of clips of each class, 1 or more. A class with fewer keeps all.
        seed: Seed of the choice, >= 0.

    >>> data = AudioDataset(["no", "yes"], [0, 1] * 10, [f"{i}.wav" for i in range(20)])
    >>> sorted(few(data, 3).labels)
    [0, 0, 0, 1, 1, 1]
    """
    counts: Counter[int] = Counter()
    chosen = []
    for i in np.random.default_rng(seed).permutation(len(data)).tolist():
        classes = classes_of(data.labels[i]) or (-1,)
        if any(counts[label] < per_class for label in classes):
            counts.update(classes)
            chosen.append(i)
    return data.subset(sorted(chosen))
