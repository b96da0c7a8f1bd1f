"""Another level."""

from __future__ import annotations

import numpy as np

from specenhance.conditions.number import number
from specenhance.conditions.registry import register_condition

__all__ = ["Gain"]


@register_condition("gain")
class Gain:
    """Make a sound louder or softer. It is not clipped.

    Args:
        decibels: The gain in dB, such as ``-12``.

    Raises:
        ValueError: for what is no number from -120 to 60.

    >>> Gain("-20")(np.float32([0.5]), 16000, np.random.default_rng(0)).round(3).tolist()
    [0.05...]
    """

    example = "-12"

    def __init__(self, decibels: str) -> None:
        self.factor = 10 ** (number(decibels, "dB", -120, 60) / 20)

    def __call__(self, waveform: np.ndarray, sample_rate: int, random: np.random.Generator) -> np.ndarray:
        """Multiply the waveform ``(samples,)``."""
        return (waveform * self.factor).astype(np.float32)
