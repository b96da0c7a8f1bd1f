"""Where the runs of a comparison are executed: one after the other here, or in processes that share this machine."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from typing import Any

from specenhance._children import end_with_parent
from specenhance._cores import cores
from specenhance._imports import import_modules, imported_modules
from specenhance._stopping import SIGNALS, Stopped, stop_signals
from specenhance.experiments.grid import Run

__all__ = ["Place", "Work", "here", "processes"]

Work = Callable[[Run], Any]
"""What is done with a run. It leaves a run alone that is done, and takes up one that was stopped."""

Place = Callable[[Work, Sequence[Run]], None]
"""Where the work of all runs is done. It returns when all are done, and raises the first error of a run."""


def here(work: Work, runs: Sequence[Run]) -> None:
    """Do the work of all runs, one after the other.

    Args:
        work: What is done with a run. It must leave a run alone that is done.
        runs: The runs, in order.

    >>> from pathlib import Path
    >>> from specenhance.training.recipe import Recipe
    >>> here(lambda run: print(run.name), [Run("tfe4", 0, Path("runs/0"), Recipe())])
    tfe4
    """
    for run in runs:
        work(run)


def processes(work: Work, runs: Sequence[Run], jobs: int) -> None:
    """Do the work of all runs in processes, each with its share of the cores, and with a GPU of its own where there are some.

    Args:
        work: As for :func:`here`. It is sent to the processes, so it must be a function of a module, or a partial of one.
        runs: The runs; the first ones start first.
        jobs: The number of processes.

    Raises:
        RuntimeError: if a process was killed. The same command then goes on where it was stopped.
        Stopped: if a signal has asked for a stop. The processes keep the steps that they have finished.
        Exception: the first error of a run. Runs that have begun are finished first, others are not begun.
    """
    import torch

    gpus = torch.cuda.device_count()
    context = get_context("spawn")
    numbers = context.Queue()
    for number in range(jobs):
        numbers.put(number)
    threads = max(1, cores() // jobs)
    start = (numbers, threads, gpus, imported_modules())
    with stop_signals(), ProcessPoolExecutor(jobs, context, _share, start) as pool:
        waiting = [pool.submit(_until_stopped, work, run) for run in runs]
        try:
            done, _ = wait(waiting, return_when=FIRST_EXCEPTION)
            for future in waiting:
                future.cancel()
            for future in done:
                future.result()  # of a process that somebody has stopped: Stopped
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a process of the comparison was killed; the same command goes on where it stopped"
            ) from error
        except Stopped:
            for process in active_children():
                process.terminate()  # it keeps the step that it is at
            # It waits: at the interpreter's end the pool's thread could be closing its pipes.
            pool.shutdown(cancel_futures=True)
            raise


_asked: list[int] = []  # of a process: the signals that have asked it to stop


def _until_stopped(work: Work, run: Run) -> None:
    """Do the work of a run, unless the process was asked to stop: it may have the next run already.

    The process must not end by itself: the pool would end the others before they have kept their steps.
    """
    if not _asked:
        try:
            work(run)
        except Stopped as stop:
            _asked.append(stop.signum)
    if _asked:
        raise Stopped(_asked[0])


def _share(numbers: Any, threads: int, gpus: int, modules: Sequence[str]) -> None:
    """Prepare a process: its stop, its threads, its GPU, its loggers' records, what the user's modules register, its end."""
    for signum in SIGNALS:
        signal.signal(signum, lambda signum, frame: _asked.append(signum))  # between runs; each run has its own handler
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(numbers.get() % gpus)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    import torch

    torch.set_num_threads(threads)
    import_modules(modules)
    end_with_parent()
