"""The space of a hyper-parameter search: which fields of a recipe vary, and over which values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Choice", "Interval", "as_text", "parse_space", "suggested"]


class Interval(NamedTuple):
    """Numbers from ``low`` to ``high``.

    Attributes:
        low: The lower end, which belongs to it.
        high: The upper end, which belongs to it.
        log: Whether the logarithms are equally likely, not the numbers.
        whole: Whether only whole numbers are in it.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False


class Choice(NamedTuple):
    """One of several values, as text."""

    values: tuple[str, ...]


def parse_space(texts: Mapping[str, str]) -> dict[str, Interval | Choice]:
    """Read the values of fields.

    Args:
        texts: For each field ``LOW..HIGH``, ``LOW..HIGH:log``, or values with commas between them. An interval between two
            whole numbers has only whole numbers.

    Raises:
        ValueError: for no field, an interval of no numbers or without a length, a logarithm of 0 or less, or fewer than two
            values.

    >>> parse_space({"lr": "1e-4..1e-2:log", "epochs": "10..30", "frontend": "identity,tfe4"})["lr"]
    Interval(low=0.0001, high=0.01, log=True, whole=False)
    """
    if not texts:
        raise ValueError("no field varies: expected at least one, such as --space lr=1e-4..1e-2:log")
    return {field: _parsed(field, text) for field, text in texts.items()}


def _parsed(field: str, text: str) -> Interval | Choice:
    low, dots, rest = text.partition("..")
    if not dots:
        values = tuple(dict.fromkeys(value.strip() for value in text.split(",")))
        if len(values) < 2 or not all(values):
            raise ValueError(f"{field}={text}: expected LOW..HIGH, or two or more values with commas between them")
        return Choice(values)
    high, colon, scale = rest.partition(":")
    try:
        ends = float(low), float(high)
    except ValueError:
        raise ValueError(f"{field}={text}: expected numbers, such as {field}=1e-4..1e-2") from None
    if colon and scale != "log":
        raise ValueError(f"{field}={text}: expected nothing or :log after the interval")
    if not all(map(math.isfinite, ends)) or not ends[0] < ends[1]:
        raise ValueError(f"{field}={text}: expected a lower number and then a higher one")
    if colon and ends[0] <= 0:
        raise ValueError(f"{field}={text}: expected numbers above 0 with :log")
    return Interval(*ends, log=bool(colon), whole=_is_whole(low) and _is_whole(high))


def _is_whole(text: str) -> bool:
    return text.strip().lstrip("+-").isdecimal()


def as_text(space: Mapping[str, Interval | Choice]) -> dict[str, str]:
    """Write a space as :func:`parse_space` reads it.

    >>> as_text(parse_space({"lr": "1e-4..1e-2:log", "frontend": "identity,tfe4"}))
    {'lr': '0.0001..0.01:log', 'frontend': 'identity,tfe4'}
    """
    texts = {}
    for field, values in space.items():
        if isinstance(values, Choice):
            texts[field] = ",".join(values.values)
        else:
            low, high = (f"{int(end)}" if values.whole else f"{end:g}" for end in (values.low, values.high))
            texts[field] = f"{low}..{high}{':log' if values.log else ''}"
    return texts


def suggested(trial: Any, space: Mapping[str, Interval | Choice]) -> dict[str, Any]:
    """Ask a trial of Optuna for a value of each field.

    Args:
        trial: The trial.
        space: The space.

    >>> import optuna
    >>> trial = optuna.trial.FixedTrial({"lr": 1e-3, "frontend": "tfe4"})
    >>> suggested(trial, parse_space({"lr": "1e-4..1e-2:log", "frontend": "identity,tfe4"}))
    {'lr': 0.001, 'frontend': 'tfe4'}
    """
    found: dict[str, Any] = {}
    for field, values in space.items():
        if isinstance(values, Choice):
            found[field] = trial.suggest_categorical(field, list(values.values))
        elif values.whole:
            found[field] = trial.suggest_int(field, int(values.low), int(values.high), log=values.log)
        else:
            found[field] = trial.suggest_float(field, values.low, values.high, log=values.log)
    return found
