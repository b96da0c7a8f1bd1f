"""Data sets that a caller has as objects: any ``torch.utils.data.Dataset`` of pairs of a waveform and a label."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from specenhance.audio.samples import waveform_of
from specenhance.data.base import AudioDataset, Label, classes_of
from specenhance.data.layout import SPLITS
from specenhance.data.registry import register_data

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GIVEN", "ReadyDataset", "ready_splits"]

GIVEN = "given"
"""Name of such a data set in a recipe."""


@register_data(GIVEN, hidden=True, frames=0, batch_size=0, epochs=0, crop="random")
def _given(split: str) -> NoReturn:
    raise ValueError(
        f"data = {GIVEN!r}: the data set is an object of Python, which a run folder does not hold; give it again, as data= of "
        "specenhance.training.train or resume"
    )


class ReadyDataset(AudioDataset):
    """A data set of any class that has ``len`` and gives a pair of a waveform ``(samples,)`` and a label by index.

    A label is a whole number. In a multi-label data set it is a list or tuple of whole numbers, or a tensor or array
    ``(classes,)`` of 0 and 1.

    Each item is read once at the start, for its label and length. So a faulty item is found before any work is lost.

    Args:
        dataset: the data set. A waveform is a tensor or an array, ``(samples,)`` or ``(1, samples)``, of any type that sound is
            kept in.
        classes: names of the labels, in order.
        sample_rate: sample rate of the waveforms, in Hz.
        name: name of the data set in messages.

    Attributes:
        seconds: length of each sound, in seconds.

    Raises:
        TypeError: for an item that is not a pair of a waveform and a label.
        ValueError: for a label without a class, and for a waveform that is empty or not finite.

    >>> sounds = ReadyDataset([(np.zeros(800, "float32"), 0), (np.zeros(1600, "float32"), 1)], ["no", "yes"])
    >>> len(sounds), sounds.labels, sounds.seconds
    (2, [0, 1], [0.05, 0.1])
    """

    def __init__(self, dataset: Any, classes: Sequence[str], sample_rate: int = 16000, name: str = "data") -> None:
        self.dataset, self._name = dataset, name
        labels: list[Label] = []
        self.seconds: list[float] = []
        for i in range(len(dataset)):
            waveform, label = self._item(i)
            if not all(0 <= one < len(classes) for one in classes_of(label)):
                raise ValueError(f"{name}[{i}]: label {label}, expected one of {len(classes)} classes, from 0")
            labels.append(label)
            self.seconds.append(len(waveform) / sample_rate)
        if len({isinstance(label, tuple) for label in labels}) > 1:
            raise TypeError(f"{name}: some labels are one number, others several; expected one kind")
        super().__init__(classes, labels, sample_rate=sample_rate)

    def waveform(self, i: int) -> Tensor:
        """Return the sound ``0 <= i < len(self)``, float32 ``(samples,)``."""
        import torch

        return torch.tensor(self._item(i)[0])

    def _item(self, i: int) -> tuple[np.ndarray, Label]:
        item = self.dataset[i]
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise TypeError(f"{self._name}[{i}]: expected a pair of a waveform and a label, not {type(item).__name__}")
        waveform, label = item
        try:
            samples = np.asarray(waveform)
            samples = waveform_of(samples[0] if samples.ndim == 2 and len(samples) == 1 else samples)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self._name}[{i}]: {error}") from None
        return samples, _label(label, f"{self._name}[{i}]")


def ready_splits(
    data: Mapping[str, Any], classes: Sequence[str] | None = None, sample_rate: int = 16000
) -> dict[str, AudioDataset]:
    """Wrap the splits of a data set that a caller has as objects.

    Args:
        data: the splits ``"train"``, ``"validation"`` and ``"test"``. An :class:`AudioDataset` is taken as it is.
        classes: names of the labels, in order. Without them, the attribute ``classes`` of the training split is taken, or the
            labels' numbers.
        sample_rate: sample rate of the waveforms, in Hz.

    Raises:
        ValueError: for other splits than these three.
        TypeError, ValueError: as :class:`ReadyDataset`.

    >>> clips = [(np.zeros(800, "float32"), 0), (np.ones(800, "float32"), 1)]
    >>> parts = ready_splits({"train": clips, "validation": clips, "test": clips})
    >>> parts["train"].classes
    ['0', '1']
    """
    if set(data) != set(SPLITS):
        raise ValueError(
            f"data: splits {', '.join(map(repr, data)) or 'none'}; expected {', '.join(map(repr, SPLITS))}. "
            "torch.utils.data.random_split makes parts of one data set"
        )
    names = classes or getattr(data["train"], "classes", None)
    if names is None:
        parts = [part for part in data.values() if not isinstance(part, AudioDataset)]
        labels = [
            one for part in parts for i in range(len(part)) for one in classes_of(_label(part[i][1], f"item {i}"))
        ]
        names = [str(label) for label in range(max(labels, default=-1) + 1)]
    return {
        split: part
        if isinstance(part, AudioDataset)
        else ReadyDataset(part, list(names), sample_rate, f"data[{split!r}]")
        for split, part in data.items()
    }


def _label(label: Any, where: str) -> Label:
    if isinstance(label, (list, tuple)):
        return tuple(sorted({_number(one, where) for one in label}))
    values = np.asarray(label)
    if values.ndim != 1:
        return _number(label, where)
    if not np.isin(values, (0, 1)).all():
        raise TypeError(f"{where}: label {values.tolist()}, expected 0 or 1 for each class")
    return tuple(np.flatnonzero(values).tolist())


def _number(label: Any, where: str) -> int:
    try:
        return operator.index(label)  # of a tensor with one element too
    except TypeError:
        raise TypeError(f"{where}: label {label!r}, expected a whole number from 0") from None
