"""What commands share that work through many files: the progress bar, the last line, and the exit code for bad files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from specenhance._names import shown as shown_name
from specenhance.cli.console import errors_console, say

__all__ = ["ON_A_GPU", "Tell", "fail_for", "progress_bar", "say_done"]

ON_A_GPU = 2
"""Number of processes that share a GPU. Each holds the model."""


class Tell:
    """Move a progress bar, and add up the seconds of sound."""

    def __init__(self, move: Callable[[int], None]) -> None:
        self.seconds, self._move = 0.0, move

    def __call__(self, sounds: int, seconds: float) -> None:
        """Take a part of the work that is done."""
        self.seconds += seconds
        self._move(sounds)


@contextmanager
def progress_bar(sounds: int, shown: bool) -> Iterator[Tell]:
    """Show a progress bar on standard error while the block runs."""
    if not shown:
        yield Tell(lambda done: None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("files"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=errors_console(), transient=True) as bar:
        task = bar.add_task("files", total=sounds)
        yield Tell(lambda done: bar.advance(task, done))


def say_done(out: Path, what: str, rows: int, sounds: int, seconds: float, computed: float, took: float) -> None:
    """Say what was written: how many rows, of how many files and hours, how fast the computed seconds were computed."""
    speed = f"; {computed / took:.0f} times as fast as it plays" if computed else ""
    say(f"{out}: {rows:,} {what} of {sounds:,} files, {seconds / 3600:.2f} hours{speed}")


def fail_for(errors: int, sounds: int, table: Path) -> None:
    """End with an exit code if files could not be read."""
    if errors:
        errors_console().print(
            shown_name(f"{errors} of {sounds} files could not be used; {table} says why"), style="red"
        )
        raise typer.Exit(1)
