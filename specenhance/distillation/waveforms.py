"""What teachers of waveforms share: another sample rate, and another length."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from specenhance._missing import missing

__all__ = ["as_heard"]

Array = npt.NDArray[np.float32]


def as_heard(waveform: Tensor, old: int, new: int, longest: int | None = None) -> Array:
    """Resample waveforms, and cut them at the longest that a model takes.

    Args:
        waveform: Waveforms ``(B, samples)``, on any device.
        old: Their sample rate, in Hz.
        new: The sample rate that the model takes, in Hz.
        longest: The maximum number of samples that the model takes, at its rate. None for any.

    Returns:
        The waveforms ``(B, samples)``, float32.

    Raises:
        ImportError: if they must be resampled and soxr is missing.

    >>> import torch
    >>> as_heard(torch.zeros(2, 800), 8000, 16000).shape
    (2, 1600)
    """
    sound = waveform.detach().to("cpu").float().numpy()
    if old != new:
        try:
            import soxr
        except ImportError as error:
            raise missing(error, f"waveforms at {old} Hz for a teacher at {new} Hz need soxr", "soxr") from error
        sound = np.stack([soxr.resample(clip, old, new) for clip in sound])
    return sound[:, :longest]
