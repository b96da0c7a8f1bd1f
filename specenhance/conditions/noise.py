"""White noise behind the sound."""

from __future__ import annotations

import numpy as np

from specenhance.conditions.number import number
from specenhance.conditions.registry import register_condition

__all__ = ["Noise"]


@register_condition("noise")
class Noise:
    """Add white noise at a signal-to-noise ratio. Signal and noise are the mean squares over the clip.

    Args:
        snr: The ratio in dB, such as ``20``.

    Raises:
        ValueError: for what is no number from -60 to 120.

    >>> clip = np.ones(16000, np.float32)
    >>> noisy = Noise("20")(clip, 16000, np.random.default_rng(0))
    >>> round(10 * np.log10(1 / np.mean((noisy - clip) ** 2)))
    20
    """

    example = "20"

    def __init__(self, snr: str) -> None:
        self.snr = number(snr, "dB", -60, 120)

    def __call__(self, waveform: np.ndarray, sample_rate: int, random: np.random.Generator) -> np.ndarray:
        """Add noise to the waveform ``(samples,)``."""
        noise = random.standard_normal(len(waveform))
        power = np.mean(np.square(waveform, dtype=np.float64))
        scale = np.sqrt(power / np.mean(noise**2)) * 10 ** (-self.snr / 20)
        return (waveform + scale * noise).astype(np.float32)
