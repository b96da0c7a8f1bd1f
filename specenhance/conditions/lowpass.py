"""A channel that carries only low frequencies."""

from __future__ import annotations

import numpy as np

from specenhance.conditions.number import number
from specenhance.conditions.registry import register_condition

__all__ = ["Lowpass"]

ORDER = 8


@register_condition("lowpass")
class Lowpass:
    """Remove what is above a frequency, by a Butterworth filter of order 8.

    Args:
        hertz: The frequency in Hz at which the power is halved, such as ``4000``. A sound of too low a sample rate to have such
            frequencies stays as it is.

    Raises:
        ValueError: for what is no number from 50 to 96,000.

    >>> tone = np.sin(2 * np.pi * 6000 * np.arange(1600) / 16000).astype(np.float32)
    >>> bool(np.abs(Lowpass("2000")(tone, 16000, np.random.default_rng(0))[800:]).max() < 0.01)
    True
    """

    example = "4000"

    def __init__(self, hertz: str) -> None:
        self.hertz = number(hertz, "Hz", 50, 96_000)

    def __call__(self, waveform: np.ndarray, sample_rate: int, random: np.random.Generator) -> np.ndarray:
        """Filter the waveform ``(samples,)``."""
        from scipy.signal import butter, sosfilt

        if self.hertz >= sample_rate / 2:
            return waveform
        return sosfilt(butter(ORDER, self.hertz, fs=sample_rate, output="sos"), waveform).astype(np.float32)
