"""Several processes that train one model: this one is rank 0, the others are started beside it and do the same."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import torch.distributed

__all__ = ["ranks"]


@contextmanager
def ranks(count: int, work: Callable[..., object], *args: Any) -> Iterator[None]:
    """Run ``work(*args)`` in ``count - 1`` new processes, while the block does the same as rank 0.

    Lightning finds in the environment that its processes are there already. All of them are on this machine.

    Args:
        count: of processes, this one among them; 1 starts none.
        work: a function of a module, which a new process can import.
        *args: for it; they are pickled.

    Raises:
        RuntimeError: if one of the others failed although the block did not.
    """
    if count == 1:
        yield
        return
    context = get_context("spawn")
    port = _free_port()
    others = [context.Process(target=_other, args=(rank, port, work, args)) for rank in range(1, count)]
    before = dict(os.environ)
    try:
        for process in others:
            process.start()
        os.environ.update(_environment(0, port))
        yield
        for process in others:
            process.join()
    finally:
        for process in others:
            if process.is_alive():
                process.terminate()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for name in _environment(0, port):
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]
    failed = [rank for rank, process in enumerate(others, start=1) if process.exitcode]
    if failed:
        raise RuntimeError(f"the processes of rank {', '.join(map(str, failed))} failed; their errors stand above")


def _environment(rank: int, port: int) -> dict[str, str]:
    return {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def _other(rank: int, port: int, work: Callable[..., object], args: tuple[Any, ...]) -> None:
    os.environ.update(_environment(rank, port))
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    work(*args)
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
