"""The program: its commands in their order, the options before a command, and its start."""

from __future__ import annotations

import io
import pkgutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

from specenhance._missing import missing

try:
    import rich  # noqa: F401
    import typer
except ImportError as error:
    raise SystemExit(str(missing(error, "the command line needs more packages", "typer", "rich"))) from error

from specenhance.cli.console import say, told

__all__ = ["app", "main"]

app = typer.Typer(
    help="Learned time-frequency masks in front of any timm backbone, for sound classification.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
FIRST = ("train", "evaluate", "predict", "export")  # files whose commands come first in the help, in their order


def _add_commands() -> None:
    """Add the ``COMMANDS`` of every file of this folder: a dictionary of functions by the command's name."""
    files = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    for name in sorted(files, key=lambda name: (*FIRST, name).index(name)):
        commands = getattr(import_module(f"specenhance.cli.{name}"), "COMMANDS", {}) if name != "program" else {}
        for command, function in commands.items():
            app.command(command)(function)


_add_commands()


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    import_: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="Import a module first, also from the current folder. The command then knows what the module registers. "
            "May be repeated.",
        ),
    ] = None,
) -> None:
    if version:
        from specenhance._version import __version__

        say(__version__)
        raise typer.Exit
    if import_:
        from specenhance._imports import import_modules

        with told():
            import_modules(import_)


def main() -> None:
    """Run the command line; the console script ``specenhance`` calls this."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without a name's letters shows their codes
    app()
