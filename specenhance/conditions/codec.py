"""A sound that was compressed and decoded."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np

from specenhance._missing import missing
from specenhance.conditions.registry import register_condition

__all__ = ["Codec"]

CODECS = {  # name: encoder, container, rates that the encoder takes
    "opus": ("libopus", "ogg", (8000, 12000, 16000, 24000, 48000)),
    "mp3": ("libmp3lame", "mp3", (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)),
    "aac": ("aac", "mp4", (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)),
}


@register_condition("codec")
class Codec:
    """Compress a sound and decode it again, by FFmpeg. The clip keeps its place and its length.

    Args:
        named: The codec and its bit rate, ``opus-16k``, ``mp3-32k`` or ``aac-24k``.

    Raises:
        ValueError: for another codec, and for a bit rate that is not from 4 to 512 kbit/s.

    >>> Codec("opus-16k")(np.zeros(16000, np.float32), 16000, np.random.default_rng(0)).shape
    (16000,)
    """

    example = "opus-16k"

    def __init__(self, named: str) -> None:
        found = re.fullmatch(rf"({'|'.join(CODECS)})-(\d+)k", named)
        if found is None or not 4 <= int(found[2]) <= 512:
            raise ValueError(
                f"expected a codec ({', '.join(CODECS)}) and a bit rate from 4k to 512k, such as opus-16k, not {named!r}"
            )
        self.codec, self.bits = found[1], int(found[2]) * 1000

    def __call__(self, waveform: np.ndarray, sample_rate: int, random: np.random.Generator) -> np.ndarray:
        """Compress and decode the waveform ``(samples,)``."""
        try:
            import av
            import soxr
        except ImportError as error:
            raise missing(error, "the condition codec needs PyAV and soxr", "av", "soxr") from error

        encoder, container, rates = CODECS[self.codec]
        rate = next((r for r in rates if r >= sample_rate), rates[-1])
        given = soxr.resample(waveform, sample_rate, rate) if rate != sample_rate else waveform
        file = io.BytesIO()
        with av.open(file, "w", format=container) as out:
            stream: Any = out.add_stream(encoder, rate=rate, layout="mono")
            stream.bit_rate = self.bits
            pcm = (np.clip(given, -1, 1) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
            frame.sample_rate = rate
            for packet in (*stream.encode(frame), *stream.encode(None)):
                out.mux(packet)
        file.seek(0)
        read: Any
        with av.open(file) as read:
            resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
            parts = [part.to_ndarray().ravel() for f in read.decode(audio=0) for part in resampler.resample(f)]
            parts += [part.to_ndarray().ravel() for part in resampler.resample(None)]
        decoded = np.concatenate([np.zeros(0, np.float32), *parts])
        decoded = _aligned(given, decoded)
        if rate != sample_rate:
            decoded = soxr.resample(decoded, rate, sample_rate)
        return np.pad(decoded, (0, max(0, len(waveform) - len(decoded))))[: len(waveform)].astype(np.float32)


def _aligned(given: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Cut the delay of a codec: the shift, up to 5,000 samples, at which the two are most alike."""
    from scipy.signal import correlate

    if not given.any() or not decoded.any():
        return decoded
    like = correlate(decoded, given, mode="full", method="fft")[len(given) - 1 :][:5000]
    return decoded[int(np.argmax(like)) :] if len(like) else decoded
