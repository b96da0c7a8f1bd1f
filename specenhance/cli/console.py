"""What the command line prints: lines, the library's news and warnings, and a user's mistakes in one line each."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import rich
import typer
from rich.console import Console

from specenhance._names import shown

__all__ = ["errors_console", "say", "told"]


def say(*lines: object) -> None:
    """Print lines of plain text."""
    # On rich's own console, which moves a progress bar out of the way.
    for line in lines:
        rich.get_console().print(shown(line), markup=False, highlight=False, emoji=False, soft_wrap=True)


def errors_console() -> Console:
    """Give a console of plain text on standard error."""
    return Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)


@contextmanager
def told() -> Iterator[None]:
    """Print the library's news while the block runs, and a user's mistake in one line instead of a traceback.

    The exit code is 1 after an error. After a stop it is 128 and the number of the signal. A mistake or a stop that another
    process of the run tells, as its attribute ``told`` says, is not printed.
    """
    from specenhance._stopping import Stopped

    console = errors_console()
    logger = logging.getLogger("specenhance")
    handler, level = _News(console), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        first, *more = getattr(error, "lines", [str(error)])
        for line in () if getattr(error, "told", False) else (f"error: {first}", *more):
            console.print(shown(line), style="red")
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, Stopped) as stop:
        if not getattr(stop, "told", False):
            console.print(shown(stop) or "stopped")
        raise typer.Exit(128 + getattr(stop, "signum", signal.SIGINT)) from None
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _News(logging.Handler):
    """Print news on standard output, and warnings on standard error, each warning once."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console, self._shown = console, set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, unless it is a warning that has been printed."""
        text = record.getMessage()
        if record.levelno < logging.WARNING:
            say(text)
        elif text not in self._shown:
            self._shown.add(text)
            self._console.print(shown(f"warning: {text}"), style="yellow")
