"""Annotations as Parquet, for pandas, Polars, DuckDB, R and the like. Labels and file names are kept exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from specenhance._missing import missing
from specenhance._names import shown
from specenhance.annotations.annotation import Annotation, columns_of, from_cells

__all__ = ["pyarrow", "reading", "writing"]

ROWS = 16384  # in a row group


def pyarrow() -> Any:
    """Import pyarrow with its Parquet.

    Raises:
        ImportError: if it is missing; the message says how to get it.

    >>> pyarrow().__name__
    'pyarrow'
    """
    try:
        import_module("pyarrow.parquet")
        return import_module("pyarrow")
    except ImportError as error:
        raise missing(error, "tables in Parquet need pyarrow", "pyarrow") from error


@contextmanager
def writing(path: Path, *, frequencies: bool = False) -> Iterator[Callable[[Annotation], None]]:
    """Give a function that writes an annotation to a new file, in constant memory.

    Args:
        path: The file.
        frequencies: Whether the table has the columns ``low`` and ``high``.

    Raises:
        ImportError: if pyarrow is missing.
        ValueError: when an annotation is written whose file or label is no valid Unicode.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with writing(Path(folder, "a.parquet")) as write:
    ...         write(Annotation("a.wav", 0, 1.5, "wren", 0.25))
    ...     list(reading(Path(folder, "a.parquet")))
    [Annotation(file='a.wav', start=0.0, end=1.5, label='wren', probability=0.25, low=None, high=None)]
    """
    arrow = pyarrow()
    texts = {"file", "label"}
    names = Annotation._fields if frequencies else Annotation._fields[:5]
    schema = arrow.schema([(name, arrow.string() if name in texts else arrow.float64()) for name in names])
    kept: list[Annotation] = []
    with arrow.parquet.ParquetWriter(path, schema) as writer:

        def flush() -> None:
            columns = [
                [value if name in texts or value is None else float(value) for value in column]
                for name, column in zip(names, zip(*kept, strict=True), strict=False)
            ]
            writer.write_table(arrow.table(columns, schema=schema))
            kept.clear()

        def write(one: Annotation) -> None:
            for text in (one.file, one.label):
                try:
                    text.encode("utf-8")
                except UnicodeEncodeError:
                    raise ValueError(
                        f"'{shown(text)}': is no valid Unicode, which Parquet cannot keep; rename it, or write .jsonl"
                    ) from None
            kept.append(one)
            if len(kept) == ROWS:
                flush()

        yield write
        if kept:
            flush()


def reading(path: Path) -> Iterator[Annotation]:
    """Read a Parquet file. Columns may have the names of :data:`COLUMNS`; others are left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if pyarrow is missing.
        ValueError: for a file that is no Parquet, a missing column, or a row that makes no sense.
    """
    arrow = pyarrow()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such table")
    try:
        file = arrow.parquet.ParquetFile(path)
    except arrow.ArrowInvalid as error:
        raise ValueError(f"{path}: no Parquet file ({error}); write it again") from error
    with file:
        columns = columns_of(file.schema_arrow.names, path)
        row = 0
        for batch in file.iter_batches(ROWS, columns=list(columns.values())):
            for found in batch.to_pylist():
                row += 1
                yield from_cells({name: found[column] for name, column in columns.items()}, f"{path}, row {row}")
