"""Annotations as CSV: a header line, then a row for each annotation. It opens in pandas and in spreadsheets."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from specenhance._names import FORMULA
from specenhance.annotations.annotation import Annotation, columns_of, exact, from_cells

__all__ = ["armed", "disarmed", "reading", "writing"]

NUMBERS = ("probability", "low", "high")


@contextmanager
def writing(path: Path, *, frequencies: bool = False) -> Iterator[Callable[[Annotation], None]]:
    """Give a function that writes an annotation to a new file.

    Texts are in quotes, numbers are not. A name that a spreadsheet would run as a formula has an apostrophe before it, which
    :func:`reading` takes away.

    Args:
        path: The file.
        frequencies: Whether the table has the columns ``low`` and ``high``.

    Raises:
        ValueError: when an annotation is written whose file or label holds characters that are not visible.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with writing(Path(folder, "a.csv")) as write:
    ...         write(Annotation("a.wav", 0, 1.5, "=1+2", 0.25))
    ...     print(Path(folder, "a.csv").read_text())
    ...     list(reading(Path(folder, "a.csv")))
    "file","start","end","label","probability"
    "a.wav",0.0,1.5,"'=1+2",0.25
    <BLANKLINE>
    [Annotation(file='a.wav', start=0.0, end=1.5, label='=1+2', probability=0.25, low=None, high=None)]
    """
    names = Annotation._fields if frequencies else Annotation._fields[:5]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow(names)

        def write(one: Annotation) -> None:
            numbers = [None if value is None else float(value) for value in (one.probability, one.low, one.high)]
            texts = [armed(exact(text, what, "CSV")) for text, what in ((one.file, "file"), (one.label, "label"))]
            writer.writerow([texts[0], float(one.start), float(one.end), texts[1], *numbers[: len(names) - 4]])

        yield write


def reading(path: Path) -> Iterator[Annotation]:
    """Read a CSV in UTF-8 with a header line, ours or another program's: :data:`COLUMNS` has the names of columns.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a missing column, a row that makes no sense, or a file that is no CSV in UTF-8.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:  # -sig: spreadsheets write a byte-order mark first
        reader = csv.DictReader(file, skipinitialspace=True, restval="")
        try:
            columns = columns_of(reader.fieldnames or [], path)
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row:
                    raise ValueError(
                        f"{where}: more cells than the first line has names; quote a cell that holds a comma"
                    )
                cells = {name: row[column] for name, column in columns.items()}
                yield from_cells(cells | {name: disarmed(cells[name]) for name in ("file", "label")}, where)
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: no CSV in UTF-8 ({error}); save it as one") from error


def armed(text: str) -> str:
    """Put an apostrophe before a name that a spreadsheet would run as a formula.

    Source: OWASP, "CSV Injection".

    >>> armed("=1+2"), armed("wren"), armed("'=1+2")
    ("'=1+2", 'wren', "''=1+2")
    """
    return f"'{text}" if _runs(text) else text


def disarmed(text: str) -> str:
    """Take away the apostrophe that :func:`armed` has put before a name.

    >>> disarmed("'=1+2"), disarmed("'Ōʻō"), disarmed("=1+2")
    ('=1+2', "'Ōʻō", '=1+2')
    """
    return text[1:] if text.startswith("'") and _runs(text[1:]) else text


def _runs(text: str) -> bool:
    """Tell whether a spreadsheet may take a text for a formula, also one with apostrophes before it."""
    return unicodedata.normalize("NFKC", text.lstrip("'")).lstrip().startswith(FORMULA)
