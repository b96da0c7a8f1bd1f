"""What all data sets share: labelled waveforms by index, and how several of them become a batch."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from specenhance.data.audio import read_audio

if TYPE_CHECKING:  # PyTorch loads with the first sound: a command that only names a data set must start at once
    from torch import Tensor

__all__ = ["AudioDataset", "Batch", "Label", "classes_of", "collate", "joined", "own_names"]

Label: TypeAlias = int | tuple[int, ...]
"""What a sound is: the number of its class, or in a multi-label data set the numbers of all its classes, sorted."""


def classes_of(label: Label) -> tuple[int, ...]:
    """Give the numbers of a label's classes.

    >>> classes_of(3), classes_of((0, 2)), classes_of(())
    ((3,), (0, 2), ())
    """
    return label if isinstance(label, tuple) else (label,)


class AudioDataset:
    """Labelled sounds. Item i is ``(waveform, target)``: a waveform float32 ``(samples,)`` and its class number.

    In a multi-label data set a sound has any number of classes, also none. Its target is a tensor float32 ``(classes,)``, 1 for
    each of its classes and 0 for the others.

    A data set is indexed like a list, and PyTorch's ``DataLoader`` takes it. Each access decodes the file anew;
    :class:`~specenhance.data.cache.CachedWaveforms` decodes each file only once.

    Args:
        classes: Names of the classes, in the order of their numbers.
        labels: Class number of each sound, an index into ``classes``. In a multi-label data set a sorted tuple of such numbers.
        paths: File of each sound. A data set that makes its own sounds has no files and overrides :meth:`waveform`.
        sample_rate: Sample rate of the waveforms, in Hz. A file of another rate is resampled.

    Attributes:
        allow_truncated: Whether to read what is there of an incomplete file, False by default.
        passed_over: Names of what is in the data set's folder and is not read.
        spans: Start and end of each sound in its file, in seconds, where sounds are parts of files.
        groups: The group of each sound, for each kind of group, such as ``{"speaker": ["ann", "bob"]}``.
        names: Name of each sound, where sounds have no files and their numbers are not their names.
        seconds: Length of each sound, where it is known without reading the sounds.
        blocks: Number of the block in which each sound lies, where sounds of one block are read faster one after the other.
        checksum: Text that changes if the sounds change, where sounds have no files that a run can look at.

    Raises:
        ValueError: for a sample rate below 1.

    >>> import tempfile, numpy as np, soundfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = [Path(folder, "a.wav"), Path(folder, "b.wav")]
    ...     for path in paths:
    ...         soundfile.write(path, np.zeros(1600), 16000)
    ...     data = AudioDataset(["cat", "dog"], [1, 0], paths)
    ...     waveform, label = data[0]
    ...     part = data.excerpt(0, seconds=0.05)
    >>> waveform.shape, data.classes[label], part.shape
    (torch.Size([1600]), 'dog', torch.Size([800]))
    >>> data.subset([1]).labels, data.renumbered(["dog", "cat"], [1, 0]).labels
    ([0], [0, 1])
    >>> several = AudioDataset(["bird", "rain"], [(0, 1), ()])
    >>> several.multi_label, several.target(0)
    (True, tensor([1., 1.]))
    """

    classes: list[str]
    labels: list[Any]  # of Label; all are int, or all are tuples
    paths: list[Path]
    sample_rate: int
    allow_truncated: bool = False
    passed_over: Sequence[str] = ()
    spans: Sequence[tuple[float, float]] = ()
    groups: Mapping[str, Sequence[str]] = MappingProxyType({})
    names: Sequence[str] = ()
    seconds: Sequence[float] = ()
    blocks: Sequence[int] = ()
    checksum: str = ""

    def __init__(
        self, classes: Sequence[str], labels: Sequence[Label], paths: Sequence[Path] = (), sample_rate: int = 16000
    ) -> None:
        if sample_rate < 1:
            raise ValueError(f"sample_rate={sample_rate}: expected a rate in Hz >= 1")
        self.classes, self.labels, self.paths = list(classes), list(labels), list(paths)
        self.sample_rate = sample_rate

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        count, i = len(self), operator.index(index)
        if not -count <= i < count:
            raise IndexError(f"index {i} of a data set of {count} sounds")
        i %= count
        return self.waveform(i), self.target(i)

    @property
    def multi_label(self) -> bool:
        """Whether a sound has any number of classes."""
        return bool(self.labels) and isinstance(self.labels[0], tuple)

    def target(self, i: int) -> int | Tensor:
        """Give what a model should say of sound ``0 <= i < len(self)``: its class number, or ``(classes,)`` of 0 and 1."""
        label: Label = self.labels[i]
        if isinstance(label, int):
            return label
        import torch

        there = torch.zeros(len(self.classes))
        there[list(label)] = 1
        return there

    def waveform(self, i: int) -> Tensor:
        """Read or make sound ``0 <= i < len(self)``, float32 ``(samples,)``.

        Raises:
            FileNotFoundError, AudioError: as :func:`read_audio`.
        """
        if self.spans:
            start, end = self.spans[i]
            return self._part(i, start, end - start)
        return read_audio(self.paths[i], self.sample_rate, allow_truncated=self.allow_truncated)

    def _part(self, i: int, start: float, seconds: float) -> Tensor:
        return read_audio(
            self.paths[i], self.sample_rate, seconds=seconds, start=start, allow_truncated=self.allow_truncated
        )

    def excerpt(self, i: int, seconds: float, place: float = 0.0) -> Tensor:
        """Read or make a part of a sound. Only this part of a file is kept in memory.

        Args:
            i: Index of the sound, ``0 <= i < len(self)``.
            seconds: Length of the part, in seconds. A shorter sound is returned whole.
            place: Position of the part, from 0 (the start of the sound) to 1 (its end).

        Returns:
            The part, float32, at most ``ceil(seconds * sample_rate)`` samples.

        Raises:
            FileNotFoundError, AudioError: as :func:`read_audio`.
            ValueError: for a length of 0 or less, or a place that is not from 0 to 1.
        """
        if type(self).waveform is AudioDataset.waveform and self.spans:
            start, end = self.spans[i]
            return self._part(i, start + max(0.0, end - start - seconds) * place, min(seconds, end - start))
        if type(self).waveform is AudioDataset.waveform:
            return read_audio(
                self.paths[i], self.sample_rate, seconds=seconds, place=place, allow_truncated=self.allow_truncated
            )
        if not seconds > 0 or not 0 <= place <= 1:
            raise ValueError(f"seconds={seconds}, place={place}: expected a length > 0 and a place from 0 to 1")
        waveform = self.waveform(i)
        count = math.ceil(seconds * self.sample_rate)
        start = round(max(0, len(waveform) - count) * place)
        return waveform[start : start + count]

    def name(self, i: int) -> str:
        """Give the name of sound ``0 <= i < len(self)``: its path, or if it has no file the one in ``names``, or its number.

        A part of a file has the file's path and its own place as a media fragment, ``a.wav#t=1.5,2``.

        A part of a data set, such as a fold, has the names of the whole.
        """
        if self.paths:
            return f"{self.paths[i]}{self.fragment(i)}"
        return self.names[i] if self.names else f"clip {i}"

    def fragment(self, i: int) -> str:
        """Give the place of sound ``0 <= i < len(self)`` in its file, ``#t=START,END`` in seconds; "" for a whole file.

        Source: W3C, "Media Fragments URI 1.0", section 4.2.1.
        """
        return "#t={:g},{:g}".format(*(round(place, 6) for place in self.spans[i])) if self.spans else ""

    def subset(self, chosen: Sequence[int]) -> AudioDataset:
        """Make a data set of only the chosen sounds, in the order of ``chosen``."""
        if type(self).waveform is not AudioDataset.waveform:
            return _Part(self, chosen)
        part = copy.copy(self)
        part.labels, part.paths = [self.labels[i] for i in chosen], [self.paths[i] for i in chosen]
        part.groups, part.names = _chosen_groups(self, chosen), own_names(self, chosen)
        part.spans = [self.spans[i] for i in chosen] if self.spans else ()
        return part

    def renumbered(self, classes: Sequence[str], numbers: Sequence[int]) -> AudioDataset:
        """Copy the data set with its classes in another order.

        Args:
            classes: Names of the classes in the new order.
            numbers: New class number of each old one.
        """
        other = copy.copy(self)
        other.classes = list(classes)
        other.labels = [
            tuple(sorted(numbers[one] for one in label)) if isinstance(label, tuple) else numbers[label]
            for label in self.labels
        ]
        return other


class _Part(AudioDataset):
    """Some sounds of a data set that finds its sounds by their index there."""

    def __init__(self, data: AudioDataset, chosen: Sequence[int]) -> None:
        paths = [data.paths[i] for i in chosen] if data.paths else []
        super().__init__(data.classes, [data.labels[i] for i in chosen], paths, data.sample_rate)
        self.allow_truncated, self.passed_over = data.allow_truncated, data.passed_over
        self.groups, self.names = _chosen_groups(data, chosen), own_names(data, chosen)
        self.spans = [data.spans[i] for i in chosen] if data.spans else ()
        self.seconds = [data.seconds[i] for i in chosen] if len(data.seconds) else ()
        self.blocks = [data.blocks[i] for i in chosen] if len(data.blocks) else ()
        self.checksum = data.checksum
        self._data, self._chosen = data, list(chosen)

    def waveform(self, i: int) -> Tensor:
        return self._data.waveform(self._chosen[i])


def _chosen_groups(data: AudioDataset, chosen: Sequence[int]) -> dict[str, list[str]]:
    return {kind: [groups[i] for i in chosen] for kind, groups in data.groups.items()}


def own_names(data: AudioDataset, chosen: Sequence[int]) -> list[str]:
    """List the names of the chosen sounds of a data set, for the ``names`` of another; empty where they have files.

    >>> own_names(AudioDataset(["yes"], [0, 0]), [1])
    ['clip 1']
    """
    return [] if data.paths else [data.name(i) for i in chosen]


class _Joined(AudioDataset):
    """The sounds of several data sets, one after the other."""

    def __init__(self, parts: Sequence[AudioDataset]) -> None:
        first = parts[0]
        super().__init__(
            first.classes,
            [label for part in parts for label in part.labels],
            [path for part in parts for path in part.paths],
            first.sample_rate,
        )
        self.allow_truncated = first.allow_truncated
        self.passed_over = list(dict.fromkeys(name for part in parts for name in part.passed_over))
        kinds = [kind for kind in first.groups if all(kind in part.groups for part in parts)]
        self.groups = {kind: [group for part in parts for group in part.groups[kind]] for kind in kinds}
        self.spans = [span for part in parts for span in part.spans]
        self.checksum = first.checksum
        if all(len(part.seconds) == len(part) for part in parts):
            self.seconds = [length for part in parts for length in part.seconds]
        if all(len(part.blocks) == len(part) for part in parts):
            starts = accumulate((max(part.blocks, default=-1) + 1 for part in parts), initial=0)
            self.blocks = [start + block for start, part in zip(starts, parts, strict=False) for block in part.blocks]
        self._places = [(part, i) for part in parts for i in range(len(part))]

    def waveform(self, i: int) -> Tensor:
        part, place = self._places[i]
        return part.waveform(place)


def joined(parts: Sequence[AudioDataset]) -> AudioDataset:
    """Join data sets of the same classes. A file that is in two of them is taken once. Sounds without files are numbered anew.

    >>> whole = joined([AudioDataset(["yes"], [0]), AudioDataset(["yes"], [0, 0])])
    >>> whole.labels, whole.name(2), whole.subset([2]).name(0)
    ([0, 0, 0], 'clip 2', 'clip 2')
    """
    whole = _Joined(parts)
    if not whole.paths:
        return whole
    first = {whole.name(i): i for i in reversed(range(len(whole)))}
    return whole.subset(sorted(first.values()))


class Batch(NamedTuple):
    """A batch of B sounds, padded to the same length.

    Attributes:
        waveform: Waveforms ``(B, N)``. N is the length of the longest sound; zeros are added at the end of the others.
        length: Number of samples of each sound before padding, ``(B,)`` int64.
        label: Class number of each sound, ``(B,)`` int64. Of a multi-label data set 0 or 1 for each class, ``(B, classes)``.
        taught: A teacher's logits of each sound ``(B, classes)``, if they are known. None otherwise.
    """

    waveform: Tensor
    length: Tensor
    label: Tensor
    taught: Tensor | None = None


def collate(batch: Sequence[tuple[Tensor, int | Tensor]]) -> Batch:
    """Put items of an :class:`AudioDataset` into one :class:`Batch`. This is the ``collate_fn`` of a ``DataLoader``.

    >>> import torch
    >>> batch = collate([(torch.ones(3), 0), (torch.ones(2), 1)])
    >>> batch.waveform
    tensor([[1., 1., 1.],
            [1., 1., 0.]])
    >>> batch.length, batch.label
    (tensor([3, 2]), tensor([0, 1]))
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    waveforms, targets = zip(*batch, strict=True)
    labels: Any = targets
    return Batch(
        waveform=pad_sequence(list(waveforms), batch_first=True),
        length=torch.tensor([len(waveform) for waveform in waveforms]),
        label=torch.stack(labels) if isinstance(labels[0], torch.Tensor) else torch.tensor(labels),
    )
