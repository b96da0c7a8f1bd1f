"""Classify a stream of sound: a window slides over it, in constant memory. Needs no PyTorch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np

__all__ = ["Event", "Heard", "events", "listen", "pcm_blocks", "windows"]

BLOCK = 4096  # samples per read


class Heard(NamedTuple):
    """The result of one window.

    Attributes:
        start: Start of the window, in seconds from the start of the stream.
        end: End of the window, in seconds from the start of the stream.
        probabilities: Probability of each class, ``(classes,)``.
        level: Level of the window in dBFS: the root mean square of its samples relative to 1. Silence has -inf.
        seconds: Time that the model took, in seconds.
    """

    start: float
    end: float
    probabilities: np.ndarray
    level: float
    seconds: float


class Event(NamedTuple):
    """One class that was recognised in consecutive windows.

    Attributes:
        start: Start of the first window, in seconds from the start of the stream.
        end: End of the last window, in seconds from the start of the stream.
        label: Number of the class.
        probability: Maximum probability of the class over the windows.
    """

    start: float
    end: float
    label: int
    probability: float


class Listener(Protocol):
    """What :func:`listen` needs of a model.

    Attributes:
        sample_rate: Sample rate of the waveforms that the model takes, in Hz.
    """

    sample_rate: int

    def probabilities(self, waveform: np.ndarray) -> np.ndarray:
        """Compute the probability of each class, ``(classes,)``, for one waveform ``(samples,)``."""


def listen(model: Listener, blocks: Iterable[np.ndarray], window: int, hop: int) -> Iterator[Heard]:
    """Slide a window over a stream and classify each window as soon as it is full.

    The last window ends where the stream ends. A window is shorter than ``window`` only if the whole stream is.

    Args:
        model: The model that gives the probabilities.
        blocks: Blocks of the stream, float32 ``(samples,)`` of any length, at the model's sample rate.
        window: Length of a window, in samples.
        hop: Distance from the start of one window to the start of the next, in samples, at most ``window``.

    Yields:
        One :class:`Heard` per window.

    Raises:
        ValueError: for a window or a hop out of range.

    >>> class Model:
    ...     sample_rate = 10
    ...
    ...     def probabilities(self, waveform):
    ...         return np.array([0.9, 0.1]) if waveform.any() else np.array([0.1, 0.9])
    >>> stream = [np.ones(10, np.float32), np.zeros(10, np.float32)]
    >>> for heard in listen(Model(), stream, window=10, hop=10):
    ...     print(heard.start, heard.end, heard.probabilities)
    0.0 1.0 [0.9 0.1]
    1.0 2.0 [0.1 0.9]
    """
    for at, samples in windows(blocks, window, hop):
        began = time.perf_counter()
        probabilities = model.probabilities(samples)
        took = time.perf_counter() - began
        start, end = at / model.sample_rate, (at + len(samples)) / model.sample_rate
        yield Heard(start, end, probabilities, _level(samples), took)


def windows(blocks: Iterable[np.ndarray], window: int, hop: int) -> Iterator[tuple[int, np.ndarray]]:
    """Cut a stream into windows, each as soon as it is full.

    The last window ends where the stream ends. A window is shorter than ``window`` only if the whole stream is.

    Args:
        blocks: Blocks of the stream, float32 ``(samples,)`` of any length.
        window: Length of a window, in samples.
        hop: Distance from the start of one window to the start of the next, in samples, at most ``window``.

    Yields:
        The place of the window's first sample in the stream, and the window ``(samples,)``.

    Raises:
        ValueError: for a window or a hop out of range.

    >>> [(at, samples.tolist()) for at, samples in windows([np.arange(5)], window=2, hop=2)]
    [(0, [0.0, 1.0]), (2, [2.0, 3.0]), (3, [3.0, 4.0])]
    """
    if not 1 <= hop <= window:
        raise ValueError(
            f"a window of {window} samples every {hop}: expected a hop from 1 sample to the window's length"
        )
    kept, start = np.zeros(0, np.float32), 0  # the samples from `start`, where the next window starts
    last, end = kept, 0  # the last full window, and where it ended
    for block in blocks:
        kept = np.concatenate([kept, block])
        while len(kept) >= window:
            last, end = kept[:window], start + window
            yield start, last
            kept, start = kept[hop:], start + hop
    total = start + len(kept)
    if total > end:
        rest = np.concatenate([last[:hop], kept])[-window:]
        yield total - len(rest), rest


def _level(samples: np.ndarray) -> float:
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return 10 * math.log10(power) if power > 0 else -math.inf


THRESHOLD, MARGIN = 0.4, 0.2
"""Defaults of :func:`events`."""


def events(
    heard: Iterable[Heard],
    *,
    threshold: float | Sequence[float] = THRESHOLD,
    margin: float = MARGIN,
    level: float = -60.0,
    agree: int = 2,
    patience: int = 0,
    debounce: float = 0.0,
) -> Iterator[Event]:
    """Turn windows into events. Consecutive windows with the same likeliest class are one event.

    A window counts only if it is loud enough, if its likeliest class is probable enough, and if that class is clearly more
    probable than the second. With a threshold for each class, as multi-label models have, a window has every class that reaches
    its own, and events of several classes may overlap.

    An event is given when its last window is known. If an error or Ctrl-C ends the stream, the last event is given first, then
    the error is raised.

    Args:
        heard: The windows of :func:`listen`.
        threshold: Minimum probability of the likeliest class. Or the minimum probability of each class by itself.
        margin: Minimum difference between the probabilities of the likeliest class and of the second. It does not count with a
            threshold for each class.
        level: Minimum level of the window, in dBFS.
        agree: Minimum number of windows of an event. In a stream of fewer windows, all must have the same class.
        patience: Number of windows in a row that may lie inside an event without its class. With 0 the windows of an event are
            consecutive. An event ends with its last window of the class.
        debounce: Minimum time in seconds from the end of an event to the start of the next one of the same class. An earlier
            one is left out.

    Yields:
        The events, in order.

    Raises:
        ValueError: for a value out of range. Errors of ``heard`` are raised too.

    >>> speech, music = np.array([0.9, 0.1]), np.array([0.1, 0.9])
    >>> windows = [Heard(i, i + 1, kind, level=-20, seconds=0.0) for i, kind in enumerate((speech, speech, music))]
    >>> list(events(windows))
    [Event(start=0, end=2, label=0, probability=0.9)]
    >>> windows = [Heard(i, i + 1, kind, -20, 0.0) for i, kind in enumerate((speech, speech, music, speech))]
    >>> [(event.start, event.end) for event in events(windows, patience=1)]
    [(0, 4)]
    """
    for name, value in (("threshold", threshold), ("margin", margin)):
        if not np.all((np.asarray(value) >= 0) & (np.asarray(value) <= 1)):
            raise ValueError(f"{name} = {value}: expected a probability from 0 to 1")
    if math.isnan(level):
        raise ValueError(f"level = {level}: expected dBFS, such as -60; -inf takes every window")
    if agree < 1:
        raise ValueError(f"agree = {agree}: expected 1 window or more")
    if patience < 0:
        raise ValueError(f"patience = {patience}: expected 0 windows or more")
    if not 0 <= debounce < math.inf:
        raise ValueError(f"debounce = {debounce}: expected seconds, 0 or more")
    ended: dict[int, float] = {}  # of each class, where its last event has ended

    def free(event: Event) -> bool:
        if event.start - ended.get(event.label, -math.inf) < debounce:
            return False
        ended[event.label] = event.end
        return True

    heard_in = _Runs(patience)
    count = 0
    stopped: BaseException | None = None
    try:
        for window in heard:
            count += 1
            for event, number in heard_in.after(window, _decided(window, threshold, margin, level)):
                if number >= agree and free(event):
                    yield event
    except (Exception, KeyboardInterrupt) as error:
        stopped = error
    for event, number in heard_in.left():
        if number >= min(agree, count) and free(event):
            yield event
    if stopped is not None:
        raise stopped


class _Runs:
    """Runs of windows of a class, in which ``patience`` windows in a row may be of no class or another one."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self._runs: dict[
            int, tuple[Event, int, int]
        ] = {}  # of each class: the run, its windows, windows since its last

    def after(self, window: Heard, labels: Sequence[int]) -> Iterator[tuple[Event, int]]:
        """Take the next window; give the runs that have ended, with their numbers of windows."""
        for other, (event, windows, since) in list(self._runs.items()):
            if other in labels:
                continue
            if since == self.patience:
                del self._runs[other]
                yield event, windows
            else:
                self._runs[other] = event, windows, since + 1
        for label in labels:
            probability = float(window.probabilities[label])
            if label in self._runs:
                event, windows, _ = self._runs[label]
                event = event._replace(end=window.end, probability=max(event.probability, probability))
                self._runs[label] = event, windows + 1, 0
            else:
                self._runs[label] = Event(window.start, window.end, label, probability), 1, 0

    def left(self) -> Iterator[tuple[Event, int]]:
        """Give the runs that the stream's end has ended, by their start."""
        for event, windows, _ in sorted(self._runs.values(), key=lambda run: run[0].start):
            yield event, windows
        self._runs.clear()


