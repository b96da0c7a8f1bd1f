"""Reading one audio file into PyTorch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from specenhance.audio import AudioError, read_excerpt, read_samples

if TYPE_CHECKING:  # PyTorch is loaded with the first sound, so that what only names a data set starts at once
    from torch import Tensor

__all__ = ["AudioError", "read_audio"]


def read_audio(
    path: str | os.PathLike[str],
    sample_rate: int = 16000,
    *,
    seconds: float | None = None,
    place: float = 0.0,
    allow_truncated: bool = False,
) -> Tensor:
    """Read an audio file: float32 ``(samples,)``.

    Args:
        path: the file.
        sample_rate: the result's rate, in Hz.
        seconds: the length of a part that is read alone; None reads the whole.
        place: where the part lies, from 0, at the file's start, to 1, at its end.
        allow_truncated: take what there is of a file that is not whole.

    Raises as :func:`specenhance.audio.read_samples` and :func:`specenhance.audio.read_excerpt`, which this wraps.
    """
    import torch

    if seconds is None:
        return torch.from_numpy(read_samples(path, sample_rate, allow_truncated=allow_truncated))
    return torch.from_numpy(read_excerpt(path, sample_rate, seconds, place, allow_truncated=allow_truncated))
