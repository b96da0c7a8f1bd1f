"""The metadata of an exported file: one table of all keys, with the type and range of each value. Needs no other library."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_args

from specenhance._checksum import BLANK, KEY
from specenhance._choices import Input

__all__ = ["INPUTS", "SCHEMA", "read_metadata"]

INPUTS: tuple[Input, ...] = get_args(Input)


class Field(NamedTuple):
    """The description of one key.

    Attributes:
        expected: the expected value, in words, for messages.
        holds: returns whether a value is as expected.
    """

    expected: str
    holds: Callable[[Any], bool]


def _text(expected: str, holds: Callable[[str], bool] = bool) -> Field:
    return Field(expected, lambda value: isinstance(value, str) and holds(value))


def _whole(what: str, least: int, most: int) -> Field:
    return Field(
        f"{what}, a whole number from {least} to {most}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


def _is_above_zero(value: Any) -> bool:
    return _is_number(value) and value > 0


def _names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(name, str) for name in value)
        and len(set(value)) == len(value)
    )


def _probabilities(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and len(value) > 0 and all(_is_number(one) and 0 <= one <= 1 for one in value)
    )


OPTIONAL = {"thresholds": "null", "fixed_mask": "null"}
"""Keys that files of earlier versions do not have, and the JSON text that stands for them."""

SCHEMA: dict[str, Field] = {
    "specenhance": _text("the version that wrote it"),
    "input": _text(" or ".join(map(repr, INPUTS)), INPUTS.__contains__),
    "classes": Field("a list of names, each once", _names),
    "thresholds": Field("a probability for each class, or null", _probabilities),
    "sample_rate": _whole("Hz", 1, 10**7),
    "samples": _whole("samples", 1, 10**9),
    "clip_seconds": Field("seconds above 0, or null", lambda value: value is None or _is_above_zero(value)),
    "frames": _whole("frames", 1, 10**7),
    "bins": _whole("bins", 1, 10**5),
    "hop_seconds": Field("seconds above 0", _is_above_zero),
    "features": _text("the name of the features"),
    "mean": Field("a number", _is_number),
    "std": Field("a number above 0", _is_above_zero),
    "normalisation": _text("a formula"),
    "frontend": _text("the name of the front end"),
    "fixed_mask": Field(
        "the largest change of a mask that was fixed, from 0, or null",
        lambda value: value is None or (_is_number(value) and value >= 0),
    ),
    "backbone": _text("the name of the backbone"),
    "int8": Field("true or false", lambda value: isinstance(value, bool)),
    KEY: _text(f"{len(BLANK)} digits", lambda value: len(value) == len(BLANK)),
}
"""The keys of an exported file's metadata, and the expected value of each. A file holds each value as JSON."""


def read_metadata(found: Mapping[str, str], path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the metadata of a file from its JSON texts. Keys that :data:`SCHEMA` does not have are left out.

    Args:
        found: the JSON text of each key.
        path: the file, for messages.

    Raises:
        ValueError: for a key that is missing, and for a value of another type or out of range. The message names the file and
            the key.

    >>> read_metadata({"input": '"waveform"'}, "model.onnx")
    Traceback (most recent call last):
    ValueError: model.onnx: says nothing of specenhance, classes, ...: specenhance export did not write it; ...
    """
    found = {**OPTIONAL, **found}
    missing = [key for key in SCHEMA if key not in found]
    if missing:
        raise ValueError(
            f"{path}: says nothing of {', '.join(missing)}: specenhance export did not write it; export the model again"
        )
    return {key: _value(found[key], key, field, path) for key, field in SCHEMA.items()}


def _value(text: str, key: str, field: Field, path: str | os.PathLike[str]) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse)  # JSON has no NaN and no Infinity
        holds = field.holds(value)
    except (ValueError, RecursionError):
        holds = False
    if not holds:
        shown = repr(text if len(text) <= 60 else text[:60] + "...")
        raise ValueError(f"{path}: its {key} is {shown}, expected {field.expected}; export the model again")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(constant)
