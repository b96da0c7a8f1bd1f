"""A room around the sound."""

from __future__ import annotations

import numpy as np

from specenhance.conditions.number import number
from specenhance.conditions.registry import register_condition

__all__ = ["Reverb"]


@register_condition("reverb")
class Reverb:
    """Put a sound into a room with a reverberation time. The clip keeps its length and its mean square.

    The response is a direct sound and noise that decays by 60 dB in the reverberation time. Both have the same energy.

    Args:
        seconds: The reverberation time in seconds, such as ``0.5``.

    Raises:
        ValueError: for what is no number from 0.05 to 5.

    >>> Reverb("0.5")(np.ones(100, np.float32), 16000, np.random.default_rng(0)).shape
    (100,)

    Source: the statistical model of Polack, 1988.
    """

    example = "0.5"

    def __init__(self, seconds: str) -> None:
        self.seconds = number(seconds, "seconds", 0.05, 5)

    def __call__(self, waveform: np.ndarray, sample_rate: int, random: np.random.Generator) -> np.ndarray:
        """Convolve the waveform ``(samples,)`` with a response of the room."""
        from scipy.signal import fftconvolve  # takes a second to load

        time = np.arange(int(self.seconds * sample_rate)) / sample_rate
        response = random.standard_normal(len(time)) * np.exp(-np.log(1000) * time / self.seconds)
        response[0] = 0
        response /= np.sqrt(np.sum(response**2))
        response[0] = 1
        wet = fftconvolve(waveform.astype(np.float64), response)[: len(waveform)]
        power, of_wet = np.mean(np.square(waveform, dtype=np.float64)), np.mean(wet**2)
        return (wet * np.sqrt(power / of_wet) if of_wet > 0 else wet).astype(np.float32)
