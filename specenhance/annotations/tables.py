"""Tables of annotations, by the name of a format: one file for all sounds, or a folder with one file for each sound."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal, get_args

from specenhance._choices import require
from specenhance._files import atomic_folder, atomic_path
from specenhance.annotations import audacity, csv_table, jsonl, parquet, raven
from specenhance.annotations.annotation import Annotation
from specenhance.audio.opening import SUFFIXES as SOUNDS

__all__ = [
    "FORMATS",
    "PER_SOUND",
    "Format",
    "format_of",
    "read_annotations",
    "sound_tables",
    "table",
    "write_annotations",
]

Format = Literal["csv", "jsonl", "parquet", "raven", "audacity"]
"""A format of annotations."""

FORMATS: tuple[Format, ...] = get_args(Format)
PER_SOUND: dict[Format, str] = {"raven": ".selections.txt", "audacity": ".txt"}
"""Formats of one file for each sound, and what follows the sound's name in the name of this file."""

SUFFIXES: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
ENDING = re.compile(r"(\.Table\.\d+)?\.selections\.txt$|\.txt$", re.IGNORECASE)  # Raven's own, or Audacity's

Write = Callable[[Annotation], None]


def format_of(path: str | os.PathLike[str], format: str | None = None) -> Format:
    """Give the format of a table that is to be written: the given one, or that of the file's name.

    Args:
        path: The file or folder.
        format: One of :data:`FORMATS`, or None.

    Raises:
        ValueError: for an unknown format, a name whose suffix says no format, and a suffix of another format.

    >>> format_of("birds.csv"), format_of("birds", "raven")
    ('csv', 'raven')
    """
    suffix = Path(path).suffix.lower()
    named = SUFFIXES.get(suffix)
    if format is None:
        if named is None:
            raise ValueError(
                f"{path}: expected a name that ends in {', '.join(SUFFIXES)}, or a folder and its format, "
                f"{' or '.join(PER_SOUND)}"
            )
        return named
    require("format", format, Format)
    found: Format = next(known for known in FORMATS if known == format)
    if named not in (None, found):
        raise ValueError(f"{path}: ends in {suffix}, but its format is to be {format}; choose another name or format")
    return found


def table(path: Path, format: Format, *, frequencies: bool = False) -> AbstractContextManager[Write]:
    """Give a function that writes an annotation to a new file of a format that holds all sounds in one file.

    Args:
        path: The file.
        format: ``"csv"``, ``"jsonl"`` or ``"parquet"``.
        frequencies: Whether the table has the columns ``low`` and ``high``.

    Raises:
        ImportError: for Parquet without pyarrow.
        ValueError: for another format.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with table(Path(folder, "a.jsonl"), "jsonl") as write:
    ...         write(Annotation("a.wav", 0, 1, "wren"))
    ...     len(list(read_annotations(f"{folder}/a.jsonl")))
    1
    """
    match format:
        case "csv":
            return csv_table.writing(path, frequencies=frequencies)
        case "jsonl":
            return jsonl.writing(path, frequencies=frequencies)
        case "parquet":
            return parquet.writing(path, frequencies=frequencies)
    raise ValueError(f"format {format!r}: is one file for each sound; write a folder")


@contextmanager
def sound_tables(
    folder: Path, sounds: Iterable[str], format: Format, *, top: float | None = None
) -> Iterator[Callable[[str, Iterable[Annotation]], None]]:
    """Give a function that writes the annotations of one sound to its own file in a folder.

    The files lie in the folder as the sounds lie below the folder that they share. A sound ``site/a.wav`` has the file
    ``site/a.selections.txt`` (Raven) or ``site/a.txt`` (Audacity), and ``site/a.wav.txt`` if there is also a ``site/a.flac``.

    Args:
        folder: The folder, which exists.
        sounds: The paths of all sounds.
        format: ``"raven"`` or ``"audacity"``.
        top: Frequency in Hz for Raven, see :func:`specenhance.annotations.raven.writing`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with sound_tables(Path(folder), ["in/a.wav", "in/b/c.wav"], "audacity") as write:
    ...         write("in/b/c.wav", [Annotation("in/b/c.wav", 0, 1, "wren")])
    ...     [path.name for path in Path(folder, "b").iterdir()]
    ['c.txt']
    """
    absolute = {sound: Path(os.path.abspath(sound)) for sound in sounds}
    try:
        shared = Path(os.path.commonpath({path.parent for path in absolute.values()})) if absolute else Path()
    except ValueError:  # on several drives of Windows
        shared = Path()
    places = {sound: path.relative_to(shared) if shared.parts else Path(path.name) for sound, path in absolute.items()}
    stems: dict[Path, int] = {}
    for place in places.values():
        stems[place.with_suffix("")] = stems.get(place.with_suffix(""), 0) + 1

    def write(sound: str, annotations: Iterable[Annotation]) -> None:
        place = places[sound]
        stem = place.with_suffix("") if stems[place.with_suffix("")] == 1 else place
        path = folder / stem.with_name(stem.name + PER_SOUND[format])
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = raven.writing(path, top=top) if format == "raven" else audacity.writing(path)
        with opened as one:
            for annotation in annotations:
                one(annotation)

    yield write


