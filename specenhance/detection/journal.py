"""What of a long piece of work is done already: a file beside the result, so that a killed command goes on where it was."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from specenhance._names import shown

try:
    import fcntl
except ImportError:  # on Windows, where the second of two commands is not noticed
    fcntl = None  # type: ignore[assignment]

__all__ = ["Journal", "journal_path"]

SYNC = 1.0  # seconds of work that a power cut may cost


def journal_path(out: str | os.PathLike[str]) -> Path:
    """Give the journal of a result.

    >>> journal_path("out/birds.csv").name
    'birds.csv.journal'
    """
    return Path(out).with_name(Path(out).name + ".journal")


class Journal:
    """Finished parts of a piece of work, each under a key. Parts that were written before are found again.

    The file has JSON lines: the settings first, then a line for each part. A line that a kill has cut off is removed. Only the
    places of the parts are kept in memory.

    Args:
        path: The file. It is made if it is not there.
        settings: What the parts depend on, as JSON has it.

    Raises:
        ValueError: for a journal of other settings, and a file that is no journal.
        BlockingIOError: if another process is at this work.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for _ in range(2):
    ...         with Journal(Path(folder, "a.csv.journal"), {"threshold": 0.5}) as journal:
    ...             print("a.wav" in journal)
    ...             journal.add("a.wav", [1, 2])
    ...             print(journal.get("a.wav"))
    False
    [1, 2]
    True
    [1, 2]
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._places: dict[str, int] = {}
        self._file = path.open("a+b")
        try:
            if fcntl is not None:
                try:
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise BlockingIOError(
                        error.errno, f"{path}: another command is writing to it; wait for it, or choose another --out"
                    ) from None
            self._synced = time.monotonic()
            self._read(json.loads(json.dumps(settings)))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str) -> Any:
        """Give a finished part."""
        self._file.seek(self._places[key])
        return json.loads(self._file.readline())["part"]

    def add(self, key: str, part: Any) -> None:
        """Write a finished part down."""
        if key in self._places:
            return
        self._places[key] = self._write({"key": key, "part": part})

    def remove(self) -> None:
        """Remove the file: the whole work is done."""
        self.path.unlink(missing_ok=True)
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> int:
        place = self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()  # from here on a kill costs nothing, only a power cut
        if time.monotonic() - self._synced > SYNC:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()
        return place

    def _read(self, settings: dict[str, Any]) -> None:
        self._file.seek(0)
        first = self._file.readline()
        if not first.endswith(b"\n") and b"{".startswith(first[:1]):  # new, or killed in its first line
            self._file.truncate(0)
            self._write({"settings": settings})
            return
        found = _object(first).get("settings")
        if not isinstance(found, dict):
            raise ValueError(f"{self.path}: is no journal of specenhance; move it away, or choose another --out")
        differ = [name for name in settings.keys() | found.keys() if settings.get(name) != found.get(name)]
        if differ:
            were = "; ".join(
                f"{name} was {_text(found.get(name))}, is {_text(settings.get(name))}" for name in sorted(differ)
            )
            raise ValueError(
                f"{self.path}: a command with other settings has begun this output ({were}); give that command again to finish "
                "it, remove the journal to begin anew, or choose another --out"
            )
        end = len(first)
        for line in iter(self._file.readline, b""):
            key = _object(line).get("key") if line.endswith(b"\n") else None
            if not isinstance(key, str):  # cut off by a kill or a power cut
                break
            self._places[key] = end
            end += len(line)
        self._file.truncate(end)


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str:
    text = shown(json.dumps(value))
    return text if len(text) <= 40 else text[:37] + "..."
