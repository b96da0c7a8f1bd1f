"""Several processes that train one model. This process is rank 0. It starts the others, which do the same."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch.distributed
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from specenhance._imports import import_modules, imported_modules
from specenhance._stopping import Stopped

__all__ = ["RankError", "failure", "free_port", "process_group", "ranks"]

PATIENCE = 30.0  # s; time for the other processes to finish the last step of a run that is stopped


class RankError(OSError):
    """A process of the run has failed.

    Attributes:
        told: whether another process tells the message.
    """

    told = False


def failure(rank: int, error: BaseException) -> str:
    """Say in a line that the process of a rank has failed, and why.

    >>> failure(1, MemoryError())
    'the process of rank 1 failed: MemoryError'
    """
    return f"the process of rank {rank} failed: {str(error) or type(error).__name__}"


@contextmanager
def process_group(environment: Mapping[str, str]) -> Iterator[None]:
    """Tell Lightning by environment variables where the processes of a run meet. End their connection after the block.

    Args:
        environment: the variables. They get their old values back.
    """
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for name in environment:
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]


@contextmanager
def ranks(count: int, work: Callable[..., object], *args: Any) -> Iterator[None]:
    """Run ``work(*args)`` in ``count - 1`` new processes, while the block does the same as rank 0.

    All processes are on this machine. Environment variables tell Lightning that they are already running. A new process imports
    the modules of :func:`specenhance._imports.import_modules` first. Only rank 0 logs.

    Args:
        count: number of processes, including this one. 1 starts none.
        work: a function of a module, so that a new process can import it.
        *args: its arguments. They are pickled.

    Raises:
        RankError: if another process failed. The message says which one and why. The error of the block, which lost the other
            process, is its cause.
    """
    if count == 1:
        yield
        return
    port = free_port()
    others = start_processes(_other, (port, imported_modules(), work, args), count - 1, join=False)
    with process_group(_environment(0, port)):
        try:
            yield
            while not others.join():
                pass
        except (ProcessRaisedException, ProcessExitedException) as error:
            raise _rank_error(error) from None
        except Stopped:
            _end(others.processes, PATIENCE)
            raise
        except Exception as error:
            try:
                others.join(timeout=1)
            except (ProcessRaisedException, ProcessExitedException) as cause:
                raise _rank_error(cause) from error
            raise
        finally:
            _end(others.processes, patience=0)


def _rank_error(error: ProcessRaisedException | ProcessExitedException) -> RankError:
    """Say in a line what PyTorch says in a traceback of another process."""
    if isinstance(error, ProcessExitedException):
        return RankError(f"the process of rank {error.error_index + 1} failed: exit code {error.exit_code}")
    return RankError(str(error).rpartition(f"{RankError.__name__}: ")[2].strip())


def _end(processes: list[Any], patience: float) -> None:
    """Wait for processes to end, at most ``patience`` seconds, and then kill those that have not."""
    until = time.monotonic() + patience
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _environment(rank: int, port: int) -> dict[str, str]:
    return {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def _other(number: int, port: int, modules: list[str], work: Callable[..., object], args: tuple[Any, ...]) -> None:
    rank = number + 1
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    logging.getLogger("specenhance.training").setLevel(logging.ERROR)  # rank 0 logs the run's news and warnings
    with process_group(_environment(rank, port)):
        try:
            import_modules(modules)
            work(*args)
        except Stopped:  # rank 0 tells it
            pass
        except Exception as error:
            raise RankError(failure(rank, error)) from None


def _end_with(parent: int) -> None:
    """Exit when the parent process has ended. A parent that was killed cannot tell, and its run may soon be resumed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def free_port() -> int:
    """Find a port that is free on all addresses of this machine."""
    with socket.socket() as found:
        found.bind(("", 0))
        return int(found.getsockname()[1])
