"""A setting of the loss that changes over training."""

from __future__ import annotations

__all__ = ["linear"]


def linear(start: float, end: float | None, step: int, steps: int) -> float:
    """Give a value that changes linearly from the first step to the last.

    It depends on nothing else, so a run that was stopped goes on with the same values.

    Args:
        start: The value at step 0.
        end: The value at the last step, ``steps - 1``, and after it. None keeps ``start``.
        step: The number of the step, from 0.
        steps: The number of all steps.

    >>> [linear(1.0, 0.0, step, steps=5) for step in range(6)]
    [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """
    if end is None:
        return start
    part = step / (steps - 1) if steps > 1 else 0.0
    if part >= 1:
        return end
    return max(min(start, end), min(max(start, end), start + (end - start) * part))  # never out of bounds by rounding
