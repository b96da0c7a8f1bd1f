"""Writing files whole: a reader meets the old content or the new, never half of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_folder", "atomic_path", "check_output", "write_text"]


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; it takes ``path``'s place when the block ends well, else it is removed.

    The parent folder is made. The temporary name keeps the suffix, by which some writers choose a format.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")


def check_output(path: str | os.PathLike[str], option: str = "--out") -> None:
    """Refuse a place where no file can be written, before the work and not after it.

    A command makes the folders that it is asked to fill, but not those around one file: a mistyped path is told.

    Args:
        path: the file.
        option: what chose it, for the message.

    Raises:
        FileNotFoundError: for a folder that is not there.
        OSError: for a folder in the file's place, or one that nothing can be written to.
    """
    path = Path(path)
    if not path.parent.exists():
        raise FileNotFoundError(
            f"{path}: there is no folder {path.parent}; make it (mkdir -p {path.parent}) or choose another {option}"
        )
    if os.path.isdir(path):  # Path.is_dir raises for a name that is too long
        raise IsADirectoryError(f"{path}: is a folder; {option} expects a file's name, such as {path / 'NAME'}")
    try:
        _beside(path).touch()
        _beside(path).unlink()
    except OSError as error:
        raise OSError(f"{path}: no file can be made there ({error.strerror}); choose another {option}") from error


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a new folder beside ``path`` to fill; it takes ``path``'s place when the block ends well, else it is removed.

    A kill at the wrong moment can leave no folder at ``path``, but never half of one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}{end}") for end in ("", ".old"))
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
