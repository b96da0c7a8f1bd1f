"""What every data set of sounds is: labelled waveforms by index, and how a few of them become a batch."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from specenhance.data.audio import read_audio

__all__ = ["AudioDataset", "Batch", "collate"]


class AudioDataset(Dataset[tuple[Tensor, int]]):
    """Labelled sounds: item i is ``(waveform float32 (samples,), label)``, indexed as a list is.

    Files are decoded each time they are asked for; :class:`~specenhance.data.cache.CachedWaveforms` decodes them once.

    Args:
        classes: the names of the labels, in their order.
        labels: an index into ``classes`` for each sound.
        paths: a file for each sound; none for a data set that makes its own, which overrides :meth:`waveform`.
        sample_rate: the waveforms' rate, in Hz; a file of another one is resampled.

    Raises:
        ValueError: for a rate below 1.
    """

    classes: list[str]
    labels: list[int]
    paths: list[Path]
    sample_rate: int

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
        return read_audio(self.paths[i], self.sample_rate)


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
    waveforms, labels = zip(*batch, strict=True)
    return Batch(
        waveform=pad_sequence(list(waveforms), batch_first=True),
        length=torch.tensor([len(waveform) for waveform in waveforms]),
        label=torch.tensor(labels),
    )
