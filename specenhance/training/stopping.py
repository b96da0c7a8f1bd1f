"""Stopping a run from outside, by Ctrl-C or a stop signal: after the step that is under way, or at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["StopSignals", "Stopped", "stop_signals"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A run was stopped from outside; what it has done is kept.

    Not an ``Exception``: nothing that handles a failure should take it for one.

    Args:
        signum: the signal.
        message: what to do next.
    """

    def __init__(self, signum: int, message: str = "stopped") -> None:
        super().__init__(message)
        self.signum = signum


class StopSignals:
    """What has been asked for so far.

    Attributes:
        requested: the signal that asked for a stop; None as long as none has.
        gentle: whether somebody looks at ``requested`` after each step. If not, a signal raises :class:`Stopped` where
            the program happens to be.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self.gentle = False

    def install(self) -> None:
        """Be the one that signals come to; off the main thread, which alone can, nobody is."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Note a signal, or raise; the second one ends the process where it stands. What is on the disk is whole always."""
        name = signal.Signals(signum).name
        if self.requested is not None:
            os.write(2, f"\n{name} again: ended at once\n".encode())
            os._exit(128 + signum)
        self.requested = signum
        if not self.gentle:
            raise Stopped(signum)
        os.write(2, f"\n{name}: the step is finished and kept; once more ends it at once\n".encode())


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Listen for Ctrl-C and the stop signal while the block runs; off the main thread, which alone can, for none."""
    stop = StopSignals()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    stop.install()
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
