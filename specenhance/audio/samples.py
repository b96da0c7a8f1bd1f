"""Arrays of samples as models take them: float32 in [-1, 1], whatever type they were recorded in. Needs NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["LARGEST", "scaled", "waveform_of"]

# Each integer type: the value of silence, and that of a sample of 1.
INTEGERS = {"uint8": (128, 128), "int8": (0, 128), "int16": (0, 2**15), "int32": (0, 2**31)}

LARGEST = 1e4
"""A sample of a larger magnitude is no sound: floats that hold unscaled integers, or a damaged file."""


def scaled(samples: Any) -> np.ndarray:
    """Give samples of any shape as float32: floats as they are, integers scaled by their type to [-1, 1).

    Args:
        samples: floats, or int8, int16, int32 or uint8 (silence is 128) with their whole range in use. Samples of 24 bits
            belong in the upper three bytes of an int32, as soundfile gives them.

    Raises:
        TypeError: for another type.
        ValueError: for a sample that is not finite, or larger than :data:`LARGEST`.
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
    largest = np.abs(samples).max(initial=0)  # one that is no number stays so in a maximum
    if not largest <= LARGEST:
        raise ValueError(
            f"samples of magnitude {largest:.3g}: expected floats in [-1, 1]; those that were 16-bit integers are divided by "
            "32768, and others replaced"
        )
    return samples


def waveform_of(samples: Any) -> np.ndarray:
    """Give the samples of one clip ``(samples,)`` as :func:`scaled` does.

    Raises:
        TypeError, ValueError: as :func:`scaled`; ValueError for another shape, such as that of several channels, and for none.
    """
    shape = np.shape(samples)
    if len(shape) == 2 and min(shape) > 0:
        one = "[:, 0]" if shape[0] >= shape[1] else "[0]"
        raise ValueError(f"sound of shape {shape}: expected one channel (samples,); waveform{one} is the first of them")
    if len(shape) != 1 or shape[0] == 0:
        raise ValueError(f"sound of shape {shape}: expected one channel (samples,) with samples in it")
    return scaled(samples)
