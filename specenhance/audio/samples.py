"""Arrays of samples of any type, as float32 in [-1, 1]. Needs only NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["LARGEST", "scaled", "waveform_of"]

# For each integer type, the value of silence, and the distance from silence to full scale.
INTEGERS = {"uint8": (128, 128), "int8": (0, 128), "int16": (0, 2**15), "int32": (0, 2**31)}

LARGEST = 1e4
"""Maximum magnitude of a sample. Larger ones come from floats that hold unscaled integers, or from a damaged file."""


def scaled(samples: Any) -> np.ndarray:
    """Convert samples of any shape to float32. Integers are scaled to [-1, 1), floats keep their values.

    Args:
        samples: Floats, or integers of the type int8, int16, int32 or uint8 (silence is 128) that use the full range of this
            type. Samples of 24 bits must be in the upper three bytes of an int32, as soundfile gives them.

    Raises:
        TypeError: for another type.
        ValueError: for a sample that is not finite, or of a larger magnitude than :data:`LARGEST`.

    >>> scaled(np.array([0, 16384, -32768], np.int16))
    array([ 0. ,  0.5, -1. ], dtype=float32)
    """
    samples = np.asarray(samples)
    if samples.dtype.name in INTEGERS:
        silence, one = INTEGERS[samples.dtype.name]
        return ((samples.astype(np.float64) - silence) / one).astype(np.float32)
    if samples.dtype.kind != "f":
        raise TypeError(
            f"samples of type {samples.dtype}: expected float32 in [-1, 1], or {', '.join(INTEGERS)} as recorded; 16-bit "
            "samples in another type become so by samples.astype('int16')"
        )
    with np.errstate(over="ignore"):
        samples = samples.astype(np.float32, copy=False)
    largest = np.abs(samples).max(initial=0)  # a maximum keeps NaN
    if not largest <= LARGEST:
        raise ValueError(
            f"samples of magnitude {largest:.3g}: expected floats in [-1, 1]; those that were 16-bit integers are divided by "
            "32768, and others replaced"
        )
    return samples


def waveform_of(samples: Any) -> np.ndarray:
    """Convert one clip ``(samples,)`` as :func:`scaled` does.

    Raises:
        TypeError, ValueError: as :func:`scaled`. ValueError also for no samples, and for another shape, such as of several
            channels.

    >>> waveform_of([0.0, 0.5])
    array([0. , 0.5], dtype=float32)
    >>> waveform_of(np.zeros((1000, 2)))
    Traceback (most recent call last):
    ValueError: sound of shape (1000, 2): expected one channel (samples,); waveform[:, 0] is the first of them
    """
    shape = np.shape(samples)
    if len(shape) == 2 and min(shape) > 0:
        one = "[:, 0]" if shape[0] >= shape[1] else "[0]"
        raise ValueError(f"sound of shape {shape}: expected one channel (samples,); waveform{one} is the first of them")
    if len(shape) != 1 or shape[0] == 0:
        raise ValueError(f"sound of shape {shape}: expected one channel (samples,) with samples in it")
    return scaled(samples)
