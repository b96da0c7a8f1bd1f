"""The sound files that a command was given: files, folders and patterns."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from glob import glob, has_magic
from pathlib import Path

from specenhance.audio.opening import SUFFIXES

__all__ = ["find_sounds"]


def find_sounds(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """List sound files.

    Args:
        paths: Files, which are taken whatever they are called; folders, in which all files with a suffix of
            :data:`specenhance.audio.SUFFIXES` are taken, also in their subfolders; patterns such as ``"site*/**/*.wav"``, of
            which only sounds and folders are taken. Hidden files and folders are left out, unless they are named.

    Returns:
        The paths in the order given. Those of a pattern are sorted, those of a folder too, its subfolders last. A file that is
        named twice comes once.

    Raises:
        FileNotFoundError: for a path that does not exist, and for a folder or pattern without a sound.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.wav", "a.flac", "notes.txt", ".c.wav"):
    ...         Path(folder, name).touch()
    ...     [os.path.basename(path) for path in find_sounds([folder, f"{folder}/*.wav"])]
    ['a.flac', 'b.wav']
    """
    found: dict[str, str] = {}
    for given in paths:
        path = os.fspath(given)
        if os.path.isfile(path):
            these = [path]
        elif os.path.isdir(path):
            these = list(_within(path))
            if not these:
                raise FileNotFoundError(f"{path}: the folder holds no sound file ({', '.join(sorted(SUFFIXES))})")
        elif has_magic(path):
            these = []
            for match in sorted(glob(path, recursive=True)):
                if os.path.isdir(match):
                    these += [] if "**" in path else _within(match)
                elif _is_sound(match):
                    these.append(match)
            if not these:
                raise FileNotFoundError(f"{path}: no sound file has a name like this; check the pattern")
        else:
            raise FileNotFoundError(f"{path}: no such audio file, and no such folder; check the path")
        for sound in these:
            found.setdefault(os.path.abspath(sound), sound)
    return list(found.values())


def _within(folder: str) -> Iterator[str]:
    """Give the sounds in a folder and its subfolders, sorted by their paths."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(root, name) for name in sorted(names) if _is_sound(name))


def _is_sound(path: str) -> bool:
    name = os.path.basename(path)
    return Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
