"""Classes with few clips beside classes with many: weights of the loss, and how often each clip is drawn."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from specenhance.data import AudioDataset
from specenhance.data.base import classes_of

__all__ = ["balancing_weights", "class_weights"]

NONE = -1  # stands for the class of clips that have none


def class_weights(data: AudioDataset) -> Tensor:
    """Compute a weight for each class, inversely to its number of clips, ``(classes,)``. Their mean over the clips is 1.

    It is ``N / (K n_k)``: N labels in all, K classes that clips have, n_k clips of the class. A class that no clip has gets 1.

    Source: King and Zeng, "Logistic Regression in Rare Events Data", 2001, as scikit-learn's ``class_weight="balanced"``.

    >>> class_weights(AudioDataset(["dog", "rain"], [0, 0, 0, 1]))
    tensor([0.6667, 2.0000])
    """
    counts = Counter(one for label in data.labels for one in classes_of(label))
    total = sum(counts.values()) / max(1, len(counts))
    return torch.tensor([total / counts[number] if counts[number] else 1.0 for number in range(len(data.classes))])


def balancing_weights(data: AudioDataset) -> Tensor:
    """Compute how often each clip must be drawn, relative to the others, so that all classes are as frequent, ``(clips,)``.

    A clip has the sum of ``1 / n_k`` over its classes, n_k clips of the class. Clips without a class count as a class of their
    own.

    Source: Gong et al., "PSLA", arXiv:2102.01243, section III-B.

    >>> balancing_weights(AudioDataset(["dog", "rain"], [0, 0, 0, 1]))
    tensor([0.3333, 0.3333, 0.3333, 1.0000])
    """
    classes = [classes_of(label) or (NONE,) for label in data.labels]
    counts = Counter(one for of in classes for one in of)
    return torch.tensor([sum(1 / counts[one] for one in of) for of in classes])
