"""The sound as it is."""

from __future__ import annotations

import numpy as np

from specenhance.conditions.registry import register_condition

__all__ = ["Clean"]


@register_condition("clean")
class Clean:
    """Change nothing.

    >>> Clean()(np.float32([0.5]), 16000, np.random.default_rng(0)).tolist()
    [0.5]
    """

    def __call__(self, waveform: np.ndarray, sample_rate: int, random: np.random.Generator) -> np.ndarray:
        """Return the waveform ``(samples,)`` itself."""
        return waveform
