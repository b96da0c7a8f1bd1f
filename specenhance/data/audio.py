"""Reading one audio file: a mono float32 waveform at the rate that is asked for."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from torch import Tensor

try:
    import soundfile
    import soxr
except ImportError as error:
    raise ImportError(
        f'{error}; reading audio needs soundfile and soxr: pip install "specenhance[train]" brings both'
    ) from error

__all__ = ["AudioError", "read_audio"]

# What libsndfile notes on a WAV whose data chunk is longer than the file, which it reads without complaint.
SHORT_DATA = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
# Writers to a pipe cannot know the size: they declare one about this or larger.
UNKNOWN_SIZE = 0x7FFF0000


class AudioError(ValueError):
    """A file that is there but holds no usable sound; the message has the path, what is wrong, and the cure."""


def read_audio(path: str | os.PathLike[str], sample_rate: int = 16000) -> Tensor:
    """Read an audio file of any format that libsndfile knows (WAV, FLAC, OGG, MP3, ...).

    Several channels become one, their average. Another rate is resampled by soxr at its "HQ" setting, and n samples
    become about ``n * sample_rate / rate``.

    Args:
        path: the file.
        sample_rate: the result's rate, in Hz.

    Returns:
        The waveform, float32 ``(samples,)``; integer formats are scaled to [-1, 1).

    Raises:
        FileNotFoundError: if there is no such file.
        AudioError: if the file cannot be decoded, ends before its header says (an OGG does not say), holds no samples, or
            holds any that is not finite.
        ValueError: for a rate below 1.
    """
    path = Path(path)
    if sample_rate < 1:
        raise ValueError(f"sample_rate={sample_rate}: expected a rate in Hz >= 1")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such audio file; check the path")
    try:
        with soundfile.SoundFile(path) as file:
            rate, expected = file.samplerate, file.frames
            short = SHORT_DATA.search(file.extra_info)
            samples = file.read(dtype="float32", always_2d=True)  # (samples, channels)
    except soundfile.SoundFileError as error:
        raise AudioError(
            f"{path}: cannot be decoded ({error}); is it an audio file, and whole? Replace or remove it"
        ) from error
    if len(samples) < expected or (short and int(short[2]) < int(short[1]) < UNKNOWN_SIZE):
        raise AudioError(
            f"{path}: ends after {len(samples)} samples, before its header says; copy or download it again"
        )
    waveform = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if rate != sample_rate:
        waveform = soxr.resample(waveform, rate, sample_rate, quality="HQ")
    result = torch.from_numpy(waveform).contiguous()
    if len(result) == 0:
        raise AudioError(f"{path}: holds no sound ({len(samples)} samples at {rate} Hz); remove it")
    if not result.isfinite().all():
        raise AudioError(f"{path}: holds samples that are not finite; write it again as integers, or remove it")
    return result
