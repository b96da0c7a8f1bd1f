"""What a data set's folder holds: its subfolders, its audio files, the rows of its tables. Checked before any sound is read."""

from __future__ import annotations

import csv
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

from specenhance._choices import Split
from specenhance.audio import SUFFIXES

__all__ = [
    "SPLITS",
    "audio_names",
    "check_split",
    "others",
    "plain_path",
    "read_list",
    "read_table",
    "require_files",
    "require_folder",
    "split_named",
    "subfolders",
]

SPLITS: tuple[Split, ...] = get_args(Split)
"""The names of the parts that a data set is used in."""

ALSO_CALLED = {
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "testing": "test",
}


def check_split(split: str) -> None:
    """Refuse a split that is none of :data:`SPLITS` with a ValueError."""
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: expected one of {', '.join(SPLITS)}")


def split_named(name: str) -> str | None:
    """Give the split that a folder or a cell names, by one of :data:`SPLITS` or what else they are called; else None."""
    name = name.lower()
    return name if name in SPLITS else ALSO_CALLED.get(name)


def require_folder(path: Path, holds: str) -> Path:
    """Give ``path`` back if it is a folder, else raise FileNotFoundError; ``holds`` says what it should hold."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder; root is expected to hold {holds}")
    return path


def subfolders(folder: Path) -> list[str]:
    """List the names of a folder's subfolders, sorted, without hidden ones."""
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def audio_names(folder: Path) -> list[str]:
    """List the names of the audio files right in a folder, sorted, without hidden ones.

    Raises:
        ValueError: if there is none, or if two differ in their suffix alone, which would be one sound counted twice.
    """
    names = sorted(path.name for path in folder.iterdir() if _is_sound(path))
    if not names:
        raise ValueError(
            f"{folder}: holds no audio file ({', '.join(sorted(SUFFIXES))}), but stands where a class is expected; "
            "fill it or remove it"
        )
    seen: dict[str, str] = {}
    for name in names:
        twin = seen.setdefault(Path(name).stem, name)
        if twin != name:
            raise ValueError(f"{folder}: {twin} and {name} look like one sound in two formats; remove or rename one")
    return names


def others(folder: Path, taken: Iterable[str]) -> list[str]:
    """List what lies right in a folder and is not taken, sorted, without hidden files and folders.

    Args:
        folder: the folder.
        taken: the names of what is taken.
    """
    taken = set(taken)
    return sorted(
        f"{entry.name}/" if entry.is_dir() else entry.name
        for entry in folder.iterdir()
        if entry.name not in taken and not entry.name.startswith(".")
    )


def _is_sound(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()


def require_files(paths: Iterable[Path], named_in: Path) -> None:
    """Check that all files are there, by one listing of each folder that they lie in.

    Raises:
        FileNotFoundError: if some are not, with the first few of them and ``named_in``, the file that names them.
    """
    by_folder: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        by_folder[path.parent].append(path)
    missing: list[Path] = []
    for folder, files in by_folder.items():
        there = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        missing += [path for path in files if path.name not in there]
    if missing:
        first = ", ".join(map(str, missing[:3])) + (", ..." if len(missing) > 3 else "")
        raise FileNotFoundError(
            f"{named_in} names {len(missing)} files that are not there: {first}; unpack the data set again, or correct the file"
        )


def read_table(path: Path, columns: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Read a CSV with a header line, in UTF-8; white space around names and cells is no part of them.

    Args:
        path: the file.
        columns: those that it must have; it may have others.

    Yields:
        For each row ``"path, line 7"``, for messages, and its cells by column, stripped of white space.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a missing column, an empty cell in one of ``columns``, or what is no CSV in UTF-8.
    """
    columns = list(columns)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such table; expected a CSV with the columns {', '.join(columns)}")
    with path.open(encoding="utf-8-sig", newline="") as file:  # -sig: spreadsheets put a byte-order mark first
        reader = csv.DictReader(file, restval="", skipinitialspace=True)  # else a quote behind a space is no quote
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


def read_list(path: Path) -> set[str]:
    """Read a list of files, one a line, in UTF-8; ``./a`` and ``a``, and on any system ``b\\a`` and ``b/a``, are the same.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for what is no text in UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such list; unpack the data set again (version 2 has it)")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no text in UTF-8 ({error}); save it as UTF-8") from error
    return {plain_path(line.strip()) for line in lines if line.strip()}


def plain_path(text: str) -> str:
    """Bring a path that a table or a list names to one form, with ``/`` on every system and without ``./``."""
    return posixpath.normpath(text.replace("\\", "/"))
