"""Opening a sound file with the decoder for its format: libsndfile or FFmpeg."""

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
"""Suffixes of sound files, in lower case. A search of a folder looks for these."""

# The first bytes of the formats that libsndfile reads, and the bytes from offset 8, for formats that need both.
_BEGINNINGS = (
    *((mark, b"WAVE") for mark in (b"RIFF", b"RIFX", b"RF64", b"BW64")),
    *((b"FORM", kind) for kind in (b"AIFF", b"AIFC", b"8SVX", b"16SV")),
    *((mark, b"") for mark in (b"fLaC", b".snd", b"dns.", b"caff", b"riff\x2e\x91\xcf\x11", b"NIST_1A")),
    (b"Creative", b" Voice File"),
)


class Sound(Protocol):
    """An open sound file.

    Attributes:
        rate: Sample rate, in Hz.
        seconds: Length that the header states, in seconds; None if it states none.
        floats: Whether the samples are floating-point numbers. Only these can be far outside [-1, 1].
    """

    rate: int
    seconds: float | None
    floats: bool

    def skim(self) -> float:
        """Measure the length of the sound that is there, in seconds, without decoding it. The header must state a length.

        Raises:
            AudioError: if the sound is shorter than the header states.
        """

    def blocks(self, start: float) -> Iterator[np.ndarray]:
        """Decode the sound from ``start`` seconds to the end, in mono float32 blocks ``(samples,)``.

        Raises:
            AudioError: at a damaged part, and at the end if the sound is shorter than the header states.
        """


@contextmanager
def open_sound(path: Path, allow_truncated: bool = False) -> Iterator[Sound]:
    """Open a sound file. Its content decides which decoder reads it.

    Args:
        path: The file.
        allow_truncated: Whether to read what is there of an incomplete file, with silence for a missing part.

    Raises:
        FileNotFoundError: if there is no such file.
        AudioError: if the file cannot be decoded. Without ``allow_truncated`` also if it is shorter than its header states.
        ImportError: if the package that reads the file is missing.

    >>> import tempfile, soundfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     soundfile.write(f"{folder}/a.wav", np.zeros(1600), 16000)
    ...     with open_sound(Path(folder, "a.wav")) as sound:
    ...         print(sound.rate, sound.seconds, [len(block) for block in sound.blocks(0.05)])
    16000 0.1 [800]
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
