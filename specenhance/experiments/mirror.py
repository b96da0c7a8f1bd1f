"""Runs copied to a URL and back, so that any machine can go on with a run that another machine has lost."""

from __future__ import annotations

import io
import logging
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

from fsspec.core import url_to_fs

from specenhance._files import atomic_path
from specenhance.experiments.measure import HEARD
from specenhance.training.checkpoints import LAST, PREVIOUS
from specenhance.training.folder import locked
from specenhance.training.store import HISTORY, RECIPE, RESULT

__all__ = ["absolute", "mirrored", "pull", "push"]

EVERY = 5.0  # seconds between two looks for changed files
CHUNK = 2**24  # bytes
OWNER = ".owner"

# A file comes after all files that it speaks of: the result after the model, the checkpoint after the best weights.
SPEAKS_OF_OTHERS = (f"checkpoints/{LAST}", RESULT, HEARD)

_log = logging.getLogger(__name__)


def absolute(url: str) -> str:
    """Write a URL so that it means the same place in every folder. A path without a protocol is one of this machine.

    Raises:
        ValueError: for a protocol that fsspec does not know.
        ImportError: if the package for the protocol is missing.

    >>> absolute("memory://runs/a"), absolute("/runs/a")
    ('memory:///runs/a', 'file:///runs/a')
    """
    fs, path = url_to_fs(url)
    return str(fs.unstrip_protocol(path))


def push(folder: Path, url: str) -> None:
    """Copy a run folder to a URL. Its run may go on meanwhile.

    Each file at the URL is whole at every moment. If this process is killed, the run at the URL can still go on, because a
    file is copied after the files that it speaks of. Locks, unfinished files and the previous checkpoint are left out.

    Args:
        folder: The run folder.
        url: A URL that fsspec takes, such as ``s3://bucket/run``.

    Raises:
        OSError: as the file system does.

    >>> with tempfile.TemporaryDirectory() as run:
    ...     _ = Path(run, "recipe.toml").write_text("seed = 1")
    ...     push(Path(run), "memory://example/run")
    ...     pull("memory://example/run", Path(run, "copy"))
    ...     Path(run, "copy", "recipe.toml").read_text()
    'seed = 1'
    """
    _Target(url).push(folder)


def pull(url: str, folder: Path) -> None:
    """Copy a run from a URL into a folder. Where the URL has no run, nothing happens.

    A run in the folder that is not as far is replaced. If this process is killed, the run in the folder can still go on.

    Args:
        url: The URL that :func:`push` has copied to.
        folder: The run folder.

    Raises:
        ValueError: if the run in the folder is further than the run at the URL, or if another process trains in the folder.
        OSError: as the file systems do.
    """
    fs, root = url_to_fs(url)
    names = _names_at(fs, root)
    if RECIPE not in names:
        return
    with locked(folder):
        here = _reached(_names_in(folder), lambda name: (folder / name).read_bytes())
        there = _reached(names, lambda name: fs.cat_file(f"{root}/{name}"))
        if here > there:
            raise ValueError(
                f"{folder}: its run is further than the one at {url}; remove one of the two, or choose another place"
            )
        for name in names:
            with (
                fs.open(f"{root}/{name}", "rb") as source,
                atomic_path(folder / name) as temporary,
                temporary.open("wb") as target,
            ):
                shutil.copyfileobj(source, target, CHUNK)


@contextmanager
def mirrored(url: str) -> Iterator[Path]:
    """Give a folder of this machine with the run at a URL, and copy its changes to the URL while the block runs.

    The last changes are copied when the block ends, also after an error. If this process is killed, the URL has the run as it
    was a few seconds before, and the folder stays behind in the machine's folder for temporary files.

    A machine that is only cut off can be taken for lost. Its run is then taken up by another machine, while it still writes.
    Therefore each block first writes its own mark to the URL. A block that finds another mark there copies nothing any more.

    Args:
        url: The URL of the run.

    Raises:
        RuntimeError: if another block has taken up the run meanwhile.
        OSError: as the file systems do. While the block runs, an error is only a warning, and the copy is tried again.
    """
    target = _Target(url)
    target.own()
    with tempfile.TemporaryDirectory(prefix="specenhance-") as temporary:
        folder = Path(temporary) / PurePosixPath(url).name
        pull(url, folder)
        done = threading.Event()
        watch = threading.Thread(target=_watch, args=(target, folder, done), daemon=True)
        watch.start()
        try:
            yield folder
        except BaseException:
            _end(watch, done)
            _try(target, folder)  # the error of the block is the one to tell
            raise
        _end(watch, done)
        target.push(folder)


