"""``shard``: a data set as shards, a few large files in place of many small ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specenhance._files import resolved_place
from specenhance.cli import options
from specenhance.cli.console import say, told
from specenhance.cli.train import chosen_recipe, require_data, settings

__all__ = ["COMMANDS", "shard"]


def shard(
    data: Annotated[str, options.Data],
    out: Annotated[Path, typer.Option(help="The folder of the shards. It must be new.")],
    root: options.Root = None,
    csv: options.Csv = None,
    multi_label: Annotated[
        bool | None, typer.Option("--multi-label", help="A clip has any number of classes, as for 'train'.")
    ] = None,
    fold: Annotated[int, typer.Option(min=1, help="The fold that is tested, from 1 on. For data sets with folds.")] = 1,
    megabytes: Annotated[float, typer.Option(min=0.001, help="Size of a shard, in megabytes.")] = 100.0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out the files that cannot be used.")] = False,
    allow_truncated: options.AllowTruncated = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any other field of the recipe, such as data_args.window=3."),
    ] = None,
) -> None:
    """Store a data set as shards. 'train --data shards --root FOLDER_OR_URL' trains on them."""
    with told():
        from specenhance.data.registry import data_folds

        given = {"data": data, "skip_bad": str(skip_bad), "allow_truncated": str(allow_truncated)}
        given |= {name: resolved_place(path) for name, path in (("root", root), ("csv", csv)) if path}
        given |= {"fold": str(fold)} if data_folds(data) else {}
        given |= {} if multi_label is None else {"multi_label": str(multi_label)}
        recipe = chosen_recipe(None, given | settings(set_ or [], given))
        require_data(recipe)
        from specenhance.training.sharding import shard as make

        counts = make(recipe, out, megabytes=megabytes)
        say(f"{sum(counts.values()):,} shards in {out}; train on them: specenhance train --data shards --root {out}")


COMMANDS = {"shard": shard}
