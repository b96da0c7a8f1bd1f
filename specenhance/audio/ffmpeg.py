"""Reading with FFmpeg (the package av, also called PyAV): MP3, M4A, OGG, Opus, WMA, WebM, ..."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from specenhance._missing import missing
from specenhance.audio.errors import CURE, AudioError, damaged, ends_early
from specenhance.audio.ogg import read_pages
from specenhance.audio.samples import scaled

try:
    import av
except ImportError as error:
    raise missing(error, "reading MP3, M4A, OGG, Opus, WMA and the like needs av (PyAV)", "av") from error

__all__ = ["FFmpegSound", "open_ffmpeg"]

# FFmpeg also reads playlists and scripts. These name other files, and a sound file from a stranger must not do that.
FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,gsm,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpegts,nistsphere,ogg,"
    "tta,voc,w64,wav,wv"
)
# The headers of these formats state no length. FFmpeg guesses one from the size of the file.
GUESSED = ("aac", "ac3", "amr", "eac3", "gsm", "mpegts")
GAP = 0.01  # s, more than the error of a timestamp in whole milliseconds

_log = logging.getLogger(__name__)


@contextmanager
def open_ffmpeg(path: Path, file: BinaryIO, allow_truncated: bool) -> Iterator[FFmpegSound]:
    """Open the first sound track of a file.

    Args:
        path: The file, for messages.
        file: The same file, opened for reading.
        allow_truncated: Whether to read what is there of an incomplete file, with silence for a missing part.

    Raises:
        AudioError: for a file that FFmpeg cannot decode, or that holds no sound.

    >>> import tempfile, soundfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.wav")
    ...     soundfile.write(path, np.zeros(1600), 16000)
    ...     with path.open("rb") as file, open_ffmpeg(path, file, allow_truncated=False) as sound:
    ...         print(sound.rate, sound.seconds, sum(len(block) for block in sound.blocks()))
    16000 0.1 1600
    """
    try:
        container = av.open(file, metadata_errors="ignore", options={"format_whitelist": FORMATS})
    except (av.FFmpegError, ValueError) as error:
        raise _no_sound_file(path, _reason(error)) from error
    with container:
        if not container.streams.audio:
            raise AudioError(f"{path}: holds no sound, only {', '.join(s.type for s in container.streams)}; remove it")
        yield FFmpegSound(path, file, container, allow_truncated)


class FFmpegSound:
    """An open sound file, see :class:`specenhance.audio.opening.Sound`. :func:`open_ffmpeg` makes one."""

    floats = False  # samples of these formats stay near [-1, 1]

    def __init__(self, path: Path, file: BinaryIO, container: Any, allow_truncated: bool) -> None:
        self._path, self._container, self._allow_truncated = path, container, allow_truncated
        self._stream = container.streams.audio[0]
        self.rate: int = self._stream.rate or 0
        if self.rate < 1:
            raise _no_sound_file(path, "it names no sample rate")
        self.seconds = self._stated()
        if container.format.name == "ogg":
            self._check_pages(file)

    def skim(self) -> float:
        """Add up the lengths of the file's packets, in seconds; see :class:`specenhance.audio.opening.Sound`."""
        seconds = longest = 0.0
        try:
            for packet in self._container.demux(self._stream):
                length = float((packet.duration or 0) * packet.time_base) if packet.time_base else 0.0
                seconds, longest = seconds + length, max(longest, length)
        except av.FFmpegError as error:
            raise damaged(self._path, seconds, _reason(error)) from error
        if not seconds:  # the packets do not state their lengths
            return self.seconds or 0.0
        self._check_end(seconds, longest)
        return seconds

    def blocks(self, start: float = 0.0) -> Iterator[np.ndarray]:
        """Decode the sound from ``start`` seconds to the end, in mono float32 blocks ``(samples,)``.

        The part before ``start`` is decoded too, because these formats can only seek to an approximate position.
        """
        rate, skip = self.rate, round(start * self.rate)
        end = 0  # number of samples so far
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
        """Refuse a file that is shorter than its header states. ``longest`` is its longest frame, in seconds."""
        # Some headers count the delay and the padding of the encoder, others do not.
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

    def _check_pages(self, file: BinaryIO) -> None:
        """Refuse an Ogg file with a damaged or an incomplete page, because FFmpeg would leave it out without an error."""
        position = file.tell()  # FFmpeg reads the same file
        pages = read_pages(file)
        file.seek(position)
        if pages.damage is not None and not self._allow_truncated:
            raise AudioError(
                f"{self._path}: is damaged at byte {pages.damage:,}: that page is not as its checksum says; {CURE}"
            )
        if pages.missing and not self._allow_truncated:
            raise AudioError(
                f"{self._path}: ends after {self.seconds or 0.0:.2f} s, in a page that should have {pages.missing:,} "
                f"bytes more; {CURE}"
            )
        if not pages.finished and pages.damage is None:
            _log.warning("%s: its last page does not say that it is the last; the file may have been cut", self._path)

    def _stated(self) -> float | None:
        """Give the length that the file's header states, in seconds. Give None if FFmpeg only guesses it."""
        name, codec = self._container.format.name, self._stream.codec_context.name
        if name in GUESSED or (name == "mp3" and not _mp3_states_length(self._path)):
            return None
        if codec.startswith("pcm_") and self._stream.frames:
            return float(self._stream.frames / self.rate)
        if self._stream.duration:
            return float(self._stream.duration * self._stream.time_base)
        return self._container.duration / av.time_base if self._container.duration else None


def _mp3_states_length(path: Path) -> bool:
    """Tell whether the first frame of an MP3 states the number of frames, in a Xing, Info or VBRI header."""
    with path.open("rb") as file:
        start = file.read(10)
        if start[:3] == b"ID3":  # a tag comes first; its size is in four groups of seven bits
            file.seek(10 + sum(byte << shift for byte, shift in zip(start[6:10], (21, 14, 7, 0), strict=True)))
        else:
            file.seek(0)
        frame = file.read(4096)
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))


def _mono(frame: Any) -> np.ndarray:
    """Average the channels of a decoded frame: float32 ``(samples,)``. Integers are scaled to [-1, 1)."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:  # interleaved channels: (1, samples * channels)
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind != "f":
        samples = scaled(samples)
    return samples.mean(axis=0, dtype=np.float32) if len(samples) > 1 else samples[0].astype(np.float32, copy=False)


def _no_sound_file(path: Path, reason: str) -> AudioError:
    return AudioError(f"{path}: cannot be decoded ({reason}); is it a sound file, and whole? Replace or remove it")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
