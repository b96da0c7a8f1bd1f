"""The program: its commands in their order, the options before a command, and its start."""

from __future__ import annotations

import io
import sys
from typing import Annotated

from specenhance._missing import missing

try:
    import rich  # noqa: F401
    import typer
except ImportError as error:
    raise SystemExit(str(missing(error, "the command line needs more packages", "typer", "rich"))) from error

from specenhance.cli import evaluate, export, names, predict, train
from specenhance.cli.console import say, told

__all__ = ["app", "main"]

app = typer.Typer(
    help="Learned time-frequency masks in front of any timm backbone, for sound classification.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    train.demo,
    train.train,
    train.recipe,
    train.check,
    evaluate.evaluate,
    evaluate.report,
    evaluate.reproduce,
    predict.predict,
    predict.enhance,
    predict.listen,
    export.export,
):
    app.command()(command)
app.command("list")(names.list_names)


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
