"""A sound file that is in memory, for the readers of this package: a file out of an archive, a download, a database."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, cast

__all__ = ["SoundBytes", "as_file"]


class SoundBytes(NamedTuple):
    """The content of a sound file. The functions of this package take it in place of a path.

    Attributes:
        name: Name of the sound, for messages.
        content: The file's bytes.

    >>> import numpy as np, soundfile
    >>> from specenhance.audio import read_samples
    >>> file = io.BytesIO()
    >>> soundfile.write(file, np.zeros(1600), 16000, format="WAV")
    >>> read_samples(SoundBytes("a.wav", file.getvalue()), 16000).shape
    (1600,)
    """

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name

    def is_file(self) -> bool:
        """Answer as a path of a file does."""
        return True

    def open(self, mode: str = "rb") -> io.BytesIO:
        """Open the content for reading."""
        return io.BytesIO(self.content)

    def stat(self) -> SimpleNamespace:
        """Give the size, as a path does."""
        return SimpleNamespace(st_size=len(self.content))


def as_file(path: str | os.PathLike[str] | SoundBytes) -> Path:
    """Give what the readers work with: a path, or an object in memory that answers what they ask of one.

    >>> as_file("a.wav").name
    'a.wav'
    """
    return cast(Path, path) if isinstance(path, SoundBytes) else Path(path)
