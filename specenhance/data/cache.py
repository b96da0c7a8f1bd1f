"""Waveforms that are decoded once and kept in memory, or in a file that later runs find again and map into memory."""

from __future__ import annotations

import hashlib
import json
import os
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specenhance._files import atomic_folder, remove_leftovers
from specenhance.data.base import AudioDataset, own_names

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CachedWaveforms"]

SAMPLES, LENGTHS = "samples.f32", "lengths.json"


class CachedWaveforms(AudioDataset):
    """A data set that decodes and resamples each sound only once, when it is made.

    A sample takes 4 bytes, so a second at 16 kHz takes 64 kB.

    Args:
        data: The data set.
        folder: Folder for the samples. Each set of files has its own subfolder, and a later run uses that subfolder again.
            A changed file or another sample rate gets a new subfolder; the old one stays. None keeps the samples in memory.

    Raises:
        ValueError: for a folder together with a data set that makes its own sounds.
        FileNotFoundError, AudioError: for a file that cannot be read.

    >>> from specenhance.data import SyntheticSounds
    >>> data = SyntheticSounds("test", clips_per_class=1)
    >>> cached = CachedWaveforms(data)
    >>> bool((cached.waveform(3) == data.waveform(3)).all())
    True
    """

    def __init__(self, data: AudioDataset, folder: str | os.PathLike[str] | None = None) -> None:
        super().__init__(data.classes, data.labels, data.paths, data.sample_rate)
        self.allow_truncated, self.passed_over = data.allow_truncated, data.passed_over
        self.spans, self.seconds, self.checksum = data.spans, data.seconds, data.checksum
        self.blocks = data.blocks  # a cache changes the order of training no more than its numbers
        self.groups, self.names = data.groups, own_names(data, range(len(data)))
        self._kept: Path | None = None
        self._samples: Tensor | None = None
        if folder is None:
            import torch

            memory = bytearray()
            lengths = []
            for i in range(len(data)):
                lengths.append(len(waveform := data.waveform(i)))
                memory += waveform.numpy().tobytes()
            self._samples = torch.frombuffer(memory, dtype=torch.float32)
        else:
            if not data.paths:
                raise ValueError(
                    f"cache = {str(folder)!r}: {type(data).__name__} makes its sounds, a folder keeps files' alone; use memory"
                )
            self._kept = Path(folder) / _digest(data)
            if not self._kept.is_dir():
                if Path(folder).is_dir():
                    remove_leftovers(folder)
                _write(data, self._kept)
            lengths = json.loads((self._kept / LENGTHS).read_text(encoding="utf-8"))
        self._ends = list(accumulate(lengths))

    def waveform(self, i: int) -> Tensor:
        """Copy sound ``0 <= i < len(self)`` out of the cache, float32 ``(samples,)``."""
        start = self._ends[i - 1] if i else 0
        return self._all()[start : self._ends[i]].clone()

    def _all(self) -> Tensor:
        if self._samples is None:
            import torch

            assert self._kept is not None
            self._samples = torch.from_file(str(self._kept / SAMPLES), shared=False, size=self._ends[-1])
        return self._samples

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the samples of a mapped file: another process maps the file itself."""
        return self.__dict__ | ({"_samples": None} if self._kept else {})


def _digest(data: AudioDataset) -> str:
    """Make a name of all that the waveforms depend on: the files, their sizes and times, and the sample rate."""
    files = [(str(path.resolve()), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in data.paths]
    facts: list[Any] = [data.sample_rate, data.allow_truncated, files, *([list(data.spans)] if data.spans else [])]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _write(data: AudioDataset, folder: Path) -> None:
    lengths = []
    # Another process may have written the same meanwhile, and a third may be about to read it.
    with atomic_folder(folder, keep=True) as temporary:
        with (temporary / SAMPLES).open("wb") as file:
            for i in range(len(data)):
                lengths.append(len(waveform := data.waveform(i)))
                file.write(waveform.numpy().tobytes())
        (temporary / LENGTHS).write_text(json.dumps(lengths), encoding="utf-8")
