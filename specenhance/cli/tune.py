"""``tune``: a search of recipe fields by the validation clips."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from specenhance._files import resolved_place
from specenhance.cli import options
from specenhance.cli.console import say, told
from specenhance.cli.train import chosen_recipe, settings

__all__ = ["COMMANDS", "tune"]


def tune(
    space: Annotated[
        list[str],
        typer.Option(
            "--space",
            metavar="FIELD=VALUES",
            help="A field that varies, and its values: LOW..HIGH, LOW..HIGH:log, or A,B,C. May be repeated.",
        ),
    ],
    data: Annotated[str | None, options.Data] = None,
    root: options.Root = None,
    csv: options.Csv = None,
    recipe: Annotated[Path | None, typer.Option(help="A TOML file of recipe fields, that all trials share.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any field that all trials share. May be repeated."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Number of runs.")] = 20,
    out: Annotated[Path, typer.Option(help="The folder of the search. A stopped one goes on.")] = Path("tune"),
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes that share this machine.")] = 1,
    device: options.DeviceName = "auto",
    cache: options.Cache = "",
) -> None:
    """Search the values of recipe fields that score best on the validation clips. It needs Optuna."""
    with told():
        varies = settings(space, {}, "--space")
        given: dict[str, Any] = {"data": data, "root": root and resolved_place(root), "csv": csv and csv.resolve()}
        fields = {name: str(value) for name, value in given.items() if value is not None}
        shared = chosen_recipe(recipe, fields | settings(set_ or [], fields))
        from specenhance.experiments.jobs import here, processes
        from specenhance.experiments.tune import tune as search

        place = here if jobs == 1 else partial(processes, jobs=jobs)
        search(shared, varies, trials, out, place, jobs, device=device, cache=cache)
        say(out / "tune.md")


COMMANDS = {"tune": tune}
