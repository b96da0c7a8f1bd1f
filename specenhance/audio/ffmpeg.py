"""Sound files that FFmpeg reads (MP3, M4A, OGG, Opus, WMA, WebM, ...), by the package av (PyAV)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from specenhance._missing import missing
from specenhance.audio.errors import CURE, AudioError, damaged, ends_early
from specenhance.audio.samples import scaled

try:
    import av
except ImportError as error:
    raise missing(error, "reading MP3, M4A, OGG, Opus, WMA and the like needs av (PyAV)", "av") from error

__all__ = ["FFmpegSound", "open_ffmpeg"]

# FFmpeg knows playlists and scripts too, which name other files; a sound file from a stranger must not.
FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,gsm,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpegts,nistsphere,ogg,"
    "tta,voc,w64,wav,wv"
)
# What states no length in its header: FFmpeg guesses one from the size of the file.
GUESSED = ("aac", "ac3", "amr", "eac3", "gsm", "mpegts")
GAP = 0.01  # s; timestamps in whole milliseconds are off by less

_log = logging.getLogger(__name__)


@contextmanager
def open_ffmpeg(path: Path, file: BinaryIO, allow_truncated: bool) -> Iterator[FFmpegSound]:
    """Open a file that is open for reading already."""
    try:
        container = av.open(file, metadata_errors="ignore", options={"format_whitelist": FORMATS})
    except (av.FFmpegError, ValueError) as error:
        raise _no_sound_file(path, _reason(error)) from error
    with container:
        if not container.streams.audio:
            raise AudioError(f"{path}: holds no sound, only {', '.join(s.type for s in container.streams)}; remove it")
        yield FFmpegSound(path, file, container, allow_truncated)


class FFmpegSound:
    """An open sound file; see :class:`specenhance.audio.opening.Sound`. Of several sound tracks it is the first."""

    floats = False  # what these formats decode to stays near [-1, 1]

    def __init__(self, path: Path, file: BinaryIO, container: Any, allow_truncated: bool) -> None:
        self._path, self._container, self._allow_truncated = path, container, allow_truncated
        self._stream = container.streams.audio[0]
        self.rate: int = self._stream.rate or 0
        if self.rate < 1:
            raise _no_sound_file(path, "it names no sample rate")
        self.seconds = self._stated(file)

    def skim(self) -> float:
        """Give the seconds of sound that are there, by the file's packets; see :class:`specenhance.audio.opening.Sound`."""
        seconds = longest = 0.0
        try:
            for packet in self._container.demux(self._stream):
                length = float((packet.duration or 0) * packet.time_base) if packet.time_base else 0.0
                seconds, longest = seconds + length, max(longest, length)
        except av.FFmpegError as error:
            raise damaged(self._path, seconds, _reason(error)) from error
        if not seconds:  # packets that do not say how long they are
            return self.seconds or 0.0
        self._check_end(seconds, longest)
        return seconds

    def blocks(self, start: float = 0.0) -> Iterator[np.ndarray]:
        """Give the sound from ``start`` seconds on: mono float32 ``(samples,)`` each.

        What lies before is decoded too: these formats find a place only roughly.
        """
        rate, skip = self.rate, round(start * self.rate)
        end = 0  # samples so far
        longest = 0
        first: float | None = None
        for frame in self._frames():
            if frame.sample_rate != rate:
                raise AudioError(
                    f"{self._path}: changes from {rate} to {frame.sample_rate} Hz after {end / rate:.2f} s; convert it"
                )
            block = _mono(frame)
            longest = max(longest, len(block))
            if frame.pts is not None:
                at = float(frame.pts * frame.time_base)
                first = at if first is None else first
                missing = at - first - end / rate
                if missing > GAP:
                    if not self._allow_truncated:
                        raise AudioError(
                            f"{self._path}: misses {missing:.2f} s of sound after {end / rate:.2f} s, damaged or never "
                            f"written; {CURE}, with silence in the gap"
                        )
                    block = np.concatenate([np.zeros(round(missing * rate), np.float32), block])
            end += len(block)
            if skip >= len(block):
                skip -= len(block)
            else:
                yield block[skip:]
                skip = 0
        self._check_end(end / rate, longest / rate)

    def _check_end(self, there: float, longest: float) -> None:
        """Refuse a file with fewer seconds than stated; ``longest`` is that of its frames, in seconds."""
        # An encoder's delay and its padding may be counted or not.
        enough = (self.seconds or 0.0) - max(0.1, 2 * longest)
        if there < enough and not self._allow_truncated:
            raise ends_early(self._path, there, self.seconds or 0.0)

    def _frames(self) -> Iterator[Any]:
        decoded = 0
        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    if not self._allow_truncated:
                        raise damaged(self._path, decoded / self.rate, _reason(error)) from error
                    continue
                for frame in frames:
                    decoded += frame.samples
                    yield frame
        except av.FFmpegError as error:
            raise damaged(self._path, decoded / self.rate, _reason(error)) from error

    def _stated(self, file: BinaryIO) -> float | None:
        """Give the seconds that the file's header states; None where there is none and FFmpeg only guesses."""
        name, codec = self._container.format.name, self._stream.codec_context.name
        if name in GUESSED or (name == "mp3" and not _mp3_states_length(self._path)):
            return None
        if name == "ogg" and not _ogg_is_finished(self._path):
            _log.warning("%s: its last page does not say that it is the last; the file may have been cut", self._path)
        if codec.startswith("pcm_") and self._stream.frames:
            return float(self._stream.frames / self.rate)
        if self._stream.duration:
            return float(self._stream.duration * self._stream.time_base)
        return self._container.duration / av.time_base if self._container.duration else None


def _mp3_states_length(path: Path) -> bool:
    """Say whether an MP3's first frame holds the number of its frames (a Xing, Info or VBRI header)."""
    with path.open("rb") as file:
        start = file.read(10)
        if start[:3] == b"ID3":  # a tag in front, its size in four groups of seven bits
            file.seek(10 + sum(byte << shift for byte, shift in zip(start[6:10], (21, 14, 7, 0), strict=True)))
        else:
            file.seek(0)
        frame = file.read(4096)
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))


def _ogg_is_finished(path: Path) -> bool:
    """Say whether the last page of an OGG is whole and bears the mark of the last."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65307))  # no page is longer
        end = file.read()
    page = end[end.rfind(b"OggS") :] if b"OggS" in end else b""
    if len(page) < 27 or len(page) < 27 + page[26]:
        return False
    whole = 27 + page[26] + sum(page[27 : 27 + page[26]])  # header, lengths of its segments, the segments
    return bool(page[5] & 4) and len(page) >= whole


def _mono(frame: Any) -> np.ndarray:
    """Average the channels of a decoded frame: float32 ``(samples,)``, integers scaled to [-1, 1)."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:  # channels side by side: (1, samples * channels)
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind != "f":
        samples = scaled(samples)
    return samples.mean(axis=0, dtype=np.float32) if len(samples) > 1 else samples[0].astype(np.float32, copy=False)


def _no_sound_file(path: Path, reason: str) -> AudioError:
    return AudioError(f"{path}: cannot be decoded ({reason}); is it a sound file, and whole? Replace or remove it")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
