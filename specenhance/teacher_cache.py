"""A teacher whose logits are computed once for each sample and kept on disk."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from specenhance.teachers import FrozenTeacher

__all__ = ["CachedTeacher"]

MARKS = 16  # numbers that stand for an input; see CachedTeacher._marks
TOLERANCE = 5e-3  # of their size: far above rounding, far below any augmentation that matters


class CachedTeacher(FrozenTeacher):
    """A :class:`FrozenTeacher` that computes the logits of each sample once, and reads them from a file ever after.

    Samples go by their keys, such as their paths. A cache is right only where a sample always looks the same, so with the
    logits it keeps a few random projections of the input, and refuses a sample whose input is no longer the one that the
    logits are of: augmented input, other features, or two samples under one key.

    The file is SQLite's: a kill at any time leaves it whole, and several processes may share it. It belongs to one teacher,
    known by the SHA-256 of its weights (a function: by its name).

    Args:
        teacher: as :class:`FrozenTeacher` takes it.
        path: the file; it is made if there is none.
        transform, dtype, device: as :class:`FrozenTeacher`.

    Raises:
        ValueError: for a file that another teacher's logits are in, or that is no such file.
    """

    def __init__(
        self,
        teacher: Callable[..., Any],
        path: str | os.PathLike[str],
        *,
        transform: Callable[[Tensor], Tensor] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        identity = _identity(teacher)  # of the weights as they were given, before any change of precision
        super().__init__(teacher, transform=transform, dtype=dtype, device=device)
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(self._open()) as database, database:
                database.execute("CREATE TABLE IF NOT EXISTS teacher (identity TEXT PRIMARY KEY)")
                database.execute("CREATE TABLE IF NOT EXISTS logits (key TEXT PRIMARY KEY, marks BLOB, logits BLOB)")
                database.execute(
                    "INSERT INTO teacher SELECT ? WHERE NOT EXISTS (SELECT * FROM teacher)",
                    (identity,),
                )
                (found,) = database.execute("SELECT identity FROM teacher").fetchone()
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path}: no file of a teacher's logits ({error}); give another path") from error
        if found != identity:
            raise ValueError(f"{path}: holds the logits of another teacher; remove it, or give another path")

    def forward(self, x: Tensor, keys: Sequence[str] | None = None) -> Tensor:
        """Give the logits ``(B, C)`` float32 of the samples, computing those that are not in the file.

        Args:
            x: the student's input ``(B, ...)``, not augmented.
            keys: a name for each of the B samples, the same each time.

        Raises:
            ValueError: for missing keys, or an input that differs from the one that a key's logits are of.
        """
        if keys is None or len(keys) != len(x):
            raise ValueError(
                f"{'no keys' if keys is None else f'{len(keys)} keys'} for {len(x)} samples: a cached teacher needs one for "
                "each, such as its path"
            )
        marks = self._marks(x)
        known = self._read(keys)
        for row, key in enumerate(keys):
            if key in known and not np.allclose(known[key][0], marks[row], rtol=0, atol=TOLERANCE * _size(marks[row])):
                raise ValueError(
                    f"the input of {key!r} is not the one that its logits in {self.path} are of: a cached teacher cannot "
                    "see augmented input. Switch augmentation off, or take the teacher itself instead of its cache"
                )
        new = [row for row, key in enumerate(keys) if key not in known]
        if new:
            computed = super().forward(x[torch.tensor(new, device=x.device)]).float().cpu().numpy()
            fresh = {keys[row]: (marks[row], logits) for row, logits in zip(new, computed, strict=True)}
            self._write(fresh)
            known |= fresh
        return torch.from_numpy(np.stack([known[key][1] for key in keys])).to(x.device)

    def _marks(self, x: Tensor) -> np.ndarray:
        """Project each sample on a few fixed random directions and its size: ``(B, MARKS)``, float32."""
        flat = x.detach().flatten(1).float()
        generator = torch.Generator().manual_seed(0)
        directions = torch.randn(flat.shape[1], MARKS - 1, generator=generator).to(flat.device)
        size = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
        with torch.autocast(flat.device.type, enabled=False):
            return torch.cat([flat @ directions, size], dim=1).cpu().numpy()

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=60)  # seconds, where another process is writing

    def _read(self, keys: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        known = {}
        with closing(self._open()) as database:
            for key in keys:
                row = database.execute("SELECT marks, logits FROM logits WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    marks, logits = (np.frombuffer(blob, dtype="<f4") for blob in row)
                    known[key] = (marks, logits)
        return known

    def _write(self, fresh: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        rows = [(key, *(a.astype("<f4").tobytes() for a in arrays)) for key, arrays in fresh.items()]
        with closing(self._open()) as database, database:
            database.executemany("INSERT OR IGNORE INTO logits VALUES (?, ?, ?)", rows)


def _size(marks: np.ndarray) -> float:
    return float(marks[-1]) + 1e-12


def _identity(teacher: Callable[..., Any]) -> str:
    if not isinstance(teacher, nn.Module):
        return f"{getattr(teacher, '__module__', '')}.{getattr(teacher, '__qualname__', type(teacher).__qualname__)}"
    digest = hashlib.sha256()
    for name, tensor in teacher.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
