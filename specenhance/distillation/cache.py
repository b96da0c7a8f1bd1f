"""A teacher whose logits are computed once per sample, and stored in a file."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from specenhance.distillation.fingerprint import Facts, facts
from specenhance.distillation.teachers import FrozenTeacher

__all__ = ["CachedTeacher"]

MARKS = 16  # numbers that identify an input, see _marks
TOLERANCE = 5e-3  # relative to the input's size: far above rounding, far below any augmentation that matters
VERSION = 2  # the version of the file's tables


class CachedTeacher(FrozenTeacher):
    """A :class:`FrozenTeacher` that computes the logits of each sample once, and then reads them from a file.

    A key, such as a path, identifies a sample. A cache is right only if a sample's input is the same each time. So the file
    holds a few random projections of the input beside the logits. A sample whose input has changed is refused: augmented input,
    other features, or two samples under one key.

    The file is valid for one teacher only. The teacher is compared by its weights and buffers, the settings of its modules, its
    ``transform``, its types, and the code of classes that are not a library's (:mod:`specenhance.distillation.fingerprint`). An
    attribute that the teacher changes in its forward pass, such as a counter, is no setting. Autocast does not affect a cached
    teacher.

    The file is an SQLite database. It stays whole if the process is killed, and several processes may share it.

    Args:
        teacher: The teacher, as for :class:`FrozenTeacher`.
        path: The file. It is made if it does not exist.
        transform, dtype, device: As for :class:`FrozenTeacher`. If dtype is None, the teacher keeps its own type.
        identity: A name for the parts that cannot be distinguished from others of their kind, such as a function. Give another
            name if their results change. All other parts are still compared.

    Raises:
        ValueError: for a file of another kind, a file with another teacher's logits, and a teacher or a transform that needs an
            ``identity``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     teacher = CachedTeacher(nn.Linear(4, 3), f"{folder}/logits.sqlite")
    ...     first = teacher(torch.ones(2, 4), keys=["a.wav", "b.wav"])
    ...     again = teacher(torch.ones(1, 4), keys=["b.wav"])  # read from the file
    >>> torch.equal(first[1:], again)
    True
    """

    def __init__(
        self,
        teacher: Callable[..., Any],
        path: str | os.PathLike[str],
        *,
        transform: Callable[[Tensor], Tensor] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        identity: str | None = None,
    ) -> None:
        # Its own type is fixed: a cast of the student, or autocast, would give other logits than those in the file.
        super().__init__(teacher, transform=transform, dtype=dtype or _type_of(teacher), device=device)
        self.path = Path(path)
        self.identity = identity
        self._watched = False
        found = self._facts()  # an error here comes before a file is made
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")  # one process makes the tables, the others wait for it
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                if database.execute("SELECT * FROM sqlite_master").fetchone():
                    raise ValueError(f"{path}: another version of specenhance made it; remove it, or give another path")
                database.execute(f"PRAGMA user_version = {VERSION}")
                database.execute("CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT)")
                database.execute("CREATE TABLE logits (key TEXT PRIMARY KEY, marks BLOB, logits BLOB)")
                database.execute("INSERT INTO about VALUES ('facts', ?)", (json.dumps(found),))
        self._compare(found)
        self._seen = self._versions()

    def forward(self, x: Tensor, keys: Sequence[str] | None = None) -> Tensor:
        """Give the logits ``(B, C)`` of the samples, float32. Logits that are not in the file yet are computed and written.

        Args:
            x: The student's input ``(B, ...)``, not augmented.
            keys: A name for each of the B samples, the same at each call.

        Raises:
            ValueError: for missing keys, for an input that differs from an earlier one of the same key, for logits of another
                number of classes than those in the file, and for a teacher that has changed.
        """
        if keys is None or len(keys) != len(x):
            raise ValueError(
                f"{'no keys' if keys is None else f'{len(keys)} keys'} for {len(x)} samples: a cached teacher needs one for "
                "each, such as its path"
            )
        if (versions := self._versions()) != self._seen:  # its weights were written to, or cast
            self._compare(self._facts())
            self._seen = versions
        marks = self._marks(x)
        known = self._read(keys)
        new: dict[str, int] = {}
        for row, key in enumerate(keys):
            if key in known and not _same(known[key][0], marks[row]):
                raise ValueError(
                    f"the input of {key!r} is not the one that its logits in {self.path} are of: a cached teacher cannot "
                    "see augmented input. Switch augmentation off, or take the teacher itself instead of its cache"
                )
            if key not in known and not _same(marks[new.setdefault(key, row)], marks[row]):
                raise ValueError(
                    f"two samples of a batch have the key {key!r}, and they differ: give each its own, such as its path"
                )
        if new:
            rows = list(new.values())
            computed = self._compute(x[torch.tensor(rows, device=x.device)])
            fresh = {keys[row]: (marks[row], logits) for row, logits in zip(rows, computed, strict=True)}
            self._write(fresh)
            known |= fresh
        return torch.from_numpy(np.stack([known[key][1] for key in keys])).to(x.device)

    def _compute(self, x: Tensor) -> np.ndarray:
        before = None if self._watched else self._found(weights=False).known
        with torch.autocast(x.device.type, enabled=False):
            exact = x if x.dtype == torch.float64 or not x.is_floating_point() else x.float()
            computed = super().forward(exact).float().cpu().numpy()
        if before is not None:
            after = self._found(weights=False).known
            changed = sorted(name for name in before | after if before.get(name) != after.get(name))
            with self._database() as database:
                database.execute("INSERT OR IGNORE INTO about VALUES ('state', ?)", (json.dumps(changed),))
            self._watched = True
        return computed

    def _found(self, weights: bool) -> Facts:
        """Give the facts that the logits depend on."""
        teacher, transform = (
            facts(part, name, weights=weights)
            for part, name in ((self.teacher, "teacher"), (self.transform, "transform"))
        )
        own = {"dtype": str(self.dtype), "identity": repr(self.identity)}
        return Facts(own | teacher.known | transform.known, teacher.unknown | transform.unknown)

    def _facts(self) -> dict[str, str]:
        """Give the facts that the logits depend on. Raise ValueError for a part that needs an ``identity`` and has none."""
        found = self._found(weights=True)
        if found.unknown and self.identity is None:
            path, kind = next(iter(found.unknown.items()))
            raise ValueError(
                f"{path} is {kind}, and cannot be told from another of its kind, whose logits would be others: give "
                'CachedTeacher(..., identity="NAME"), with another name whenever its answers change'
            )
        return found.known

    def _compare(self, found: dict[str, str]) -> None:
        """Refuse a file that another teacher made."""
        with self._database() as database:
            about = {name: json.loads(value) for name, value in database.execute("SELECT name, value FROM about")}
        stored, state = about["facts"], about.get("state", [])
        differ = [
            name
            for name in sorted(stored.keys() | found.keys())
            if stored.get(name) != found.get(name)
            and not any(name == path or name.startswith((f"{path}.", f"{path}[")) for path in state)
        ]
        if differ:
            raise ValueError(
                f"{self.path}: holds the logits of another teacher; remove it, or give another path. What differs: "
                f"{', '.join(differ[:3])}{', ...' if len(differ) > 3 else ''}"
            )

    def _versions(self) -> list[tuple[torch.dtype, int]]:
        """Count how often each of the weights was written to, by PyTorch's counters."""
        return [
            (tensor.dtype, 0 if tensor.is_inference() else tensor._version)
            for part in (self.teacher, self.transform)
            for tensor in _tensors(part)
        ]

    def _marks(self, x: Tensor) -> np.ndarray:
        """Give each sample's projections on a few fixed random directions, and its norm: ``(B, MARKS)``, float32."""
        flat = x.detach().flatten(1).float()
        generator = torch.Generator().manual_seed(0)
        directions = torch.randn(flat.shape[1], MARKS - 1, generator=generator).to(flat.device)
        size = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
        with torch.autocast(flat.device.type, enabled=False):
            return torch.cat([flat @ directions, size], dim=1).cpu().numpy()

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction."""
        try:
            # The timeout, in seconds, is for a file that another process writes to.
            with closing(sqlite3.connect(self.path, timeout=60)) as database, database:
                yield database
        except sqlite3.OperationalError as error:
            raise OSError(f"{self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self.path}: no file of a teacher's logits ({error}); give another path") from error

    def _read(self, keys: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        known = {}
        with self._database() as database:
            for key in keys:
                row = database.execute("SELECT marks, logits FROM logits WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    marks, logits = (np.frombuffer(blob, dtype="<f4") for blob in row)
                    known[key] = (marks, logits)
        return known

    def _write(self, fresh: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        rows = [(key, *(a.astype("<f4").tobytes() for a in arrays)) for key, arrays in fresh.items()]
        with self._database() as database:
            there = database.execute("SELECT length(logits) FROM logits LIMIT 1").fetchone()
            if there is not None and there[0] != len(rows[0][2]):
                raise ValueError(
                    f"{self.path}: holds logits of {there[0] // 4} classes, the teacher gives {len(rows[0][2]) // 4}; remove "
                    "it, or give another path"
                )
            database.executemany("INSERT OR IGNORE INTO logits VALUES (?, ?, ?)", rows)


def _same(marks: np.ndarray, others: np.ndarray) -> bool:
    return np.allclose(marks, others, rtol=0, atol=TOLERANCE * (float(others[-1]) + 1e-12))


def _tensors(part: object) -> Iterator[Tensor]:
    return chain(part.parameters(), part.buffers()) if isinstance(part, nn.Module) else iter(())


def _type_of(teacher: object) -> torch.dtype | None:
    """Give the floating type of a teacher's weights. None if they have several types."""
    types = {tensor.dtype for tensor in _tensors(teacher) if tensor.is_floating_point()}
    return types.pop() if len(types) == 1 else None
