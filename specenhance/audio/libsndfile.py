"""Reading with libsndfile (the package soundfile): WAV, FLAC, AIFF, AU, CAF, W64, ..."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

from specenhance._missing import missing
from specenhance.audio.errors import AudioError, damaged, ends_early

try:
    import soundfile
except ImportError as error:
    raise missing(error, "reading sound files needs soundfile", "soundfile") from error

__all__ = ["LibsndfileSound", "open_libsndfile"]

BLOCK = 4096  # frames per read
DENSEST = 8192  # frames per byte, more than a FLAC of silence has

# libsndfile reads a file of the wrong size without an error. It only writes the stated and the real number of bytes into its
# log: of the samples for WAV, AIFF and AU, of the whole file for W64.
SIZE = re.compile(r"^ *(?:data|SSND|Data Size|riff) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
# A program that writes to a pipe cannot know the size. It states a size of about this or larger.
UNKNOWN_SIZE = 0x7FFF0000

_log = logging.getLogger(__name__)


def open_libsndfile(path: Path, allow_truncated: bool) -> LibsndfileSound | None:
    """Open a file. Return None if FFmpeg must try it.

    This is so for an encoding that libsndfile does not know, for a WAV whose header states a size of 0, and for any FLAC
    with ``allow_truncated``.

    Args:
        path: The file.
        allow_truncated: Whether to read what is there of an incomplete file.

    Raises:
        AudioError: for a file that is shorter than its header states.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.wav")
    ...     soundfile.write(path, np.zeros(1600), 16000)
    ...     with open_libsndfile(path, allow_truncated=False) as sound:
    ...         print(sound.rate, sound.seconds, [len(block) for block in sound.blocks()])
    16000 0.1 [1600]
    """
    try:
        if isinstance(path, Path):
            # As bytes, because soundfile cannot encode a name that is not UTF-8.
            file = soundfile.SoundFile(str(path) if os.name == "nt" else os.fsencode(path))
        else:  # it is in memory, see specenhance.audio.memory
            file = soundfile.SoundFile(path.open("rb"))
    except soundfile.SoundFileError:
        return None
    if file.frames == 0 and _unfinished(file):
        file.close()
        _log.warning(
            "%s: its header states no samples, as a recorder leaves it that lost power; it is read to its end",
            path,
        )
        return None
    if allow_truncated and file.format == "FLAC":  # FFmpeg reads on after a damaged part, libsndfile does not
        file.close()
        return None
    try:
        return LibsndfileSound(path, file, allow_truncated)
    except AudioError:
        file.close()
        raise


def _unfinished(file: soundfile.SoundFile) -> bool:
    """Tell whether a WAV states 0 bytes of samples but has some. libsndfile then finds no end of the chunks."""
    return file.format in ("WAV", "WAVEX", "RF64") and "\nEnd\n" not in file.extra_info


class LibsndfileSound:
    """An open sound file, see :class:`specenhance.audio.opening.Sound`. :func:`open_libsndfile` makes one."""

    def __init__(self, path: Path, file: soundfile.SoundFile, allow_truncated: bool) -> None:
        self._path, self._file, self._allow_truncated = path, file, allow_truncated
        self.rate: int = file.samplerate
        self.seconds: float | None = file.frames / file.samplerate
        self.floats = file.subtype in ("FLOAT", "DOUBLE")
        bytes_there = path.stat().st_size
        if file.frames > DENSEST * bytes_there:
            raise AudioError(
                f"{path}: its header states {self.seconds:.0f} s, more than a file of {bytes_there:,} bytes can hold; copy it "
                "again, or remove it"
            )
        size = SIZE.search(file.extra_info)
        if size is not None and int(size[2]) < int(size[1]) < UNKNOWN_SIZE and not allow_truncated:
            raise ends_early(path, self.seconds, self.seconds * int(size[1]) / max(1, int(size[2])))

    def __enter__(self) -> LibsndfileSound:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def skim(self) -> float:
        """Give the length of the sound that is there, in seconds. It was measured when the file was opened.

        The end of a FLAC is looked for, because its header does not tell where it is in the file.
        """
        file = self._file
        if file.format == "FLAC" and file.frames:
            try:
                file.seek(file.frames - 1)
                found = len(file.read(1))
            except soundfile.SoundFileError:
                found = 0
            if not found:  # libsndfile cannot go back after that
                again = open_libsndfile(self._path, self._allow_truncated)
                if again is not None:
                    with again:
                        return sum(len(block) for block in again.blocks()) / self.rate  # the error says where it ends
        return file.frames / self.rate

    def blocks(self, start: float = 0.0) -> Iterator[np.ndarray]:
        """Decode the sound from ``start`` seconds to the end, in mono float32 blocks ``(samples,)``."""
        file, rate = self._file, self.rate
        read = min(round(start * rate), file.frames)
        try:
            if read:
                file.seek(read)
            # Not file.blocks(): it repeats the last block if the file has less than its header states.
            while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
                read += len(block)
                yield block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
        except soundfile.SoundFileError as error:
            if not self._allow_truncated or not read:
                raise damaged(self._path, read / rate, _reason(error)) from error
            return
        if read < file.frames and not self._allow_truncated:
            raise ends_early(self._path, read / rate, file.frames / rate)


def _reason(error: Exception) -> str:
    return str(error).strip().rstrip(".") or "libsndfile does not say why"
