"""The processes that torchrun or Slurm's srun has started on several machines. Rank 0 leads a run, the others follow."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple

from lightning.fabric.plugins.environments import ClusterEnvironment
from torch.distributed import DistError
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from specenhance._stopping import Stopped, stop_signals
from specenhance.training.machine import Machine, launcher
from specenhance.training.ranks import RankError, failure, free_port, process_group

__all__ = ["in_other_processes", "together"]

START = 300.0  # s; time for the processes of all machines to start
ANSWER = 60.0  # s; time for those that have started to take up work
PATIENCE = 3.0  # s; time for processes to hear of the end of another one
IN_VAIN = 15.0  # s; time for a process to end by itself after another one has failed
PAUSE = 0.1  # s; between two looks at what another process has written, while nothing else is done
WATCH = 0.5  # s; the same, beside the training


def together(machine: Machine, lead: Callable[[], Any], follow: Callable[..., object]) -> Any:
    """Call ``lead()`` in the process of rank 0, and return its result in all processes.

    Meanwhile, the other processes call ``follow`` as often as rank 0 asks for it by :func:`in_other_processes`. They log
    nothing. With one machine, and within the ``lead`` of another call, this function only calls ``lead``.

    Args:
        machine: the machine of this process.
        lead: a function. Its result must be content for JSON.
        follow: a function for the processes of other ranks.

    Raises:
        RankError: if another process failed, or the connection to another process was lost. Attribute ``told`` says whether
            rank 0 has got the same message.
        Stopped: if a signal has asked any process for a stop.

    >>> together(Machine(device="cpu"), lambda: "result", print)
    'result'
    """
    if machine.nodes == 1:
        return lead()
    team = _team()
    if team.leads:
        return lead()
    return team.lead(lead) if machine.rank == 0 else team.follow(follow)


@contextmanager
def in_other_processes(*args: Any) -> Iterator[None]:
    """Call the ``follow(*args)`` of :func:`together` in the other processes, while the block does the same as rank 0.

    Args:
        *args: content for JSON.
    """
    team = _team()
    with team.watching(), process_group(team.ask(args)):
        yield


class _Failure(NamedTuple):
    """Why the first process that failed did so.

    Attributes:
        rank: the number of the process.
        signum: number of the signal that has stopped it. 0 for an error.
        message: the message for the user.
    """

    rank: int
    signum: int
    message: str

    def error(self, told: bool) -> RankError | Stopped:
        """Make the exception for another process."""
        error = Stopped(self.signum, self.message) if self.signum else RankError(self.message)
        error.told = told
        return error


class _Team:
    """The processes of a launcher, as one of them sees them.

    They write to each other through the store of PyTorch's rendezvous, because the connection for tensors has time limits, and
    rank 0 may prepare a run for hours.

    Args:
        environment: what the launcher says of the processes.

    Attributes:
        leads: whether this process is of rank 0 and leads a run now.
    """

    def __init__(self, environment: ClusterEnvironment) -> None:
        self._rank, self._size = environment.global_rank(), environment.world_size()
        self._address = environment.main_address
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = self._address, str(environment.main_port)
        meeting = rendezvous("env://", self._rank, self._size, timeout=timedelta(seconds=START))
        try:
            store, *_ = next(meeting)
        except DistError as error:
            raise RankError(
                f"the {self._size} processes of this run have not met at {self._address}, port {environment.main_port}, within "
                f"{START:.0f} s: {_line(error)}"
            ) from None
        self._store = PrefixStore("specenhance", store)
        self._runs = 0
        self._messages = 0
        self._seen: _Failure | None = None  # the failure of another process
        self.leads = False

    def lead(self, job: Callable[[], Any]) -> Any:
        """Do a job as rank 0, and send its result to the others."""
        self._begin()
        self.leads = True
        try:
            self._expect("here", START)
            result = job()
            self._write({"result": result})
        except BaseException as error:
            found = self._first_failure(error)
            with suppress(DistError):
                self._store.set(self._key("told"), "")
            # torchrun stops this process if another one fails, and a lost connection is what the other one's failure does here.
            if _is_lost(error) or (isinstance(error, Stopped) and not found.signum):
                raise found.error(told=False) from error
            raise
        finally:
            self.leads = False
            with suppress(DistError):
                # This process may hold the store, which the others must still read.
                self._until(lambda: self._counted("left") == self._size - 1, PATIENCE)
        return result

    def follow(self, work: Callable[..., object]) -> Any:
        """Do the work that rank 0 asks for, until it sends its result."""
        self._begin()
        with stop_signals(), _quiet():
            try:
                while "result" not in (message := self._read()):
                    with self.watching(), process_group(message["environment"]):
                        try:
                            work(*message["args"])
                        except BaseException as error:
                            self._first_failure(error)  # before the connection ends, because rank 0 looks for it then
                            raise
            except BaseException as error:
                found = self._first_failure(error)
                # Rank 0 tells it, unless it is lost itself, or waits for this process in vain.
                told = found.rank != self._rank or self._is_told()
                raise found.error(told) from error
            finally:
                with suppress(DistError):
                    self._store.add(self._key("left"), 1)
        return message["result"]

    def ask(self, args: tuple[Any, ...]) -> dict[str, str]:
        """Ask the others for work.

        Returns:
            The environment variables that say where all processes meet. Each work has a port of its own, because the launcher's
            store still has what the processes wrote into it for the work before.
        """
        port = free_port()
        environment = {"MASTER_ADDR": self._address, "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}
        self._write({"environment": environment, "args": args})
        self._expect(f"read{self._messages}", ANSWER)  # Lightning would wait half an hour for a process that is lost
        return environment

    @contextmanager
    def watching(self) -> Iterator[None]:
        """End this process if another one fails during the block and this one does not.

        It may wait for the other one in vain: half an hour for a connection, and on GPUs for a sum.
        """
        over = threading.Event()
        threading.Thread(target=self._watch, args=(over,), daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def _watch(self, over: threading.Event) -> None:
        try:
            while not self._store.check([self._key("failed")]):
                if over.wait(WATCH):
                    return
            self._seen = self._failure()
            reason = self._seen.message
            if self._rank == 0:  # it tells this, here or by its own error
                self._store.set(self._key("told"), "")
        except DistError as error:
            reason = f"the connection to the machine of rank 0 is lost ({_line(error)})"
        if not over.wait(IN_VAIN):
            os.write(2, f"error: {reason}; the process of rank {self._rank} has waited in vain\n".encode())
            os._exit(1)

    def _begin(self) -> None:
        self._runs, self._messages, self._seen = self._runs + 1, 0, None
        if self._rank:
            self._store.add(self._key("here"), 1)

    def _key(self, name: str) -> str:
        return f"{self._runs}/{name}"

    def _write(self, message: dict[str, Any]) -> None:
        """Write a message to the others."""
        self._messages += 1
        self._store.set(self._key(f"message{self._messages}"), json.dumps(message))

    def _read(self) -> dict[str, Any]:
        """Wait for the next message of rank 0."""
        self._messages += 1
        key = self._key(f"message{self._messages}")
        while not self._store.check([key]):
            self._raise_failure()
            time.sleep(PAUSE)
        self._store.add(self._key(f"read{self._messages}"), 1)
        message: dict[str, Any] = json.loads(self._store.get(key))
        return message

    def _counted(self, name: str) -> int:
        return int(self._store.add(self._key(name), 0))

    def _expect(self, name: str, seconds: float) -> None:
        """Wait until all other processes have counted in ``name``."""

        def all_have() -> bool:
            self._raise_failure()
            return self._counted(name) == self._size - 1

        if not self._until(all_have, seconds):
            raise RankError(
                f"only {self._counted(name) + 1} of the {self._size} processes of the run answered within {seconds:.0f} s; "
                "the others did not start, or have ended"
            )

    def _is_told(self) -> bool:
        """Wait for rank 0 to say that it tells the first failure. Return whether it does."""
        with suppress(DistError):
            return self._until(lambda: self._store.check([self._key("told")]), PATIENCE)
        return False

    def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until a condition is true. Return whether it is."""
        end = time.monotonic() + seconds
        while not (true := condition()) and time.monotonic() < end:
            time.sleep(PAUSE)
        return true

    def _failure(self) -> _Failure:
        return _Failure(*json.loads(self._store.get(self._key("failed"))))

    def _raise_failure(self) -> None:
        if self._store.check([self._key("failed")]):
            raise self._failure().error(told=False)

    def _first_failure(self, error: BaseException) -> _Failure:
        """Return the failure of the process that failed first. If none has before, it is the error of this process."""
        message = failure(self._rank, error)
        if _is_lost(error):
            message = (
                f"the process of rank {self._rank} has no connection to another process ({_line(error)}). If none has failed, "
                "GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME can name the network of the machines. --resume continues the run"
            )
        own = _Failure(self._rank, getattr(error, "signum", 0), message)
        try:
            first = self._store.compare_set(self._key("failed"), "", json.dumps(own))
        except DistError:  # the store has ended with the process of rank 0, or is on a machine that is lost
            return self._seen or own
        return _Failure(*json.loads(first))


@cache
def _team() -> _Team:
    """Meet the other processes, once in each process: the messages are counted."""
    environment = launcher()
    assert environment is not None  # Machine has looked
    return _Team(environment)


@contextmanager
def _quiet() -> Iterator[None]:
    """Log no news and no warnings: rank 0 logs those of the run."""
    logger = logging.getLogger("specenhance")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _is_lost(error: BaseException) -> bool:
    """Say whether an error is that of a lost connection. Gloo has no class of its own for it."""
    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
