"""Writing files whole: a reader meets the old content or the new, never half of one, even after a power cut."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "atomic_folder",
    "atomic_path",
    "check_output",
    "is_url",
    "placed",
    "remove_leftovers",
    "resolved_place",
    "whole_place",
    "write_bytes",
    "write_text",
]

LEFTOVER = re.compile(r"\..*\.(\d+)\.(tmp|old)(\.[^.]*)?")  # the names of _temporary


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; it takes ``path``'s place when the block ends well, else it is removed.

    The parent folder is made. The temporary name keeps the suffix, by which some writers choose a format. The content is on
    the disk before it takes its place, and its place is on the disk when the block has ended.

    Raises:
        OSError: as the system does, for a full disk and the like; it names ``path``.
    """
    path = Path(path)
    temporary = _temporary(path, "tmp")
    with _named(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.touch()  # some writers make files that only their owner may read
            mode = temporary.stat().st_mode
            temporary.unlink()
            yield temporary
            temporary.chmod(mode)
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


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
        _temporary(path, "tmp").touch()
        _temporary(path, "tmp").unlink()
    except OSError as error:
        raise OSError(f"{path}: no file can be made there ({error.strerror}); choose another {option}") from error


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, keep: bool = False) -> Iterator[Path]:
    """Give a new folder beside ``path`` to fill; it takes ``path``'s place when the block ends well, else it is removed.

    A kill at the wrong moment can leave no folder at ``path``, but never half of one.

    Args:
        path: the folder's place.
        keep: whether a folder that is already there stays, and the new one is removed.

    Raises:
        OSError: as :func:`atomic_path`.
    """
    path = Path(path)
    temporary, old = _temporary(path, "tmp"), _temporary(path, "old")
    with _named(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.mkdir()
            yield temporary
            for folder, _, names in os.walk(temporary):
                for name in names:
                    _sync(Path(folder, name))
                _sync(Path(folder))
            if path.exists() and not keep:
                os.replace(path, old)
            try:
                os.replace(temporary, path)
            except OSError:
                if not (keep and path.is_dir()):
                    raise
            _sync(path.parent)
        finally:
            for leftover in (temporary, old):
                shutil.rmtree(leftover, ignore_errors=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all; raises as :func:`atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all; raises as :func:`atomic_path`."""
    write_bytes(path, text.encode("utf-8"))


def remove_leftovers(folder: str | os.PathLike[str], of: str = "") -> None:
    """Remove what processes that were killed while they wrote have left in a folder; what a living one writes stays.

    Args:
        folder: the folder.
        of: the name without its suffix of the only file whose leftovers are removed. The default is any file's.
    """
    for entry in Path(folder).iterdir():
        if of and not entry.name.startswith(f".{of}."):
            continue
        found = LEFTOVER.fullmatch(entry.name)
        if found is None or _is_alive(int(found[1])):
            continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _temporary(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}.{kind}{path.suffix}")


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # no harmless way to ask
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return process != os.getpid()


def _sync(path: Path) -> None:
    """Bring a file, or a folder's list of names, to the disk."""
    folder = path.is_dir()
    if folder and os.name == "nt":  # Windows has no such call for folders
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not folder:  # some network file systems refuse it for folders
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _named(path: Path, temporary: Path) -> Iterator[None]:
    """Name the file in an error that the system raises without a name (a full disk), or with one of ours."""
    try:
        yield
    except OSError as error:
        if error.errno is None or (error.filename is not None and not Path(error.filename).is_relative_to(temporary)):
            raise
        raise OSError(error.errno, f"cannot be written ({error.strerror})", str(path)) from error


def is_url(place: str | os.PathLike[str]) -> bool:
    """Tell a URL from a path.

    >>> is_url("https://example.org/shards"), is_url("/data/shards")
    (True, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", os.fspath(place)) is not None


def whole_place(place: str | os.PathLike[str], folder: str | os.PathLike[str] = ".") -> str:
    """Make a path absolute, relative to a folder. A URL stays as it is.

    >>> whole_place("https://example.org/shards"), whole_place("shards", "/data")
    ('https://example.org/shards', '/data/shards')
    """
    return os.fspath(place) if is_url(place) else os.path.abspath(os.path.join(folder, place))


def resolved_place(place: str | os.PathLike[str]) -> str:
    """Make a path absolute and free of links, as of the current folder. A URL stays as it is.

    >>> resolved_place("https://example.org/shards")
    'https://example.org/shards'
    """
    return os.fspath(place) if is_url(place) else str(Path(place).resolve())


def placed(name: str, folder: str | os.PathLike[str]) -> str:
    """Make whole the path in a name: ``PATH``, or ``PREFIX:PATH`` such as ``local-dir:PATH``.

    A name in which there is no path of something that exists stays as it is.

    Args:
        name: The name.
        folder: What a relative path is relative to.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "values.npz").touch()
    ...     found = [placed("embedding:values.npz", folder), placed("timm:resnet18", folder)]
    >>> found[0].endswith("/values.npz"), found[1]
    (True, 'timm:resnet18')
    """
    prefix, colon, rest = name.rpartition(":")
    path = os.path.join(os.path.abspath(folder), rest)
    return f"{prefix}{colon}{os.path.normpath(path)}" if rest and os.path.exists(path) else name
