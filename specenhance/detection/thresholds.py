"""The thresholds of a model's classes: one number, or a table with a row for each class."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from specenhance._names import shown
from specenhance.annotations.csv_table import disarmed

__all__ = ["DEFAULT", "read_thresholds", "several_classes", "stored_thresholds"]

DEFAULT = 0.5
"""Threshold of every class of a model that has none of its own."""


def stored_thresholds(model: Any) -> list[float] | None:
    """Give the thresholds that are stored with a model, in the order of its classes. None if there are none.

    Args:
        model: A model with ``classes``. Its thresholds are the attribute ``thresholds`` or that entry of its ``metadata``, by
            class or in the order of the classes.

    >>> from types import SimpleNamespace
    >>> stored_thresholds(SimpleNamespace(classes=["a", "b"], thresholds={"b": 0.3, "a": 0.6}))
    [0.6, 0.3]
    """
    found = getattr(model, "thresholds", None)
    if found is None:
        found = getattr(model, "metadata", {}).get("thresholds")
    if found is None:
        return None
    if isinstance(found, Mapping):
        return [float(found[name]) for name in model.classes]
    return [float(value) for value in found]


def several_classes(model: Any) -> bool:
    """Tell whether a model was trained to give a sound several classes: its classes then have thresholds of their own.

    >>> from types import SimpleNamespace
    >>> several_classes(SimpleNamespace(classes=["a", "b"]))
    False
    """
    return stored_thresholds(model) is not None


def read_thresholds(given: str, classes: Sequence[str]) -> float | list[float]:
    """Read what a user gives as thresholds.

    Args:
        given: A number from 0 to 1, or the path of a CSV with the columns ``label`` and ``threshold``, with a row for each
            class.
        classes: The names of the model's classes, in order.

    Returns:
        The number, or a threshold of each class in the order of the classes.

    Raises:
        FileNotFoundError: if it is no number and there is no such file.
        ValueError: for a number out of range, a class that the table has not, has twice, or that the model does not have, and
            for a file that is no such table.

    >>> read_thresholds("0.25", ["wren", "robin"])
    0.25
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "least.csv").write_text("label,threshold\\nrobin,0.3\\nwren,0.6\\n")
    ...     read_thresholds(f"{folder}/least.csv", ["wren", "robin"])
    [0.6, 0.3]
    """
    try:
        return _threshold(given, f"threshold {given}")
    except _NoNumberError:
        pass
    path = Path(given)
    if not path.is_file():
        raise FileNotFoundError(
            f"threshold {given}: expected a number from 0 to 1, or a CSV with the columns label and threshold"
        )
    found: dict[str, float] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, skipinitialspace=True, restval="")
        try:
            if not {"label", "threshold"} <= set(reader.fieldnames or []):
                raise ValueError(f"{path}: expected a first line that names the columns label and threshold")
            for row in reader:
                where, label = f"{path}, line {reader.line_num}", disarmed(row["label"])
                if label not in classes:
                    raise ValueError(f"{where}: the model has no class {shown(label)}; it has {_some(classes)}")
                if label in found:
                    raise ValueError(f"{where}: {shown(label)} has a threshold already; remove one of the rows")
                try:
                    found[label] = _threshold(row["threshold"], where)
                except _NoNumberError:
                    raise ValueError(
                        f"{where}: expected a number from 0 to 1, not {shown(row['threshold'])!r}"
                    ) from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: no CSV in UTF-8 ({error}); save it as one") from error
    missing = [name for name in classes if name not in found]
    if missing:
        raise ValueError(f"{path}: has no threshold for {_some(missing)}; add a row for each class")
    return [found[name] for name in classes]


class _NoNumberError(ValueError):
    pass


def _threshold(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _NoNumberError from None
    if not 0 <= value <= 1:
        raise ValueError(f"{where}: expected a number from 0 to 1, not {text}")
    return value


def _some(names: Sequence[str]) -> str:
    more = len(names) - 5
    return ", ".join(map(shown, names[:5])) + (f" and {more} more" if more > 0 else "")