def write_annotations(
    path: str | os.PathLike[str],
    annotations: Iterable[Annotation],
    format: str | None = None,
    *,
    top: float | None = None,
) -> None:
    """Write a table of annotations, whole or not at all.

    Args:
        path: The file. For Raven and Audacity a new folder, which gets one file for each sound, see :func:`sound_tables`.
        annotations: The annotations. Those of one sound need not follow one another.
        format: One of :data:`FORMATS`. The default is that of the file's suffix.
        top: Frequency in Hz for Raven, see :func:`specenhance.annotations.raven.writing`.

    Raises:
        FileExistsError: for a folder that is there already.
        ValueError: as :func:`format_of`, and for a label or a file that the format cannot hold exactly.
        ImportError: for Parquet without pyarrow.
        OSError: if the table cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_annotations(f"{folder}/a.csv", [Annotation("a.wav", 0, 1, "wren", low=2000, high=5000)])
    ...     list(read_annotations(f"{folder}/a.csv"))
    [Annotation(file='a.wav', start=0.0, end=1.0, label='wren', probability=None, low=2000.0, high=5000.0)]
    """
    path, kind, kept = Path(path), format_of(path, format), list(annotations)
    if kind in PER_SOUND:
        if path.exists():
            raise FileExistsError(f"{path}: already there; remove it or choose another folder")
        by_sound: dict[str, list[Annotation]] = {}
        for one in kept:
            by_sound.setdefault(one.file, []).append(one)
        with atomic_folder(path) as folder, sound_tables(folder, by_sound, kind, top=top) as write_sound:
            for sound, its in by_sound.items():
                write_sound(sound, its)
        return
    frequencies = any(one.low is not None or one.high is not None for one in kept)
    with atomic_path(path) as temporary, table(temporary, kind, frequencies=frequencies) as write:
        for one in kept:
            write(one)


def read_annotations(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    sounds: str | os.PathLike[str] | None = None,
    label: str | None = None,
) -> Iterator[Annotation]:
    """Read a table of annotations, ours or another program's.

    Args:
        path: The file. For Raven and Audacity also a folder, whose ``.txt`` files are all read.
        format: One of :data:`FORMATS`. The default is that of the file's suffix; a ``.txt`` with the header of a selection
            table is Raven's, another one Audacity's.
        sounds: For Raven and Audacity: the sound file of one table, or the folder that the sounds lie in as the tables lie in
            ``path``. The default is the folder of the tables. A selection table that has the column "Begin Path" needs none.
        label: Name of the column with the labels, for Raven.

    Yields:
        The annotations, in the order of the table.

    Raises:
        FileNotFoundError: if there is no such table, or no sound for one of Audacity's.
        ValueError: for a table that cannot be read, or an annotation that makes no sense. The message has the line.
        ImportError: for Parquet without pyarrow.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "a.wav").touch()
    ...     _ = Path(folder, "a.txt").write_text("0.5\\t1.5\\twren\\n")
    ...     [one.label for one in read_annotations(f"{folder}/a.txt")]
    ['wren']
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such table of annotations; check the path")
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.name.lower().endswith(".txt"))
        if not files:
            raise FileNotFoundError(
                f"{path}: holds no .txt file; expected selection tables of Raven or labels of Audacity"
            )
        for file in files:
            place = Path(sounds) / file.relative_to(path).parent if sounds is not None else file.parent
            yield from _of_sound(file, format, place, label)
        return
    if format is None and path.suffix.lower() == ".txt":
        yield from _of_sound(path, None, Path(sounds) if sounds is not None else path.parent, label)
        return
    kind = format_of(path, format)
    if kind in PER_SOUND:
        yield from _of_sound(path, kind, Path(sounds) if sounds is not None else path.parent, label)
    else:
        yield from {"csv": csv_table, "jsonl": jsonl, "parquet": parquet}[kind].reading(path)


def _of_sound(path: Path, format: str | None, sounds: Path, label: str | None) -> Iterator[Annotation]:
    """Read a table of one sound, which is ``sounds`` or lies in this folder."""
    if format is None:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            format = "raven" if raven.MARK in file.readline() else "audacity"

    def named(begin_file: str) -> str:
        if begin_file and sounds.is_dir():
            return str(sounds / begin_file)
        return _sound(path, sounds)

    if format == "raven":
        yield from raven.reading(path, named, label)
    else:
        yield from audacity.reading(path, _sound(path, sounds))


def _sound(path: Path, sounds: Path) -> str:
    """Find the sound of a table by its name: ``a.wav`` for ``a.txt`` and for ``a.wav.txt``."""
    if not sounds.is_dir():
        return str(sounds)
    stem = ENDING.sub("", path.name)
    if Path(stem).suffix.lower() in SOUNDS and (sounds / stem).is_file():
        return str(sounds / stem)
    found = [file for file in sorted(sounds.iterdir()) if file.stem == stem and file.suffix.lower() in SOUNDS]
    if len(found) != 1:
        what = "no sound file" if not found else f"{len(found)} sound files"
        raise FileNotFoundError(f"{path}: {what} of the name {stem} in {sounds}; say which sound it is of, sounds=FILE")
    return str(found[0])
