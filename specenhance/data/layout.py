"""The files of a data set: its folders and sound files. They are checked before a sound is read."""

from __future__ import annotations

import os
import posixpath
from collections import defaultdict
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import get_args

from specenhance._choices import Split
from specenhance.audio import SUFFIXES

__all__ = [
    "HELD_OUT",
    "SPLITS",
    "audio_files",
    "audio_names",
    "check_split",
    "hash_place",
    "hashed_split",
    "others",
    "plain_path",
    "require_files",
    "require_folder",
    "split_named",
    "subfolders",
]

HELD_OUT = 0.15
"""Fraction in each of validation and test, where nothing else gives the splits."""

SPLITS: tuple[Split, ...] = get_args(Split)
"""Names of the splits of a data set."""

ALSO_CALLED = {
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "testing": "test",
}


def check_split(split: str) -> None:
    """Check that a name is one of :data:`SPLITS`.

    Raises:
        ValueError: for any other name.

    >>> check_split("eval")
    Traceback (most recent call last):
    ValueError: split='eval': expected one of train, validation, test
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: expected one of {', '.join(SPLITS)}")


def split_named(name: str) -> str | None:
    """Give the split that a folder or a table's cell names. Give None if it names no split.

    >>> split_named("Val"), split_named("dog")
    ('validation', None)
    """
    name = name.lower()
    return name if name in SPLITS else ALSO_CALLED.get(name)


def require_folder(path: Path, holds: str) -> Path:
    """Return ``path`` if it is a folder.

    Args:
        path: The folder.
        holds: What the folder should hold, for the message.

    Raises:
        FileNotFoundError: if it is no folder.

    >>> require_folder(Path("none"), "the recordings")
    Traceback (most recent call last):
    FileNotFoundError: none: no such folder; root is expected to hold the recordings
    """
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder; root is expected to hold {holds}")
    return path


def subfolders(folder: Path) -> list[str]:
    """List the names of a folder's subfolders, sorted. Hidden ones are left out.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("dog", "cat", ".git"):
    ...         Path(folder, name).mkdir()
    ...     subfolders(Path(folder))
    ['cat', 'dog']
    """
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def audio_names(folder: Path) -> list[str]:
    """List the names of the sound files in a folder, sorted. Hidden files and subfolders are left out.

    Raises:
        ValueError: if there is no sound file, or if two differ only in their suffix: this is probably one sound, which would
            count twice.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.wav", "a.flac", "notes.txt"):
    ...         Path(folder, name).touch()
    ...     audio_names(Path(folder))
    ['a.flac', 'b.wav']
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


def audio_files(folder: Path) -> list[Path]:
    """List the sound files in a folder and in all folders below it, sorted. Hidden ones are left out.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "part00").mkdir()
    ...     Path(folder, "part00", "a.flac").touch()
    ...     [path.name for path in audio_files(Path(folder))]
    ['a.flac']
    """
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [path for name in names if _is_sound(path := Path(place, name))]
    return sorted(found)


def others(folder: Path, taken: Iterable[str]) -> list[str]:
    """List the files and folders in a folder that are not used, sorted. Hidden ones are left out.

    Args:
        folder: The folder.
        taken: Names of the files and folders that are used.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a.wav", "notes.txt"):
    ...         Path(folder, name).touch()
    ...     others(Path(folder), ["a.wav"])
    ['notes.txt']
    """
    taken = set(taken)
    return sorted(
        f"{entry.name}/" if entry.is_dir() else entry.name
        for entry in folder.iterdir()
        if entry.name not in taken and not entry.name.startswith(".")
    )


def _is_sound(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()


def hash_place(text: str) -> float:
    """Give a number in [0, 1) that depends only on a text, such as a path: it assigns a clip to a split that it stays in.

    >>> round(hash_place("cat/a.wav"), 6) == round(hash_place("cat/a.wav"), 6) != hash_place("cat/b.wav")
    True
    """
    return int.from_bytes(sha256(text.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64


def hashed_split(path: str) -> Split:
    """Choose the split of a clip or a recording by a hash of its path: about 15% test and 15% validate.

    >>> {hashed_split(f"{i}.wav") for i in range(50)} == set(SPLITS)
    True
    """
    place = hash_place(path)
    return "test" if place < HELD_OUT else "validation" if place < 2 * HELD_OUT else "train"


def require_files(paths: Iterable[Path], named_in: Path) -> None:
    """Check that all files are there. Each folder is listed only once, so this is fast.

    Args:
        paths: The files.
        named_in: The table or list that names the files, for the message.

    Raises:
        FileNotFoundError: if files are missing. The message has the first three.

    >>> require_files([Path("audio", "a.wav")], named_in=Path("labels.csv"))
    Traceback (most recent call last):
    FileNotFoundError: labels.csv names 1 files that are not there: ...a.wav; unpack the data set again, or correct the file
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


def plain_path(text: str) -> str:
    """Bring a path of a table or list to one form: with ``/`` on every system, and without ``./``.

    >>> plain_path("./sounds\\\\a.wav")
    'sounds/a.wav'
    """
    return posixpath.normpath(text.replace("\\", "/"))
