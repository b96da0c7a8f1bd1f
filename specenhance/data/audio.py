"""Reading one sound file into a PyTorch tensor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from specenhance.audio import AudioError, SoundBytes, read_excerpt, read_samples

if TYPE_CHECKING:  # PyTorch loads with the first sound: a command that only names a data set must start at once
    from torch import Tensor

__all__ = ["AudioError", "read_audio"]


def read_audio(
    path: str | os.PathLike[str] | SoundBytes,
    sample_rate: int = 16000,
    *,
    seconds: float | None = None,
    place: float = 0.0,
    start: float | None = None,
    allow_truncated: bool = False,
) -> Tensor:
    """Read a sound file, or a part of it.

    Args:
        path: The file, or its content.
        sample_rate: Sample rate of the result, in Hz.
        seconds: Length of the part, in seconds. None reads the whole file.
        place: Position of the part, from 0 (the start of the file) to 1 (its end).
        start: Start of the part, in seconds from the start of the file, in place of ``place``.
        allow_truncated: Whether to read what is there of an incomplete file.

    Returns:
        The waveform, float32 ``(samples,)``.

    Raises:
        FileNotFoundError, AudioError, ValueError, ImportError: as :func:`specenhance.audio.read_samples` and
            :func:`specenhance.audio.read_excerpt`, which do the work.

    >>> import tempfile, numpy as np, soundfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     soundfile.write(f"{folder}/a.wav", np.zeros(8000), 8000)
    ...     whole = read_audio(f"{folder}/a.wav", sample_rate=16000)
    ...     part = read_audio(f"{folder}/a.wav", sample_rate=16000, seconds=0.25, place=0.5)
    >>> whole.shape, part.shape
    (torch.Size([16000]), torch.Size([4000]))
    """
    import torch

    if seconds is None:
        return torch.from_numpy(read_samples(path, sample_rate, allow_truncated=allow_truncated))
    part = read_excerpt(path, sample_rate, seconds, place, start=start, allow_truncated=allow_truncated)
    return torch.from_numpy(part)
