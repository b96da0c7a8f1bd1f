"""What every data set of sounds is: labelled waveforms by index, and how a few of them become a batch."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from specenhance.data.audio import read_audio

if TYPE_CHECKING:  # PyTorch is loaded with the first sound, so that what only names a data set starts at once
    from torch import Tensor

__all__ = ["AudioDataset", "Batch", "collate"]


class AudioDataset:
    """Labelled sounds: item i is ``(waveform float32 (samples,), label)``, indexed as a list is.

    PyTorch's ``DataLoader`` takes it.

    Files are decoded each time they are asked for; :class:`~specenhance.data.cache.CachedWaveforms` decodes them once.

    Args:
        classes: the names of the labels, in their order.
        labels: an index into ``classes`` for each sound.
        paths: a file for each sound; none for a data set that makes its own, which overrides :meth:`waveform`.
        sample_rate: the waveforms' rate, in Hz; a file of another one is resampled.

    Attributes:
        allow_truncated: whether what there is of a file that is not whole is taken; False to begin with.
        passed_over: what lies in the data set's folder and is not read, for whoever wants to tell.

    Raises:
        ValueError: for a rate below 1.
    """

    classes: list[str]
    labels: list[int]
    paths: list[Path]
    sample_rate: int
    allow_truncated: bool = False
    passed_over: Sequence[str] = ()

    def __init__(
        self, classes: Sequence[str], labels: Sequence[int], paths: Sequence[Path] = (), sample_rate: int = 16000
    ) -> None:
        if sample_rate < 1:
            raise ValueError(f"sample_rate={sample_rate}: expected a rate in Hz >= 1")
        self.classes, self.labels, self.paths = list(classes), list(labels), list(paths)
        self.sample_rate = sample_rate

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        count, i = len(self), operator.index(index)
        if not -count <= i < count:
            raise IndexError(f"index {i} of a data set of {count} sounds")
        i %= count
        return self.waveform(i), self.labels[i]

    def waveform(self, i: int) -> Tensor:
        """Read or make the sound ``0 <= i < len(self)``, float32 ``(samples,)``.

        Raises:
            FileNotFoundError, AudioError: as :func:`read_audio` does.
        """
        return read_audio(self.paths[i], self.sample_rate, allow_truncated=self.allow_truncated)

    def excerpt(self, i: int, seconds: float, place: float = 0.0) -> Tensor:
        """Read or make a part of the sound ``0 <= i < len(self)``, float32, at most ``ceil(seconds * sample_rate)`` samples.

        Of a file no more is taken into memory than that.

        Args:
            i: which sound.
            seconds: the length of the part; a sound that is not longer is given whole.
            place: where the part lies, from 0, at the sound's start, to 1, at its end.

        Raises:
            FileNotFoundError, AudioError: as :func:`read_audio` does.
        """
        if type(self).waveform is AudioDataset.waveform:
            return read_audio(
                self.paths[i], self.sample_rate, seconds=seconds, place=place, allow_truncated=self.allow_truncated
            )
        waveform = self.waveform(i)
        count = math.ceil(seconds * self.sample_rate)
        start = round(max(0, len(waveform) - count) * place)
        return waveform[start : start + count]

    def name(self, i: int) -> str:
        """Name the sound ``0 <= i < len(self)`` in a message: its path, or its number."""
        return str(self.paths[i]) if self.paths else f"clip {i}"

    def subset(self, chosen: Sequence[int]) -> AudioDataset:
        """Give a copy that has only the chosen sounds, in their order; not of a data set that makes its own."""
        part = copy.copy(self)
        part.labels, part.paths = [self.labels[i] for i in chosen], [self.paths[i] for i in chosen]
        return part

    def renumbered(self, classes: Sequence[str], numbers: Sequence[int]) -> AudioDataset:
        """Give a copy with its labels in another order.

        Args:
            classes: the names of the labels in the new order.
            numbers: the new number of each label.
        """
        other = copy.copy(self)
        other.classes, other.labels = list(classes), [numbers[label] for label in self.labels]
        return other


class Batch(NamedTuple):
    """Sounds of one or several lengths, side by side.

    Attributes:
        waveform: ``(B, N)``, N the longest sound's samples; a shorter one is padded with zeros at its end.
        length: ``(B,)`` int64, the samples of each sound before padding.
        label: ``(B,)`` int64.
    """

    waveform: Tensor
    length: Tensor
    label: Tensor


def collate(batch: Sequence[tuple[Tensor, int]]) -> Batch:
    """Put items of an :class:`AudioDataset` into one :class:`Batch`; a ``DataLoader`` takes this as its ``collate_fn``."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    waveforms, labels = zip(*batch, strict=True)
    return Batch(
        waveform=pad_sequence(list(waveforms), batch_first=True),
        length=torch.tensor([len(waveform) for waveform in waveforms]),
        label=torch.tensor(labels),
    )
