"""Where the runs of a comparison are executed: on a Ray cluster."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from specenhance._cores import cores
from specenhance._imports import import_modules, imported_modules
from specenhance._missing import missing
from specenhance._stopping import Stopped
from specenhance.experiments.grid import Run
from specenhance.experiments.jobs import Work
from specenhance.experiments.mirror import absolute, mirrored, pull
from specenhance.training.folder import locked

__all__ = ["LOCAL", "on_ray"]

LOCAL = "local"
RETRIES = 10  # of a run whose worker is lost
PATIENCE = 300.0  # seconds; a network file system can take more than a minute to free the lock of a lost node
MEMORY = 80 * 2**20  # bytes for what tasks hand over, about the least that Ray takes; ours hand over a few words

_log = logging.getLogger(__name__)


def on_ray(work: Work, runs: Sequence[Run], address: str, *, cpus: int = 1, store: str = "") -> None:
    """Do the work of all runs on a Ray cluster. Ray places the runs, and places a run anew if its worker or node is lost.

    A run that is placed anew goes on from its last checkpoint. Each run gets a GPU where the cluster has some. Every node needs
    this library, the data at the same path, and the modules that the user's command imported.

    Without ``store`` all nodes must share the file system of the run folders. Each run folder has a lock, which the system
    frees when a process is killed. A node that is only cut off may still be alive, and write. It then still has the lock, so
    the worker that takes up the run waits until the node gives up. The lock protects only where the shared file system has
    locks between its machines, as NFS has.

    Args:
        work: As for :func:`specenhance.experiments.jobs.processes`.
        runs: The runs; the first ones start first.
        address: ``"local"`` for a cluster of this machine's processes, else what ``ray.init`` takes. A program that is
            connected to a cluster already goes on with that one.
        cpus: The number of CPUs of each run, and of the threads in its process.
        store: A URL that fsspec takes, such as ``s3://bucket/comparison``. Each worker then keeps its run in a folder of its
            own machine, and copies it to the URL every few seconds. Runs that are done are copied from the URL into their
            folders.

    Raises:
        ImportError: if Ray is not installed, or what the URL needs.
        ValueError: for an address of Ray's client, and for more CPUs than this machine has.
        ConnectionError: if there is no cluster at the address.
        RuntimeError: if a run was lost too many times. The same command then goes on where it was stopped.
        KeyboardInterrupt: after Ctrl-C or the stop signal. The runs are stopped too.
        Exception: the first error of a run. Runs that have begun are finished first, others are not begun.
    """
    if address.startswith("ray://"):
        raise ValueError(
            f"{address}: is of Ray's client, which tells no news; run the command in the cluster, with auto"
        )
    try:
        import ray
    except ImportError as error:
        raise missing(error, "running on a cluster needs Ray", "ray") from error
    store = absolute(store) if store else ""
    with _connected(address, cpus, len(runs)):
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(_execute)
        rest = cpus, imported_modules()
        tasks = {task.options(name=_name(run)).remote(work, run, _url(run, store), *rest): run for run in runs}
        _follow(tasks, store)


def _follow(tasks: Mapping[Any, Run], store: str) -> None:
    """Tell the news of all runs, and bring the runs that are done from the store. Raise the first error at the end."""
    import ray

    waiting, begun = dict(tasks), set[Any]()
    failed = None
    try:
        while waiting:
            (task, *_), _ = ray.wait(list(waiting), num_returns=1)
            run = waiting[task]
            try:
                where = ray.get(next(task))
            except StopIteration:
                del waiting[task]
                if store:
                    pull(_url(run, store), run.folder)
                _log.info(f"{_name(run)} is done; {len(waiting)} of {len(tasks)} runs are left")
            except ray.exceptions.RayError as error:
                del waiting[task]
                if failed is None:
                    failed = _own_error(error, run)
                    for other in waiting.keys() - begun:
                        ray.cancel(other)
                        del waiting[other]
                _log.error(f"{_name(run)} has failed; runs that have begun are finished first: {len(waiting)}")
            else:
                begun.add(task)
                _log.info(f"{_name(run)} begins on {where}")
    finally:
        for task in waiting:  # after a stop; a cluster that this process did not start would go on
            ray.cancel(task)
    if failed is not None:
        raise failed


def _execute(work: Work, run: Run, url: str, cpus: int, modules: Sequence[str]) -> Iterator[str]:
    """Do the work of a run in a worker. Say first where that is."""
    yield f"{socket.gethostname()}, process {os.getpid()}"
    import torch

    os.environ["OMP_NUM_THREADS"] = str(cpus)  # of the processes that this one starts
    torch.set_num_threads(cpus)
    import_modules(modules)
    try:
        if url:
            with mirrored(url) as folder:
                work(run._replace(folder=folder))
        else:
            with locked(run.folder, PATIENCE):
                pass
            work(run)
    except Stopped:
        # A signal has stopped this worker, as when its node goes. Ray places a run anew if its worker ends, not after an error.
        os._exit(1)


def _url(run: Run, store: str) -> str:
    """Give the place of a run in the store, by the names of its arm and of itself."""
    return f"{store}/{run.folder.parent.name}/{run.folder.name}" if store else ""


def _name(run: Run) -> str:
    return f"{run.name}, {run.folder.name}"


def _own_error(error: Exception, run: Run) -> Exception:
    """Give the error that a run itself has raised. Its message names the run, where the message can be changed."""
    import ray

    if not isinstance(error, ray.exceptions.RayTaskError):
        return RuntimeError(f"{_name(run)}: Ray has given it up; the same command goes on where it stopped ({error})")
    own = error.cause
    if own.args[:1] == (str(own),):
        own.args = (f"{_name(run)}: {own}", *own.args[1:])
    own.__cause__ = error
    return own


@contextmanager
def _connected(address: str, cpus: int, runs: int) -> Iterator[None]:
    """Connect this process to a cluster, or start one, and leave no trace of it in this process."""
    import ray

    if ray.is_initialized():
        yield
        return
    settings: dict[str, Any] = {"address": address, "logging_level": logging.ERROR}
    if address == LOCAL:
        if cpus > cores():
            raise ValueError(f"{cpus} CPUs for each run: this machine has {cores()}")
        # Ray starts as many workers as there are CPUs.
        settings |= {"num_cpus": min(cores(), cpus * runs), "include_dashboard": False, "object_store_memory": MEMORY}
    with _restored():
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        ray.init(**settings)
        try:
            if _in_main_thread():
                # Ray's own handler ends the process without a word. In a call of Ray, no other error can come from a handler.
                signal.signal(signal.SIGTERM, signal.default_int_handler)
            yield
        finally:
            ray.shutdown()


@contextmanager
def _restored() -> Iterator[None]:
    """Put back what Ray changes in this process: variables of the environment, a signal handler and its logger's level."""
    environment, logger = dict(os.environ), logging.getLogger("ray")
    level, handler = logger.level, signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        logger.setLevel(level)
        if _in_main_thread():
            signal.signal(signal.SIGTERM, handler)
        os.environ.clear()
        os.environ.update(environment)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
