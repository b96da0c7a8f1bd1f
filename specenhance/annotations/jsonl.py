"""Annotations as JSON lines: one object for each annotation. Any label and any file name comes back exactly."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from specenhance.annotations.annotation import Annotation, columns_of, from_cells

__all__ = ["reading", "writing"]


@contextmanager
def writing(path: Path, *, frequencies: bool = False) -> Iterator[Callable[[Annotation], None]]:
    """Give a function that writes an annotation to a new file. All characters are ASCII; others are escaped as JSON does.

    Args:
        path: The file.
        frequencies: Whether each line has ``low`` and ``high``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with writing(Path(folder, "a.jsonl")) as write:
    ...         write(Annotation("a.wav", 0, 1.5, "two\\nlines", 0.25))
    ...     print(Path(folder, "a.jsonl").read_text())
    ...     next(reading(Path(folder, "a.jsonl"))).label
    {"file": "a.wav", "start": 0, "end": 1.5, "label": "two\\nlines", "probability": 0.25}
    <BLANKLINE>
    'two\\nlines'
    """
    names = Annotation._fields if frequencies else Annotation._fields[:5]
    with path.open("w", encoding="ascii", newline="") as file:

        def write(one: Annotation) -> None:
            file.write(json.dumps(dict(zip(names, one, strict=False))) + "\n")

        yield write


def reading(path: Path) -> Iterator[Annotation]:
    """Read JSON lines. Keys may have the names of :data:`COLUMNS`; others are left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a line that is no JSON object, a missing key, or an annotation that makes no sense.
    """
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}, line {number}"
            if not line.strip():
                continue
            try:
                found = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where}: no JSON ({error}); expected one object a line") from error
            if not isinstance(found, dict):
                raise ValueError(f"{where}: expected a JSON object with file, start, end and label")
            columns = columns_of(found, where)
            yield from_cells({name: found[column] for name, column in columns.items()}, where)
