"""Reading one audio file into NumPy: mono float32 samples at the rate that is asked for. Needs no PyTorch."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from specenhance.missing import missing

try:
    import soundfile
except ImportError as error:
    raise missing(error, "reading audio needs soundfile", "soundfile") from error

__all__ = ["AudioError", "check_whole", "mono", "read_samples", "soxr"]

# What libsndfile notes on a WAV whose data chunk is longer than the file, which it reads without complaint.
SHORT_DATA = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
# Writers to a pipe cannot know the size: they declare one about this or larger.
UNKNOWN_SIZE = 0x7FFF0000


class AudioError(ValueError):
    """A file that is there but holds no usable sound; the message has the path, what is wrong, and the cure."""


def read_samples(path: str | os.PathLike[str], sample_rate: int = 16000) -> np.ndarray:
    """Read an audio file of any format that libsndfile knows (WAV, FLAC, OGG, MP3, ...).

    Several channels become one, their average. Another rate is resampled by soxr at its "HQ" setting, and n samples
    become about ``n * sample_rate / rate``.

    Args:
        path: the file.
        sample_rate: the result's rate, in Hz.

    Returns:
        The waveform, float32 ``(samples,)`` and contiguous; integer formats are scaled to [-1, 1).

    Raises:
        FileNotFoundError: if there is no such file.
        AudioError: if the file cannot be decoded, ends before its header says (an OGG does not say), holds no samples, or
            holds any that is not finite.
        ValueError: for a rate below 1.
        ImportError: for a file of another rate where soxr is missing.
    """
    path = Path(path)
    if sample_rate < 1:
        raise ValueError(f"sample_rate={sample_rate}: expected a rate in Hz >= 1")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such audio file; check the path")
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            samples = file.read(dtype="float32", always_2d=True)  # (samples, channels)
            check_whole(path, file, len(samples))
    except soundfile.SoundFileError as error:
        raise AudioError(
            f"{path}: cannot be decoded ({error}); is it an audio file, and whole? Replace or remove it"
        ) from error
    waveform = mono(samples)
    if rate != sample_rate:
        waveform = soxr().resample(waveform, rate, sample_rate, quality="HQ")
    if len(waveform) == 0:
        raise AudioError(f"{path}: holds no sound ({len(samples)} samples at {rate} Hz); remove it")
    if not np.isfinite(waveform).all():
        raise AudioError(f"{path}: holds samples that are not finite; write it again as integers, or remove it")
    return np.ascontiguousarray(waveform)


def check_whole(path: Path, file: soundfile.SoundFile, samples: int) -> None:
    """Refuse a file that ended, after so many samples, before its header says.

    Raises:
        AudioError: if it did.
    """
    short = SHORT_DATA.search(file.extra_info)
    if samples < file.frames or (short and int(short[2]) < int(short[1]) < UNKNOWN_SIZE):
        raise AudioError(f"{path}: ends after {samples} samples, before its header says; copy or download it again")


def mono(samples: np.ndarray) -> np.ndarray:
    """Average the channels of sound ``(samples, channels)``."""
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)


def soxr() -> ModuleType:
    """Import soxr, which only sound of another rate needs.

    Raises:
        ImportError: where it is missing; the message has the cure.
    """
    try:
        return import_module("soxr")
    except ImportError as error:
        raise missing(error, "resampling needs soxr", "soxr") from error
