"""The run folder: its lock, what must not be in it at the start, and the result that marks it finished."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from specenhance._files import remove_leftovers
from specenhance.training.manifest import MANIFEST
from specenhance.training.recipe import Recipe
from specenhance.training.store import RECIPE, RESULT

__all__ = ["SKIPPED", "abandon", "finished", "locked", "require_empty"]

LOCK = ".lock"
SKIPPED = "skipped.txt"


@contextmanager
def locked(out: Path, seconds: float = 0) -> Iterator[None]:
    """Lock a run folder for this process. Remove the unfinished files of a process that was killed.

    The system frees the lock when its process ends, also when that is killed.

    Args:
        out: the run folder.
        seconds: how long to wait for another process that has the lock.

    Raises:
        ValueError: if another process still has the lock.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=seconds)
    except filelock.Timeout:
        raise ValueError(f"{out}: another process is training in it; wait for it, or choose another --out") from None
    try:
        for folder in (out, out / "checkpoints"):
            if folder.is_dir():
                remove_leftovers(folder)
        yield
    finally:
        with suppress(OSError):  # Windows cannot remove an open file
            (out / LOCK).unlink(missing_ok=True)  # before the release, so that a waiting process makes a new one
        lock.release()


def require_empty(out: Path) -> None:
    """Refuse a folder that holds anything but its lock with a FileExistsError."""
    there = [entry.name for entry in out.iterdir() if entry.name != LOCK]
    if not there:
        return
    cure = f"continue it with --resume {out}, or " if (out / RECIPE).is_file() else ""
    raise FileExistsError(f"{out}: already there, with {', '.join(sorted(there)[:3])}; {cure}choose another --out")


def abandon(out: Path) -> None:
    """Remove the files and the folder of a run that cannot start."""
    for name in (RECIPE, MANIFEST, SKIPPED, LOCK):
        (out / name).unlink(missing_ok=True)
    with suppress(OSError):  # it is not empty, or this process may not remove it
        out.rmdir()


def finished(out: Path, recipe: Recipe) -> dict[str, Any] | None:
    """Return the result of a run that is finished. A run that was extended since is not."""
    if not (out / RESULT).is_file():
        return None
    result: dict[str, Any] = json.loads((out / RESULT).read_text(encoding="utf-8"))
    return result if result["recipe"]["epochs"] == recipe.epochs else None
