"""Reading one sound file: mono float32 samples at the rate that is asked for, whole, a part, or block by block."""

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
from specenhance.audio.opening import open_sound
from specenhance.audio.samples import LARGEST

__all__ = ["LONGEST", "Header", "probe", "read_blocks", "read_excerpt", "read_samples", "resampled"]

LONGEST = 4 * 3600
"""Seconds of the longest file that :func:`read_samples` takes into memory."""

MARGIN = 0.05  # s read beyond a part, so that the resampler's filter meets the same samples as in the whole


class Header(NamedTuple):
    """What a sound file says of itself.

    Attributes:
        rate: Hz.
        seconds: its length; None where only decoding it would tell.
    """

    rate: int
    seconds: float | None


def probe(path: str | os.PathLike[str], *, thorough: bool = False, allow_truncated: bool = False) -> Header:
    """Look at a sound file without keeping its samples.

    Its header is read, and what is there is measured against it. A file of floating-point numbers is decoded too, since only
    its samples tell whether they are sound.

    Args:
        path: the file.
        thorough: decode every file whole; the length is exact then.
        allow_truncated: as in :func:`read_samples`.

    Raises:
        FileNotFoundError, AudioError, ImportError: as :func:`read_samples`.
    """
    path = Path(path)
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
    path: str | os.PathLike[str], sample_rate: int = 16000, *, allow_truncated: bool = False
) -> np.ndarray:
    """Read a sound file whole.

    Several channels become one, their average. Another rate is resampled by soxr at its "HQ" setting, and n samples
    become about ``n * sample_rate / rate``.

    Args:
        path: the file.
        sample_rate: the result's rate, in Hz.
        allow_truncated: take what there is of a file that is not whole, with silence where a part is missing.

    Returns:
        The waveform, float32 ``(samples,)`` and contiguous; integer formats are scaled to [-1, 1).

    Raises:
        FileNotFoundError: if there is no such file.
        AudioError: if the file cannot be decoded, ends before its header says, is damaged, holds no samples, holds any
            that is not finite or beyond :data:`specenhance.audio.samples.LARGEST`, or is longer than :data:`LONGEST`.
        ValueError: for a rate below 1.
        ImportError: where the package that reads it, or soxr for another rate, is missing.
    """
    path = Path(path)
    _check_rate(sample_rate)
    with open_sound(path, allow_truncated) as sound:
        return _resampled(path, _collected(path, sound.blocks(0.0), sound.rate), sound.rate, sample_rate)


def read_excerpt(
    path: str | os.PathLike[str],
    sample_rate: int,
    seconds: float,
    place: float = 0.0,
    *,
    allow_truncated: bool = False,
) -> np.ndarray:
    """Read a part of a sound file, without the rest of it in memory.

    Args:
        path: the file.
        sample_rate: the result's rate, in Hz.
        seconds: the length of the part; a file that is not longer is read whole.
        place: where the part lies, from 0, at the file's start, to 1, at its end.
        allow_truncated: as in :func:`read_samples`.

    Returns:
        As :func:`read_samples`, at most ``ceil(seconds * sample_rate)`` samples. The part at the start is that of the
        whole, up to the rounding of the resampler.

    Raises:
        FileNotFoundError, AudioError, ValueError, ImportError: as :func:`read_samples`, for what was read of the file.
    """
    path = Path(path)
    _check_rate(sample_rate)
    if not seconds > 0 or not 0 <= place <= 1:
        raise ValueError(f"seconds={seconds}, place={place}: expected a length > 0 and a place from 0 to 1")
    count = int(np.ceil(seconds * sample_rate))
    with open_sound(path, allow_truncated) as sound:
        rate = sound.rate
        start = 0.0
        if place:
            total = sound.seconds
            if total is None:
                whole = _collected(path, sound.blocks(0.0), rate)
                start = max(0.0, len(whole) / rate - seconds) * place
                part = whole[round(start * rate) :][: int(np.ceil((seconds + MARGIN) * rate))]
                return _resampled(path, part, rate, sample_rate)[:count]
            start = max(0.0, total - seconds) * place
        part = _collected(path, sound.blocks(start), rate, int(np.ceil((seconds + MARGIN) * rate)))
        return _resampled(path, part, rate, sample_rate)[:count]


def read_blocks(
    path: str | os.PathLike[str], sample_rate: int, *, allow_truncated: bool = False
) -> Iterator[np.ndarray]:
    """Read a sound file block by block, in constant memory: mono float32 ``(samples,)`` at ``sample_rate`` Hz.

    Raises:
        FileNotFoundError, AudioError, ValueError, ImportError: as :func:`read_samples`, some of them only where the
            fault is met: what came before it has been given by then.
    """
    path = Path(path)
    _check_rate(sample_rate)
    with open_sound(path, allow_truncated) as sound:
        yield from resampled(_checked(path, sound.blocks(0.0), sound.rate), sound.rate, sample_rate)


def resampled(blocks: Iterable[np.ndarray], rate: int, sample_rate: int) -> Iterator[np.ndarray]:
    """Turn a stream of mono float32 blocks at ``rate`` Hz into one at ``sample_rate`` Hz.

    Raises:
        ImportError: where soxr is needed and missing.
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
    """Pass blocks on; refuse samples that are no sound."""
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
    """Put blocks together, up to so many samples."""
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
