"""Reading one audio file into PyTorch."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from specenhance.audio import AudioError, read_samples

__all__ = ["AudioError", "read_audio"]


def read_audio(path: str | os.PathLike[str], sample_rate: int = 16000) -> Tensor:
    """Read an audio file: float32 ``(samples,)``. Everything as :func:`specenhance.audio.read_samples`, which this wraps."""
    return torch.from_numpy(read_samples(path, sample_rate))
