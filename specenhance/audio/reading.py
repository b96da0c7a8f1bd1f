"""Reading one sound file as mono float32 at any sample rate: whole, in part, or block by block."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from specenhance._missing import missing
from specenhance.audio.errors import AudioError
from specenhance.audio.memory import SoundBytes, as_file
from specenhance.audio.opening import open_sound
from specenhance.audio.samples import LARGEST

__all__ = ["LONGEST", "Header", "probe", "read_blocks", "read_excerpt", "read_samples", "resampled"]

LONGEST = 4 * 3600
"""Maximum length of a file that :func:`read_samples` reads, in seconds."""

MARGIN = 0.05  # s read after a part, so that the resampler's filter sees the same samples as in the whole file


class Header(NamedTuple):
    """The result of :func:`probe`.

    Attributes:
        rate: Sample rate, in Hz.
        seconds: Length, in seconds; None if it is unknown.
    """

    rate: int
    seconds: float | None


def probe(
    path: str | os.PathLike[str] | SoundBytes, *, thorough: bool = False, allow_truncated: bool = False
) -> Header:
    """Check a sound file without keeping its samples.

    The length in the header is compared with what the file holds. A file is decoded if its header states no length, or if its
    samples are floating-point numbers: only these can be invalid.

    Args:
        path: The file, or its content.
        thorough: Whether to decode every file completely. The length is then exact.
        allow_truncated: As in :func:`read_samples`.

    Raises:
        FileNotFoundError, AudioError, ImportError: as :func:`read_samples`.

    >>> import tempfile, soundfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     soundfile.write(f"{folder}/a.wav", np.zeros(22050), 44100)
    ...     probe(f"{folder}/a.wav")
    Header(rate=44100, seconds=0.5)
    """
    path = as_file(path)
    with open_sound(path, allow_truncated) as sound:
        rate = sound.rate
        if sound.seconds and not thorough and not sound.floats:
            seconds = sound.skim()
        else:
            seconds = sum(len(block) for block in _checked(path, sound.blocks(0.0), rate)) / rate
        if not seconds:
            raise _silent(path, 0, rate)
        return Header(rate, seconds)


def read_samples(
    path: str | os.PathLike[str] | SoundBytes, sample_rate: int = 16000, *, allow_truncated: bool = False
) -> np.ndarray:
    """Read a whole sound file.

    Several channels are averaged. If the sample rate differs, soxr resamples with its "HQ" setting; n samples become about
    ``n * sample_rate / rate``.

    Args:
        path: The file, or its content.
        sample_rate: Sample rate of the result, in Hz.
        allow_truncated: Whether to read what is there of an incomplete file, with silence for a missing part.

    Returns:
        The waveform, float32 ``(samples,)`` and contiguous. Integer formats are scaled to [-1, 1).

    Raises:
        FileNotFoundError: if there is no such file.
        AudioError: if the file cannot be decoded, is damaged, ends before its header says, holds no samples, or is longer
            than :data:`LONGEST`. Also for a sample that is not finite or beyond :data:`specenhance.audio.samples.LARGEST`.
        ValueError: for a sample rate below 1.
        ImportError: if the package that reads the file is missing, or soxr for another sample rate.

    >>> import tempfile, soundfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     soundfile.write(f"{folder}/stereo.wav", np.tile([0.5, 0.0], (44100, 1)), 44100)
    ...     waveform = read_samples(f"{folder}/stereo.wav", sample_rate=16000)
    >>> waveform.shape, float(waveform[8000].round(3))
    ((16000,), 0.25)
    """
    path = as_file(path)
    _check_rate(sample_rate)
    with open_sound(path, allow_truncated) as sound:
        return _resampled(path, _collected(path, sound.blocks(0.0), sound.rate), sound.rate, sample_rate)


def read_excerpt(
    path: str | os.PathLike[str] | SoundBytes,
    sample_rate: int,
    seconds: float,
    place: float = 0.0,
    *,
    start: float | None = None,
    allow_truncated: bool = False,
) -> np.ndarray:
    """Read a part of a sound file. Only this part is kept in memory, if the header states the length of the file.

    Args:
        path: The file, or its content.
        sample_rate: Sample rate of the result, in Hz.
        seconds: Length of the part, in seconds, > 0. A shorter file is read whole.
        place: Position of the part, from 0 (the start of the file) to 1 (its end).
        start: Start of the part, in seconds from the start of the file, in place of ``place``.
        allow_truncated: As in :func:`read_samples`.

    Returns:
        The waveform, as of :func:`read_samples`, at most ``ceil(seconds * sample_rate)`` samples. A part at the start equals
        the start of the whole file, up to the rounding of the resampler.

    Raises:
        FileNotFoundError, AudioError, ImportError: as :func:`read_samples`. Faults after the part are not found.
        AudioError: also for a start at the end of the file or after it.
        ValueError: for a sample rate below 1, a length of 0 or less, a start below 0, or a place that is not from 0 to 1.

    >>> import tempfile, soundfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     soundfile.write(f"{folder}/a.wav", np.repeat([0.0, 0.5], 8000), 16000)
    ...     end = read_excerpt(f"{folder}/a.wav", 16000, seconds=0.1, place=1.0)
    >>> end.shape, float(end.min())
    ((1600,), 0.5)
    """
    path = as_file(path)
    _check_rate(sample_rate)
    if not seconds > 0 or not 0 <= place <= 1:
        raise ValueError(f"seconds={seconds}, place={place}: expected a length > 0 and a place from 0 to 1")
    if start is not None and not 0 <= start < float("inf"):
        raise ValueError(f"start={start}: expected seconds from the start of the file, 0 or more")
    count = int(np.ceil(seconds * sample_rate))
    with open_sound(path, allow_truncated) as sound:
        rate, total = sound.rate, sound.seconds
        most = int(np.ceil((seconds + MARGIN) * rate))
        if total is None and (place or start):
            whole = _collected(path, sound.blocks(0.0), rate)
            total = len(whole) / rate
            first = _start(path, total, seconds, place, start)
            return _resampled(path, whole[round(first * rate) :][:most], rate, sample_rate)[:count]
        part = _collected(path, sound.blocks(_start(path, total, seconds, place, start)), rate, most)
        return _resampled(path, part, rate, sample_rate)[:count]


def _start(path: Path, total: float | None, seconds: float, place: float, start: float | None) -> float:
    """Give the start of a part in seconds."""
    if start is None:
        return max(0.0, (total or 0.0) - seconds) * place
    if total is not None and start >= total:
        raise AudioError(f"{path}: ends after {total:g} s, and a part of it is to start at {start:g} s")
    return start


def read_blocks(
    path: str | os.PathLike[str] | SoundBytes, sample_rate: int, *, allow_truncated: bool = False
) -> Iterator[np.ndarray]:
    """Read a sound file block by block, in constant memory.

    Args:
        path: The file, or its content.
        sample_rate: Sample rate of the blocks, in Hz.
        allow_truncated: As in :func:`read_samples`.

    Yields:
        Blocks of the waveform, mono float32 ``(samples,)``.

    Raises:
        FileNotFoundError, AudioError, ValueError, ImportError: as :func:`read_samples`, when the block is asked for. Blocks
            before a damaged part are given first. The file may be of any length, and may hold no samples.

    >>> import tempfile, soundfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     soundfile.write(f"{folder}/a.wav", np.zeros(5000), 16000)
    ...     [len(block) for block in read_blocks(f"{folder}/a.wav", 16000)]
    [4096, 904]
    """
    path = as_file(path)
    _check_rate(sample_rate)
    with open_sound(path, allow_truncated) as sound:
        yield from resampled(_checked(path, sound.blocks(0.0), sound.rate), sound.rate, sample_rate)


def resampled(blocks: Iterable[np.ndarray], rate: int, sample_rate: int) -> Iterator[np.ndarray]:
    """Resample a stream of blocks.

    Args:
        blocks: Blocks of the stream, mono float32 ``(samples,)``.
        rate: Sample rate of these blocks, in Hz.
        sample_rate: Sample rate of the result, in Hz.

    Yields:
        Blocks of the result, mono float32 ``(samples,)``.

    Raises:
        ImportError: if soxr is needed and missing.

    >>> blocks = [np.zeros(8000, np.float32), np.zeros(8000, np.float32)]
    >>> sum(len(block) for block in resampled(blocks, rate=16000, sample_rate=8000))
    8000
    """
    if rate == sample_rate:
        yield from blocks
        return
    stream = _soxr().ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block))
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _check_rate(sample_rate: int) -> None:
    if sample_rate < 1:
        raise ValueError(f"sample_rate={sample_rate}: expected a rate in Hz >= 1")


def _checked(path: Path, blocks: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """Yield the blocks. Refuse samples that are not finite or far too large."""
    read = 0
    for block in blocks:
        peak = np.abs(block).max(initial=0.0)
        if not peak <= LARGEST:
            at = (read + int(np.argmax(~(np.abs(block) <= LARGEST)))) / rate
            if not np.isfinite(peak):
                raise AudioError(
                    f"{path}: holds samples that are not finite, after {at:.2f} s; write it again as integers, or remove it"
                )
            raise AudioError(
                f"{path}: holds a sample of {peak:.3g}, after {at:.2f} s: expected sound within -1 and 1; scale it, "
                "or remove it"
            )
        read += len(block)
        yield block


def _collected(path: Path, blocks: Iterator[np.ndarray], rate: int, most: int | None = None) -> np.ndarray:
    """Join the blocks, up to ``most`` samples. None joins all, up to :data:`LONGEST`."""
    parts, read = [], 0
    for block in _checked(path, blocks, rate):
        parts.append(block)
        read += len(block)
        if most is not None and read >= most:
            break
        if most is None and read > LONGEST * rate:
            raise AudioError(
                f"{path}: is longer than {LONGEST / 3600:.0f} hours, too long to be read whole; cut it into pieces, or use "
                "'specenhance listen', which reads it piece by piece"
            )
    if not parts:
        return np.zeros(0, np.float32)
    whole = np.concatenate(parts)
    return whole if most is None else whole[:most]


def _resampled(path: Path, waveform: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    samples = len(waveform)
    if rate != sample_rate and samples:
        waveform = _soxr().resample(waveform, rate, sample_rate, quality="HQ")
    if len(waveform) == 0:
        raise _silent(path, samples, rate)
    return np.ascontiguousarray(waveform)


def _silent(path: Path, samples: int, rate: int) -> AudioError:
    return AudioError(f"{path}: holds no sound ({samples} samples at {rate} Hz); remove it")


def _soxr() -> ModuleType:
    try:
        return import_module("soxr")
    except ImportError as error:
        raise missing(error, "sound of another sample rate needs soxr", "soxr") from error
