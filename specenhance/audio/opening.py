"""One sound file opened by the decoder that knows its format: libsndfile or FFmpeg."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from specenhance.audio.errors import AudioError

__all__ = ["SUFFIXES", "Sound", "open_sound"]

# fmt: off
_LIBSNDFILE = [
    ".wav", ".wave", ".flac", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".voc", ".sph", ".nist",
]
_FFMPEG = [
    ".mp3", ".mp2", ".m4a", ".m4b", ".aac", ".mp4", ".mov", ".3gp", ".amr", ".ogg", ".oga", ".ogx", ".opus", ".wma", ".asf",
    ".webm", ".mka", ".mkv", ".ac3", ".eac3", ".ape", ".wv", ".tta",
]
# fmt: on
SUFFIXES = frozenset((*_LIBSNDFILE, *_FFMPEG))
"""The suffixes of sound files, in lower case: what a folder is searched for."""

# How the formats that libsndfile reads begin: its first bytes, and the bytes from the eighth on where the first do not tell.
_BEGINNINGS = (
    *((mark, b"WAVE") for mark in (b"RIFF", b"RIFX", b"RF64", b"BW64")),
    *((b"FORM", kind) for kind in (b"AIFF", b"AIFC", b"8SVX", b"16SV")),
    *((mark, b"") for mark in (b"fLaC", b".snd", b"dns.", b"caff", b"riff\x2e\x91\xcf\x11", b"NIST_1A")),
    (b"Creative", b" Voice File"),
)


class Sound(Protocol):
    """An open sound file.

    Attributes:
        rate: Hz.
        seconds: the length that its header states; None where no header states one.
        floats: whether its samples are floating-point numbers, which alone can lie far outside [-1, 1].
    """

    rate: int
    seconds: float | None
    floats: bool

    def skim(self) -> float:
        """Give the seconds of sound that are there, without decoding it, of a file whose header states a length.

        Raises:
            AudioError: if there are fewer than the header states.
        """

    def blocks(self, start: float) -> Iterator[np.ndarray]:
        """Give the sound from ``start`` seconds on: mono float32 ``(samples,)`` each, all of it.

        Raises:
            AudioError: at its end, or where it is damaged, if it is not whole.
        """


@contextmanager
def open_sound(path: Path, allow_truncated: bool = False) -> Iterator[Sound]:
    """Open a sound file by the decoder that its content asks for.

    Args:
        path: the file.
        allow_truncated: take what there is of a file that is not whole, with silence where a part is missing.

    Raises:
        FileNotFoundError: if there is no such file.
        AudioError: if it cannot be decoded, or, unless that is allowed, holds less than its header states.
        ImportError: where the package that reads it is missing.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such audio file"
        raise FileNotFoundError(f"{path}: {what}; give the path of one sound file")
    with path.open("rb") as file:
        start = file.read(20)
        if not start:
            raise AudioError(f"{path}: cannot be decoded: the file is empty; copy it again, or remove it")
        if any(start.startswith(mark) and start[8:].startswith(kind) for mark, kind in _BEGINNINGS):
            from specenhance.audio.libsndfile import open_libsndfile

            sound = open_libsndfile(path, allow_truncated)
            if sound is not None:
                with sound:
                    yield sound
                return
        from specenhance.audio.ffmpeg import open_ffmpeg

        file.seek(0)
        with open_ffmpeg(path, file, allow_truncated) as found:
            yield found
