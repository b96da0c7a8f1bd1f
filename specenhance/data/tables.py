"""Tables (CSV) and lists of files, as data sets publish them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from specenhance.data.layout import plain_path

__all__ = ["read_list", "read_rows", "read_table"]


def read_table(path: Path, columns: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Read a CSV in UTF-8 with a header line. White space around names and cells is removed.

    Args:
        path: The file.
        columns: Names of the columns that the table must have. It may have others.

    Yields:
        The place of each row for messages, such as ``"labels.csv, line 7"``, and the row's cells by column.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a missing column, an empty cell in one of ``columns``, too many cells in a row, or a file that is no
            CSV in UTF-8.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder, "labels.csv")
    ...     _ = table.write_text("path, label\\na.wav, dog\\n")
    ...     list(read_table(table, ["path", "label"]))
    [('...labels.csv, line 2', {'path': 'a.wav', 'label': 'dog'})]
    """
    columns = list(columns)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such table; expected a CSV with the columns {', '.join(columns)}")
    with path.open(encoding="utf-8-sig", newline="") as file:  # -sig: spreadsheets write a byte-order mark first
        reader = csv.DictReader(file, restval="", skipinitialspace=True)  # otherwise a quote after a space is no quote
        try:
            if reader.fieldnames is not None:
                reader.fieldnames = [name.strip() for name in reader.fieldnames]
            missing = [column for column in columns if column not in (reader.fieldnames or [])]
            if missing:
                raise ValueError(
                    f"{path}: no column {', '.join(missing)}; expected the first line to name {', '.join(columns)}, "
                    f"separated by commas; it names {', '.join(reader.fieldnames or ['nothing'])}"
                )
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row:
                    raise ValueError(
                        f"{where}: more cells than the first line has names; quote a cell that holds a comma"
                    )
                cells = {name: cell.strip() for name, cell in row.items()}
                empty = [column for column in columns if not cells[column]]
                if empty:
                    raise ValueError(f"{where}: no {', '.join(empty)}; fill the cell or remove the row")
                yield where, cells
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: no CSV in UTF-8 ({error}); save it as one") from error


def read_rows(path: Path, cells: int) -> Iterator[tuple[str, list[str]]]:
    """Read a CSV in UTF-8 without a header line. Empty lines and lines that start with ``#`` are passed over.

    Args:
        path: The file.
        cells: Number of cells of each row.

    Yields:
        The place of each row for messages, and the row's cells without white space around them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for another number of cells, an empty cell, or a file that is no CSV in UTF-8.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder, "segments.csv")
    ...     _ = table.write_text('# YTID, positive_labels\\nabc, "/m/1,/m/2"\\n')
    ...     list(read_rows(table, 2))
    [('...segments.csv, line 2', ['abc', '/m/1,/m/2'])]
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such table; unpack the data set again")
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, skipinitialspace=True)
        try:
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if not row or row[0].startswith("#"):
                    continue
                row = [cell.strip() for cell in row]
                if len(row) != cells or not all(row):
                    raise ValueError(f"{where}: {len([cell for cell in row if cell])} cells, expected {cells}")
                yield where, row
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: no CSV in UTF-8 ({error}); save it as one") from error


def read_list(path: Path) -> set[str]:
    """Read a list of files in UTF-8, one file per line. Each path is brought to the form of :func:`plain_path`.

    Raises:
        FileNotFoundError: if there is no such list.
        ValueError: for a file that is no text in UTF-8.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "testing_list.txt")
    ...     _ = path.write_text("./yes/a.wav\\nno/b.wav\\n")
    ...     sorted(read_list(path))
    ['no/b.wav', 'yes/a.wav']
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such list; unpack the data set again (version 2 has it)")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no text in UTF-8 ({error}); save it as UTF-8") from error
    return {plain_path(line.strip()) for line in lines if line.strip()}
