"""Waveforms decoded once and kept: in memory, or in a file that is mapped into memory and that later runs find again."""

from __future__ import annotations

import hashlib
import json
import os
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specenhance._files import atomic_folder, remove_leftovers
from specenhance.data.base import AudioDataset

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CachedWaveforms"]

SAMPLES, LENGTHS = "samples.f32", "lengths.json"


class CachedWaveforms(AudioDataset):
    """A data set whose sounds are decoded and resampled once, when it is made: 4 bytes a sample, 64 kB a second at 16 kHz.

    Args:
        data: the data set.
        folder: where to keep the samples, in a subfolder of this one set of files; one that is there already is used as it
            is. A file that has changed, or another rate, makes a new one; nothing removes the old. None keeps them in memory.

    Raises:
        ValueError: for a folder, and a data set that makes its own sounds.
        FileNotFoundError, AudioError: as reading the files does.
    """

    def __init__(self, data: AudioDataset, folder: str | os.PathLike[str] | None = None) -> None:
        super().__init__(data.classes, data.labels, data.paths, data.sample_rate)
        self.allow_truncated = data.allow_truncated
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
        """Give the sound ``0 <= i < len(self)``, float32 ``(samples,)``, a copy."""
        start = self._ends[i - 1] if i else 0
        return self._all()[start : self._ends[i]].clone()

    def _all(self) -> Tensor:
        if self._samples is None:
            import torch

            assert self._kept is not None
            self._samples = torch.from_file(str(self._kept / SAMPLES), shared=False, size=self._ends[-1])
        return self._samples

    def __getstate__(self) -> dict[str, Any]:
        """Leave a mapped file's samples out: another process maps the file itself."""
        return self.__dict__ | ({"_samples": None} if self._kept else {})


def _digest(data: AudioDataset) -> str:
    """Name the waveforms of a data set by its files, their sizes and times, and the rate."""
    files = [(str(path.resolve()), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in data.paths]
    return hashlib.sha256(json.dumps([data.sample_rate, data.allow_truncated, files]).encode()).hexdigest()[:16]


def _write(data: AudioDataset, folder: Path) -> None:
    lengths = []
    with atomic_folder(folder) as temporary:
        with (temporary / SAMPLES).open("wb") as file:
            for i in range(len(data)):
                lengths.append(len(waveform := data.waveform(i)))
                file.write(waveform.numpy().tobytes())
        (temporary / LENGTHS).write_text(json.dumps(lengths), encoding="utf-8")
