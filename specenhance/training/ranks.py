"""Several processes that train one model: this one is rank 0, the others are started beside it and do the same."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import torch.distributed

from specenhance._imports import import_modules, imported_modules
from specenhance.training.stopping import Stopped

__all__ = ["RankError", "ranks"]

PATIENCE = 30.0  # s for the others to finish the step after which a run is stopped


class RankError(OSError):
    """Another process of a run has failed."""


@contextmanager
def ranks(count: int, work: Callable[..., object], *args: Any) -> Iterator[None]:
    """Run ``work(*args)`` in ``count - 1`` new processes, while the block does the same as rank 0.

    Lightning finds in the environment that its processes are there already. All of them are on this machine.

    Args:
        count: of processes, this one among them; 1 starts none.
        work: a function of a module, which a new process can import.
        *args: for it; they are pickled.

    Raises:
        RankError: if one of the others failed; it says which and why. What the block then met, the loss of the others,
            is its cause.
    """
    if count == 1:
        yield
        return
    context = get_context("spawn")
    port = _free_port()
    errors = context.SimpleQueue()
    others = [
        context.Process(target=_other, args=(rank, port, errors, imported_modules(), work, args))
        for rank in range(1, count)
    ]
    before = dict(os.environ)
    try:
        for process in others:
            process.start()
        os.environ.update(_environment(0, port))
        yield
        for process in others:
            process.join()
    except (Exception, Stopped) as error:
        _end(others, patience=0 if isinstance(error, Exception) else PATIENCE)
        if isinstance(error, Exception) and not errors.empty():
            raise RankError(errors.get()) from error
        raise
    finally:
        _end(others, patience=0)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for name in _environment(0, port):
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]
    failed = [rank for rank, process in enumerate(others, start=1) if process.exitcode]
    if failed:
        reason = errors.get() if not errors.empty() else f"exit code {others[failed[0] - 1].exitcode}"
        raise RankError(reason)


def _end(processes: list[Any], patience: float) -> None:
    """Wait some seconds for processes to end by themselves, then end them."""
    until = time.monotonic() + patience
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _environment(rank: int, port: int) -> dict[str, str]:
    return {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def _other(
    rank: int, port: int, errors: Any, modules: list[str], work: Callable[..., object], args: tuple[Any, ...]
) -> None:
    os.environ.update(_environment(rank, port))
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    logging.getLogger("specenhance.training").setLevel(logging.ERROR)  # rank 0 logs the run's news and warnings
    try:
        import_modules(modules)
        work(*args)
    except Stopped:  # rank 0 says so
        pass
    except Exception as error:
        errors.put(f"the process of rank {rank} failed: {error or type(error).__name__}")
        os._exit(1)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _end_with(parent: int) -> None:
    """Leave when the parent is gone: one that was killed cannot say so, and its run may soon be taken up again."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