def _decided(window: Heard, threshold: float | Sequence[float], margin: float, level: float) -> list[int]:
    """List the classes of a window: one or none, or any number with a threshold for each class."""
    if window.level < level:
        return []
    if not isinstance(threshold, float | int):
        return np.flatnonzero(window.probabilities >= np.asarray(threshold)).tolist()
    label = int(window.probabilities.argmax())
    best, others = window.probabilities[label], np.delete(window.probabilities, label)
    clear = best >= threshold and best - others.max(initial=0.0) >= margin
    return [label] if clear else []


def pcm_blocks(stream: BinaryIO) -> Iterator[np.ndarray]:
    """Read a stream of raw PCM: 16 bits per sample, little-endian, one channel.

    A block has the samples that have arrived, so that a live stream is not delayed. Half a sample at the end is left out.

    Args:
        stream: The stream, opened for reading bytes.

    Yields:
        Blocks float32 ``(samples,)`` in [-1, 1).

    >>> import io
    >>> list(pcm_blocks(io.BytesIO(bytes([0, 0, 0, 64]))))
    [array([0. , 0.5], dtype=float32)]
    """
    read = getattr(stream, "read1", stream.read)
    rest = b""
    while data := read(2 * BLOCK):
        data = rest + data
        whole = len(data) // 2 * 2
        rest = data[whole:]
        yield np.frombuffer(data[:whole], "<i2").astype(np.float32) / 32768
