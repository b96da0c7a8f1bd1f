"""``embedding:FILE.npz``: the values of an embedding model, computed beforehand. Training fits a head on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from specenhance.distillation.registry import register_teacher

__all__ = ["EmbeddingTable"]


@register_teacher("embedding")
class EmbeddingTable:
    """The values of each clip, by the clip's name.

    The file has an array of floating numbers ``(N, D)``, and an array of N names. A name is the path of a clip, or the end of
    its path: ``a.wav``, or ``yes/a.wav`` where two folders have an ``a.wav``. Other arrays are ignored. If two arrays of a kind
    could be meant, the right ones are named ``values`` and ``names``. No pickle is read.

    Args:
        path: The file, as ``numpy.savez`` writes it.

    Attributes:
        width: The number D of values of a clip.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file of another kind, or a name that it has twice.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/values.npz", names=["no/a.wav", "yes/a.wav"], values=np.eye(2))
    ...     table = EmbeddingTable(f"{folder}/values.npz")
    >>> table.values(["sounds/yes/a.wav"])
    array([[0., 1.]])
    """

    hears = "clip"
    needs_head = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(
                f"{path}: no such file; expected the values of the clips, as numpy.savez writes them"
            )
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except (ValueError, OSError, EOFError, AttributeError) as error:
            raise ValueError(f"{path} cannot be read as .npz ({error}); numpy.savez writes it") from error
        values = self._one(arrays, "values", lambda array: array.ndim == 2 and array.dtype.kind == "f")
        names = self._one(arrays, "names", lambda array: array.ndim == 1 and array.dtype.kind == "U")
        if len(values) != len(names):
            raise ValueError(f"{path}: has {len(values)} rows of values and {len(names)} names: expected as many")
        self._values: npt.NDArray[np.floating] = values
        self._places = {name.replace("\\", "/"): place for place, name in enumerate(names.tolist())}
        if len(self._places) < len(names):
            raise ValueError(f"{path}: has a name twice")
        self._depth = max(name.count("/") for name in self._places) + 1 if self._places else 0
        self.width = values.shape[1]

    def _one(self, arrays: dict[str, np.ndarray], name: str, fits) -> np.ndarray:  # type: ignore[no-untyped-def]
        found = [key for key, array in arrays.items() if fits(array)]
        key = name if name in found else found[0] if len(found) == 1 else None
        if key is None:
            kind = "floating numbers (clips, values)" if name == "values" else "text, one name a clip"
            has = ", ".join(f"{key} {array.dtype}{list(array.shape)}" for key, array in arrays.items())
            raise ValueError(f"{self.path}: has no array {name!r} of {kind}; it has {has or 'nothing'}")
        return arrays[key]

    def values(self, clips: Sequence[str | os.PathLike[str]]) -> npt.NDArray[np.floating]:
        """Give the values ``(N, D)`` of clips, float32 or as the file has them.

        Args:
            clips: The paths of the clips.

        Raises:
            ValueError: for clips that the file does not have, or two clips for which it has the same name.
        """
        places = [self._place(clip) for clip in clips]
        absent = [str(clip) for clip, place in zip(clips, places, strict=True) if place < 0]
        if absent:
            raise ValueError(
                f"{self.path}: has no values of {len(absent)} of {len(clips)} clips, such as {absent[0]}; its names are like "
                f"{next(iter(self._places), 'none')!r}"
            )
        first: dict[int, str] = {}
        for clip, place in zip(map(str, clips), places, strict=True):
            if first.setdefault(place, clip) != clip:
                raise ValueError(
                    f"{self.path}: has the same values for {first[place]} and {clip}; give names with their folders"
                )
        return self._values[places]

    def _place(self, clip: str | os.PathLike[str]) -> int:
        parts = Path(clip).parts[-self._depth :]
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        return next((self._places[end] for end in ends if end in self._places), -1)
