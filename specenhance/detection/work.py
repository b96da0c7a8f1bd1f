"""Long and many sounds through a model: windows in batches, files in several processes, what is done kept in a journal."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from typing import Any, NamedTuple, Protocol

import numpy as np

from specenhance._children import end_with_parent
from specenhance._cores import cores
from specenhance._imports import import_modules, imported_modules
from specenhance.audio.listen import windows
from specenhance.audio.reading import read_blocks
from specenhance.detection.journal import Journal

__all__ = ["Collects", "Job", "Part", "do", "parts_of", "processes", "work_through"]

PART_BYTES = 8 * 2**20
"""A part of the work is full when its files have this many bytes."""

BATCHES = 8
"""It is full, too, when it has as many files as this number of batches: fewer would not keep several threads at work."""

AHEAD = 2  # parts that wait for each process
TINY = 8  # samples; a batch of so short windows would look like one of many channels


class Collects(Protocol):
    """What becomes of the windows of one sound."""

    def add(self, start: float, end: float, row: np.ndarray) -> None:
        """Take what the model gives for a window, from ``start`` to ``end`` in seconds. Windows come in their order."""

    def result(self) -> Any:
        """Give what is kept of the sound, as JSON has it."""


@dataclass(frozen=True)
class Job:
    """What is done with every sound. All of it can be sent to another process.

    Attributes:
        open_model: Opens the model, which then computes on one thread.
        compute: Computes a batch of windows ``(B, samples)`` with the model; gives a row for each.
        collector: Makes what collects the windows of one sound.
        sample_rate: Sample rate of the model, in Hz.
        window: Length of a window, in samples.
        hop: Distance from the start of one window to the start of the next, in samples.
        batch_size: Number of windows that are computed together.
        allow_truncated: Whether to use incomplete sound files too, as far as they can be read.
    """

    open_model: Callable[[], Any]
    compute: Callable[[Any, np.ndarray], np.ndarray]
    collector: Callable[[], Collects]
    sample_rate: int
    window: int
    hop: int
    batch_size: int = 32
    allow_truncated: bool = False


class Part(NamedTuple):
    """Some of the sounds, which one process works through. Batches never hold windows of two parts.

    So a sound's result depends on its part only, not on what was done before a kill, nor on the number of processes.

    Attributes:
        key: A checksum of the files' paths, sizes and times of change.
        sounds: Their paths.
    """

    key: str
    sounds: list[str]


def parts_of(sounds: Sequence[str], batch_size: int) -> list[Part]:
    """Divide sounds into parts: a long recording is one, many short clips are another.

    Args:
        sounds: The paths, in order.
        batch_size: Number of windows that are computed together.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sounds = [f"{folder}/{name}.wav" for name in "abc"]
    ...     for sound in sounds:
    ...         open(sound, "w").close()
    ...     [len(part.sounds) for part in parts_of(3 * sounds, batch_size=1)]
    [8, 1]
    """
    parts: list[Part] = []
    stamps: list[tuple[str, int, int]] = []

    def close() -> None:
        if stamps:
            key = hashlib.sha256(json.dumps(stamps).encode()).hexdigest()
            parts.append(Part(key, [path for path, _, _ in stamps]))
            stamps.clear()

    size = 0
    for path in sounds:
        try:
            found = os.stat(path)
            stamp = (path, found.st_size, found.st_mtime_ns)
        except OSError:  # told when it is read
            stamp = (path, 0, 0)
        if stamps and size + stamp[1] > PART_BYTES:
            close()
        size = size + stamp[1] if stamps else stamp[1]
        stamps.append(stamp)
        if len(stamps) == BATCHES * batch_size:
            close()
    close()
    return parts


def processes() -> int:
    """Give the number of processes that is best where nothing is known: one for every two cores, each with two threads.

    On two cores one process was a little faster than two, which each load the libraries and the model
    (``benchmarks/predict.py``).

    >>> 1 <= processes() <= cores()
    True
    """
    return max(1, cores() // 2)


def do(job: Job, model: Any, sounds: Sequence[str], threads: int = 1) -> list[dict[str, Any]]:
    """Work through the sounds of one part, in constant memory.

    Args:
        job: What is done.
        model: The model, opened.
        sounds: The paths.
        threads: Number of batches that are computed at the same time, each on its own thread.

    Returns:
        For each sound ``{"seconds": ..., "result": ...}``, or ``{"error": ...}`` for one that cannot be read.

    Raises:
        ImportError: if a package is missing that reads sound of this kind.
    """
    batches = _Batches(job, model, threads)
    found: list[dict[str, Any]] = []
    collectors: list[Collects | None] = []
    with batches:
        for path in sounds:
            collector, end = job.collector(), 0
            try:
                blocks = read_blocks(path, job.sample_rate, allow_truncated=job.allow_truncated)
                for start, samples in windows(blocks, job.window, job.hop):
                    end = start + len(samples)
                    batches.add(collector, start, samples)
                if not end:
                    raise ValueError(f"{path}: holds no sound; remove it")
            except (OSError, ValueError) as error:
                found.append({"error": str(error)})
                collectors.append(None)
            else:
                found.append({"seconds": end / job.sample_rate})
                collectors.append(collector)
    for one, done in zip(found, collectors, strict=True):
        if done is not None:
            one["result"] = done.result()
    return found


class _Batches:
    """Windows of one length wait for each other until they are a batch. Batches are handed on in their order."""

    def __init__(self, job: Job, model: Any, threads: int) -> None:
        self.job, self.model, self.threads = job, model, threads
        self._waiting: dict[int, list[tuple[Collects, int, np.ndarray]]] = {}
        self._computing: deque[tuple[list[tuple[Collects, int, np.ndarray]], Future[np.ndarray]]] = deque()

    def __enter__(self) -> _Batches:
        self._pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            if kind is None:
                for length in list(self._waiting):
                    self._compute(length)
                self._hand_on(0)
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)

    def add(self, collector: Collects, start: int, samples: np.ndarray) -> None:
        waiting = self._waiting.setdefault(len(samples), [])
        waiting.append((collector, start, samples))
        if len(waiting) == self.job.batch_size or len(samples) <= TINY:
            self._compute(len(samples))

    def _compute(self, length: int) -> None:
        batch = self._waiting.pop(length)
        stacked = np.stack([samples for _, _, samples in batch])
        if self._pool is None:
            self._collect(batch, self.job.compute(self.model, stacked))
            return
        self._computing.append((batch, self._pool.submit(self.job.compute, self.model, stacked)))
        self._hand_on(self.threads)  # one batch more than is computed waits

    def _hand_on(self, left: int) -> None:
        while len(self._computing) > left:
            batch, future = self._computing.popleft()
            self._collect(batch, future.result())

    def _collect(self, batch: list[tuple[Collects, int, np.ndarray]], rows: np.ndarray) -> None:
        rate = self.job.sample_rate
        for (collector, start, samples), row in zip(batch, rows, strict=True):
            collector.add(start / rate, (start + len(samples)) / rate, row)


def work_through(
    job: Job,
    parts: Sequence[Part],
    journal: Journal,
    jobs: int,
    told: Callable[[int, float], None] = lambda sounds, seconds: None,
    model: Any = None,
) -> None:
    """Do what the journal does not have yet.

    Args:
        job: What is done.
        parts: The parts of the work.
        journal: Gets each part that is done: a list as of :func:`do`.
        jobs: Number of processes. With 1 all is done in this one. Few parts are done in fewer processes; each process computes
            on its share of the cores.
        told: Is called after each part that is done, with the number of its sounds and their seconds.
        model: The model, if it is open in this process already.

    Raises:
        ChildProcessError: if a process was killed. The same command then goes on.
        Exception: what opening the model raises, and ImportError as :func:`do`.
    """
    left = [part for part in parts if part.key not in journal]
    jobs = max(1, min(jobs, len(left)))

    def done(part: Part, found: list[dict[str, Any]]) -> None:
        journal.add(part.key, found)
        told(len(found), sum(one.get("seconds", 0.0) for one in found))

    if jobs == 1:
        opened = job.open_model() if model is None and left else model
        for part in left:
            done(part, do(job, opened, part.sounds, threads=cores()))
        return
    with closing(_in_processes(job, left, jobs)) as ready:  # a Ctrl-C in done() ends the processes too
        for part, found in ready:
            done(part, found)


def _in_processes(
    job: Job, parts: Sequence[Part], jobs: int
) -> Generator[tuple[Part, list[dict[str, Any]]], None, None]:
    start = (job, max(1, cores() // jobs), imported_modules())
    others = set(active_children())
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, start) as pool:
        waiting: dict[Future[list[dict[str, Any]]], Part] = {}
        rest = iter(parts)
        try:
            while True:
                while len(waiting) < AHEAD * jobs and (part := next(rest, None)) is not None:
                    waiting[pool.submit(_do_here, part.sounds)] = part
                if not waiting:
                    return
                ready, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ready:
                    yield waiting.pop(future), future.result()
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "one of the processes was killed, or could not open the model, perhaps for want of memory; the same command "
                "goes on where it stopped, with fewer --jobs if memory is short"
            ) from error
        except BaseException:
            for process in set(active_children()) - others:
                process.terminate()
            # It waits: at the interpreter's end the pool's thread could be closing its pipes.
            pool.shutdown(cancel_futures=True)
            raise


_here: dict[str, Any] = {}  # of a process: what it does, with which model


def _begin(job: Job, threads: int, modules: Sequence[str]) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that has started this one
    end_with_parent()
    import_modules(modules)
    _here.update(job=job, threads=threads)


def _do_here(sounds: Sequence[str]) -> list[dict[str, Any]]:
    job: Job = _here["job"]
    if "model" not in _here:  # here and not in _begin, so that an error is told as it is
        _here["model"] = job.open_model()
    return do(job, _here["model"], sounds, _here["threads"])
