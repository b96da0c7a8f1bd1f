"""Stop a run by Ctrl-C or a stop signal: after the current step, or at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["SIGNALS", "StopSignals", "Stopped", "stop_signals"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal has stopped a run. The finished steps of the run are kept.

    It is no ``Exception``, because code that handles failures must not handle it.

    Args:
        signum: number of the signal.
        message: message for the user, such as how to continue the run.

    Attributes:
        signum: number of the signal.
        told: whether another process tells the message.

    >>> Stopped(signal.SIGTERM, "continue with: specenhance train --resume run").signum == signal.SIGTERM
    True
    """

    def __init__(self, signum: int, message: str = "stopped") -> None:
        super().__init__(message)
        self.signum = signum
        self.told = False


class StopSignals:
    """A handler that remembers stop signals.

    Attributes:
        requested: number of the signal that has asked for a stop. None if none has.
        gentle: whether the run checks ``requested`` after each step. Otherwise a signal raises :class:`Stopped` at once.

    >>> stop = StopSignals()
    >>> stop(signal.SIGTERM, None)
    Traceback (most recent call last):
    specenhance._stopping.Stopped: stopped
    >>> stop.requested == signal.SIGTERM
    True
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self.gentle = False
        self._seen = set[int]()

    def install(self) -> None:
        """Handle the stop signals from now on. In another thread than the main thread, nothing happens."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Remember the first signal, or raise :class:`Stopped`. The same signal again ends the process at once.

        Files are written whole or not at all, so this does no harm to them. Another signal is not a second one: Ctrl-C reaches
        every process of a terminal, and the first of them sends the others the stop signal.
        """
        name = signal.Signals(signum).name
        if signum in self._seen:
            os.write(2, f"\n{name} again: ended at once\n".encode())
            os._exit(128 + signum)
        self._seen.add(signum)
        if self.requested is not None:
            return
        self.requested = signum
        if not self.gentle:
            raise Stopped(signum)
        os.write(
            2, f"\n{name}: the current step will be finished and kept; a second {name} ends the run at once\n".encode()
        )


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Handle Ctrl-C and the stop signal while the block runs. In another thread than the main thread, nothing happens.

    >>> with stop_signals() as stop:
    ...     print(stop.requested)
    None
    """
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
