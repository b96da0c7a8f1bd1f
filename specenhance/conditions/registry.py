"""Conditions by name: register one, make one, list them.

A condition is a function of a waveform ``(samples,)``, float32, its sample rate in Hz and a random generator of NumPy. It
returns a waveform of the same length. ``"noise:20"`` is the condition ``noise`` with the argument ``20``.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np

from specenhance._registry import Registry

__all__ = ["CONDITIONS", "Condition", "create_condition", "generator", "list_conditions", "register_condition"]


class Condition(Protocol):
    """What changes a waveform."""

    def __call__(self, waveform: np.ndarray, sample_rate: int, random: np.random.Generator) -> np.ndarray:
        """Change a waveform ``(samples,)``, float32, at a sample rate in Hz."""


CONDITIONS: Registry[Condition] = Registry("condition", "specenhance.conditions")

Factory = TypeVar("Factory", bound=Callable[..., Any])


def register_condition(name: str) -> Callable[[Factory], Factory]:
    """Make a condition known by name: a decorator of its class. The class is called with the text behind the colon, if any.

    Args:
        name: Lower-case letters, digits, ``_``, ``-`` and ``.``.

    Raises:
        ValueError: for a malformed name, and for one that another condition has.

    >>> @register_condition("example_reversed")
    ... class Reversed:
    ...     def __call__(self, waveform, sample_rate, random):
    ...         return waveform[::-1]
    >>> create_condition("example_reversed")(np.float32([1, 2]), 16000, generator("a.wav")).tolist()
    [2.0, 1.0]
    """
    return CONDITIONS.register(name)


def list_conditions() -> list[str]:
    """List the names of conditions, sorted.

    >>> {"clean", "codec", "gain", "lowpass", "noise", "reverb"} <= set(list_conditions())
    True
    """
    return CONDITIONS.names()


def create_condition(text: str) -> Condition:
    """Make a condition from its name and its argument, such as ``"noise:20"``.

    Raises:
        ValueError: for an unknown name, a missing argument, or an argument that the condition does not take.

    >>> louder = create_condition("gain:+20")
    >>> louder(np.float32([0.01]), 16000, generator("a.wav")).round(3).tolist()
    [0.1...]
    """
    name, colon, argument = text.strip().partition(":")
    factory, _ = CONDITIONS.find(name)
    try:
        return factory(argument) if colon else factory()
    except TypeError:
        wanted = "no argument" if colon else f"an argument, such as {name}:{getattr(factory, 'example', '...')}"
        raise ValueError(f"condition {text!r}: {name} takes {wanted}") from None
    except ValueError as error:
        raise ValueError(f"condition {text!r}: {error}") from None


def generator(clip: str) -> np.random.Generator:
    """Make the random generator of a clip. It depends only on the clip's name, so that all models hear the same.

    >>> generator("a.wav").random() == generator("a.wav").random()
    True
    """
    return np.random.default_rng(zlib.crc32(clip.encode()))
