"""One annotation: what is heard in a stretch of a sound file. Checks and names that every format shares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from specenhance._names import shown

__all__ = ["COLUMNS", "Annotation", "checked", "columns_of", "exact", "from_cells", "number_text"]


class Annotation(NamedTuple):
    """A label for a stretch of a sound file.

    Attributes:
        file: Path of the sound file.
        start: Start of the stretch, in seconds from the start of the file.
        end: End of the stretch, in seconds from the start of the file. It equals ``start`` for a point.
        label: The label, any text.
        probability: Probability that a model gave to the label, from 0 to 1. None if a person set it.
        low: Lowest frequency, in Hz, or None.
        high: Highest frequency, in Hz, or None.

    >>> Annotation("a.wav", 1.5, 2.0, "blackbird").label
    'blackbird'
    """

    file: str
    start: float
    end: float
    label: str
    probability: float | None = None
    low: float | None = None
    high: float | None = None


COLUMNS: dict[str, tuple[str, ...]] = {
    "file": ("file", "path", "filename", "begin path", "begin file"),
    "start": ("start", "start_time", "start (s)", "begin time (s)"),
    "end": ("end", "end_time", "end (s)", "end time (s)"),
    "label": ("label", "annotation", "class", "species", "common name", "species code", "tag", "tags", "call type"),
    "probability": ("probability", "confidence", "score"),
    "low": ("low", "low_hz", "low_f", "low freq (hz)"),
    "high": ("high", "high_hz", "high_f", "high freq (hz)"),
}
"""Names of columns in tables of other programs, in lower case, by the attribute that they are read as. The first is ours."""

NEEDED = ("file", "start", "end", "label")


def columns_of(found: Iterable[str], path: object, needed: Iterable[str] = NEEDED) -> dict[str, str]:
    """Find the columns of a table by :data:`COLUMNS`. Capitals do not matter.

    Args:
        found: The names of the table's columns.
        path: The table, for messages.
        needed: The attributes that the table must have.

    Returns:
        The name of the column for each attribute that the table has.

    Raises:
        ValueError: for a table without a column that is needed.

    >>> columns_of(["File", "Start (s)", "End (s)", "Common name"], "birds.csv")
    {'file': 'File', 'start': 'Start (s)', 'end': 'End (s)', 'label': 'Common name'}
    """
    found = list(found)
    named = {name.strip().casefold(): name for name in reversed(found)}
    columns = {
        attribute: next(named[name] for name in names if name in named)
        for attribute, names in COLUMNS.items()
        if any(name in named for name in names)
    }
    for attribute in needed:
        if attribute not in columns:
            raise ValueError(
                f"{path}: no column for {attribute}: it has {', '.join(map(shown, found)) or 'no columns'}; expected one of "
                f"{', '.join(COLUMNS[attribute])}"
            )
    return columns


def from_cells(cells: Mapping[str, Any], where: str) -> Annotation:
    """Make an annotation of the cells of a row, texts or numbers. An empty cell for a number that may be missing is None.

    Args:
        cells: The cells by attribute.
        where: The place of the row, for messages.

    Raises:
        ValueError: as :func:`checked`, and for a cell that is no number.

    >>> from_cells({"file": "a.wav", "start": "1", "end": "2.5", "label": "wren", "probability": ""}, "a.csv, line 2")
    Annotation(file='a.wav', start=1.0, end=2.5, label='wren', probability=None, low=None, high=None)
    """

    def number(name: str) -> float | None:
        value = cells.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if isinstance(value, bool):
            raise _expected(where, name, value, "a number")
        try:
            return float(value)
        except (TypeError, ValueError):
            raise _expected(where, name, value, "a number") from None

    start, end = number("start"), number("end")
    for name, value in (("start", start), ("end", end)):
        if value is None:
            raise ValueError(f"{where}: {name} is empty, expected seconds; fill it, or remove the row")
    for name in ("file", "label"):
        if not isinstance(cells.get(name), str):
            raise _expected(where, name, cells.get(name), "a text")
    assert start is not None
    assert end is not None
    one = Annotation(cells["file"], start, end, cells["label"], number("probability"), number("low"), number("high"))
    return checked(one, where)


def checked(one: Annotation, where: str) -> Annotation:
    """Give an annotation back if its numbers make sense.

    Args:
        one: The annotation.
        where: Its place, for messages.

    Raises:
        ValueError: for no file; for a start below 0 or an end before the start; for a probability that is not from 0 to 1;
            for a frequency below 0, and for a high one below the low one.

    >>> checked(Annotation("a.wav", 2, 1, "wren"), "a.csv, line 2")
    Traceback (most recent call last):
    ValueError: a.csv, line 2: start is 2 and end is 1, expected seconds, and the end not before the start; correct the row
    """
    if not one.file:
        raise ValueError(f"{where}: no file; name the sound file, or remove the row")
    if not 0 <= one.start <= one.end < math.inf:
        raise ValueError(
            f"{where}: start is {one.start} and end is {one.end}, expected seconds, and the end not before the start; "
            "correct the row"
        )
    if one.probability is not None and not 0 <= one.probability <= 1:
        raise ValueError(f"{where}: probability is {one.probability}, expected a number from 0 to 1; correct the row")
    low, high = one.low or 0.0, math.inf if one.high is None else one.high
    if not 0 <= low <= high or (one.high is not None and math.isinf(one.high)):
        raise ValueError(
            f"{where}: low is {one.low} and high is {one.high}, expected frequencies in Hz, and the high one not below the "
            "low one; correct the row"
        )
    return one


def exact(text: str, what: str, format: str) -> str:
    """Give a file or a label back, if a table of lines can hold it exactly.

    Args:
        text: The name.
        what: What it is, for the message.
        format: The format, for the message.

    Raises:
        ValueError: for a name with characters that are not visible, such as a line break, a tab or a control character.

    >>> exact("a\\tb", "label", "audacity")
    Traceback (most recent call last):
    ValueError: label 'a\\tb': holds characters that are not visible, which audacity cannot keep; rename it, or write .jsonl
    """
    if shown(text) != text:
        raise ValueError(
            f"{what} '{shown(text)}': holds characters that are not visible, which {format} cannot keep; rename it, or "
            "write .jsonl"
        )
    return text


def number_text(value: float) -> str:
    """Write a number exactly and without an exponent, which Raven and Audacity do not expect.

    >>> number_text(1e-7), number_text(3.0)
    ('0.0000001', '3.0')
    """
    return format(Decimal(repr(float(value))), "f")


def _expected(where: str, name: str, value: object, expected: str) -> ValueError:
    return ValueError(f"{where}: {name} is {shown(repr(value))}, expected {expected}; correct the row")