def _watch(target: _Target, folder: Path, done: threading.Event) -> None:
    while not done.wait(EVERY):
        _try(target, folder)


def _end(watch: threading.Thread, done: threading.Event) -> None:
    done.set()
    watch.join()


def _try(target: _Target, folder: Path) -> None:
    try:
        target.push(folder)
    except Exception as error:  # each file system has its own
        _log.warning(f"{folder.name}: its copy to {target.url} failed ({error})")


class _Target:
    """A URL that a run is copied to, and what is there already."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._root = url_to_fs(url)
        self._mark = uuid.uuid4().hex
        self._owned = False
        self._copied: dict[str, tuple[int, ...]] = {}  # by name, the file that was copied last

    def own(self) -> None:
        """Write this object's mark to the URL, and remove the unfinished files of others."""
        self._put(OWNER, io.BytesIO(self._mark.encode()))
        self._owned = True
        for path in self._fs.find(self._root):
            if PurePosixPath(path).name.endswith(".tmp"):
                with suppress(FileNotFoundError):
                    self._fs.rm_file(path)

    def push(self, folder: Path) -> None:
        """Copy the files that have changed."""
        if self._owned and self._fs.cat_file(f"{self._root}/{OWNER}").decode() != self._mark:
            raise RuntimeError("another process has taken up this run")
        with ExitStack() as stack:
            files: dict[str, IO[bytes]] = {}
            # The run goes on while its files are copied. An open file keeps its content when another one takes its place.
            # A file is opened before those that it speaks of, so they are as new as it is, or newer.
            for name in reversed(_names_in(folder)):
                with suppress(FileNotFoundError):
                    files[name] = stack.enter_context((folder / name).open("rb"))
            for name, file in reversed(files.items()):
                about = os.fstat(file.fileno())
                sign = about.st_ino, about.st_size, about.st_mtime_ns
                if self._copied.get(name) != sign:
                    self._put(name, file)
                    self._copied[name] = sign

    def _put(self, name: str, source: IO[bytes]) -> None:
        path = PurePosixPath(self._root, name)
        temporary = path.with_name(f".{path.name}.{self._mark}.tmp")
        self._fs.makedirs(str(path.parent), exist_ok=True)
        with self._fs.open(str(temporary), "wb") as target:
            shutil.copyfileobj(source, target, CHUNK)
        self._fs.mv(str(temporary), str(path))


def _names_at(fs: Any, root: str) -> list[str]:
    fs.invalidate_cache()  # other machines write there
    names = [str(PurePosixPath(path).relative_to(root)) for path in fs.find(root)]
    if any(".." in PurePosixPath(name).parts for name in names):  # an object store takes any name
        raise ValueError(f"{root}: has files outside of its folder; they are not copied")
    return _in_order(names)


def _names_in(folder: Path) -> list[str]:
    return _in_order([path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()])


def _in_order(names: list[str]) -> list[str]:
    """Leave out what is not copied. The recipe comes first, because no run goes on without it."""
    kept = [name for name in names if not PurePosixPath(name).name.startswith(".") and not name.endswith(PREVIOUS)]
    return sorted(
        kept,
        key=lambda name: (
            name != RECIPE,
            SPEAKS_OF_OTHERS.index(name) if name in SPEAKS_OF_OTHERS else -1,
            name,
        ),
    )


def _reached(names: Collection[str], read: Callable[[str], bytes]) -> tuple[bool, bool, int]:
    """Say how far a run is: whether it is tested, whether it is trained, and its number of epochs."""
    return HEARD in names, RESULT in names, read(HISTORY).count(b"\n") if HISTORY in names else 0
