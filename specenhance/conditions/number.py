"""A condition's argument as a number within bounds."""

from __future__ import annotations

import math

__all__ = ["number"]


def number(text: str, unit: str, least: float, most: float) -> float:
    """Read a number.

    Raises:
        ValueError: for what is no number, and for a number out of its bounds.

    >>> number("+12", "dB", -60, 60)
    12.0
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise ValueError(f"expected {unit} from {least:g} to {most:g}, not {text!r}")
    return value
