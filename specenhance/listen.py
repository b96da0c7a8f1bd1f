"""Classify sound as it comes: a window slides over a stream, in constant memory. Needs no PyTorch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np

__all__ = ["Heard", "listen", "pcm_blocks"]

BLOCK = 4096  # samples read at once


class Heard(NamedTuple):
    """What was heard in one window.

    Attributes:
        start: of the window, seconds from the start of the stream.
        end: of the window, seconds.
        shares: of each class, ``(classes,)``.
        seconds: that computing them took.
    """

    start: float
    end: float
    shares: np.ndarray
    seconds: float


class Listener(Protocol):
    """What :func:`listen` asks of a model."""

    sample_rate: int

    def shares(self, waveform: np.ndarray) -> np.ndarray:
        """Give the share of each class, ``(classes,)``, of one waveform ``(samples,)``."""


def listen(model: Listener, blocks: Iterable[np.ndarray], window: int, hop: int) -> Iterator[Heard]:
    """Slide a window over a stream and classify what is in it, as soon as it is full.

    The last window ends where the stream ends, and is shorter only if the whole stream is.

    Args:
        model: gives the shares.
        blocks: the stream, float32 ``(samples,)`` each at the model's rate, of any length.
        window: samples of a window.
        hop: samples from the start of one window to the next, at most ``window``.

    Raises:
        ValueError: for a window or a hop out of range.
    """
    if not 1 <= hop <= window:
        raise ValueError(
            f"a window of {window} samples every {hop}: expected a hop from 1 sample to the window's length"
        )

    def heard(samples: np.ndarray, at: int) -> Heard:
        began = time.perf_counter()
        shares = model.shares(samples)
        took = time.perf_counter() - began
        return Heard(at / model.sample_rate, (at + len(samples)) / model.sample_rate, shares, took)

    kept, start = np.zeros(0, np.float32), 0  # the stream from sample `start` on, where the next window starts
    last, end = kept, 0  # the last window that was full, and where it ended
    for block in blocks:
        kept = np.concatenate([kept, block])
        while len(kept) >= window:
            last, end = kept[:window], start + window
            yield heard(last, start)
            kept, start = kept[hop:], start + hop
    total = start + len(kept)
    if total > end:
        rest = np.concatenate([last[:hop], kept])[-window:]
        yield heard(rest, total - len(rest))


def pcm_blocks(stream: BinaryIO) -> Iterator[np.ndarray]:
    """Read raw PCM, 16 bits a sample, little-endian, one channel, block by block: float32 ``(samples,)`` in [-1, 1).

    A block is what has come, so that a live stream is heard at once. Half a sample at the end is left out.
    """
    read = getattr(stream, "read1", stream.read)
    rest = b""
    while data := read(2 * BLOCK):
        data = rest + data
        whole = len(data) // 2 * 2
        rest = data[whole:]
        yield np.frombuffer(data[:whole], "<i2").astype(np.float32) / 32768
