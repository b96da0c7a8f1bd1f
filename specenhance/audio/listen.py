"""Classify sound as it comes: a window slides over a stream, in constant memory. Needs no PyTorch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np

__all__ = ["Event", "Heard", "events", "listen", "pcm_blocks"]

BLOCK = 4096  # samples read at once


class Heard(NamedTuple):
    """What was heard in one window.

    Attributes:
        start: of the window, seconds from the start of the stream.
        end: of the window, seconds.
        probabilities: of each class, ``(classes,)``.
        level: of the window, dBFS: the root of the mean square of its samples against a sample of 1; -inf for silence.
        seconds: that computing the probabilities took.
    """

    start: float
    end: float
    probabilities: np.ndarray
    level: float
    seconds: float


class Event(NamedTuple):
    """One class in consecutive windows.

    Attributes:
        start: of the first window, seconds from the start of the stream.
        end: of the last window, seconds.
        label: the class's number.
        probability: the maximum over the windows.
    """

    start: float
    end: float
    label: int
    probability: float


class Listener(Protocol):
    """What :func:`listen` asks of a model."""

    sample_rate: int

    def probabilities(self, waveform: np.ndarray) -> np.ndarray:
        """Give the probability of each class, ``(classes,)``, of one waveform ``(samples,)``."""


def listen(model: Listener, blocks: Iterable[np.ndarray], window: int, hop: int) -> Iterator[Heard]:
    """Slide a window over a stream and classify what is in it, as soon as it is full.

    The last window ends where the stream ends, and is shorter only if the whole stream is.

    Args:
        model: gives the probabilities.
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
        probabilities = model.probabilities(samples)
        took = time.perf_counter() - began
        start, end = at / model.sample_rate, (at + len(samples)) / model.sample_rate
        return Heard(start, end, probabilities, _level(samples), took)

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


def _level(samples: np.ndarray) -> float:
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return 10 * math.log10(power) if power > 0 else -math.inf


def events(
    heard: Iterable[Heard],
    *,
    threshold: float = 0.4,
    margin: float = 0.2,
    level: float = -60.0,
    agree: int = 2,
) -> Iterator[Event]:
    """Decide what was heard in a stream: one event for each run of windows in which the same class is the likeliest.

    A window counts if it is loud enough, and its likeliest class probable enough and clearly ahead of the second. An event is
    given when its run of windows ends. What ends the stream early, an error or Ctrl-C, comes after the event that it ends.

    Args:
        heard: the windows of :func:`listen`.
        threshold: the minimum probability of the likeliest class.
        margin: the minimum difference between the probabilities of the likeliest class and of the second.
        level: the minimum level of the window, dBFS.
        agree: how many consecutive windows make an event, at least; a stream that has fewer needs all of its windows.

    Raises:
        ValueError: for a value out of range; and whatever ``heard`` raises.
    """
    for name, value in (("threshold", threshold), ("margin", margin)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} = {value}: expected a probability from 0 to 1")
    if math.isnan(level):
        raise ValueError(f"level = {level}: expected dBFS, such as -60; -inf takes every window")
    if agree < 1:
        raise ValueError(f"agree = {agree}: expected 1 window or more")
    run: Event | None = None
    windows = count = 0  # of the stream, of the run
    stopped: BaseException | None = None
    try:
        for window in heard:
            windows += 1
            label = _decided(window, threshold, margin, level)
            if run is not None and run.label == label:
                count += 1
                best = max(run.probability, float(window.probabilities[label]))
                run = run._replace(end=window.end, probability=best)
                continue
            if run is not None and count >= agree:
                yield run
            run, count = None, 0
            if label is not None:
                run, count = Event(window.start, window.end, label, float(window.probabilities[label])), 1
    except (Exception, KeyboardInterrupt) as error:
        stopped = error
    if run is not None and count >= min(agree, windows):
        yield run
    if stopped is not None:
        raise stopped


def _decided(window: Heard, threshold: float, margin: float, level: float) -> int | None:
    """Give the class that is heard in a window, or None."""
    label = int(window.probabilities.argmax())
    best, others = window.probabilities[label], np.delete(window.probabilities, label)
    clear = best >= threshold and best - others.max(initial=0.0) >= margin
    return label if clear and window.level >= level else None


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
