"""``list``: the names that other commands take."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from specenhance.cli.console import say, told

__all__ = ["COMMANDS", "list_names"]

Kind = Literal["frontends", "features", "data", "teachers", "formats", "conditions", "backbones"]


def list_names(
    kind: Annotated[
        Kind | None, typer.Argument(help="What to list. The default is everything except the backbones.")
    ] = None,
    pattern: Annotated[str, typer.Option(help="A pattern of names, such as 'efficientnet*'. For backbones.")] = "*",
) -> None:
    """List what has a name: front ends, features, data sets, teachers, export formats, conditions, or timm's backbones."""
    with told():
        if kind == "backbones":
            import timm

            names = timm.list_models(pattern)
            if not names:
                raise ValueError(f"--pattern {pattern!r}: no timm model has such a name; try '*{pattern.strip('*')}*'")
            say(*names)
            return
        from specenhance.conditions import list_conditions
        from specenhance.data.registry import list_data
        from specenhance.deploy.formats.registry import list_formats
        from specenhance.distillation.registry import list_teachers
        from specenhance.features import list_features
        from specenhance.frontends.registry import list_frontends

        known = {
            "frontends": list_frontends,
            "features": list_features,
            "data": list_data,
            "teachers": list_teachers,
            "formats": list_formats,
            "conditions": list_conditions,
        }
        if kind is not None:
            say(*known[kind]())
            return
        for name, names_of in known.items():
            say(f"{name}: {', '.join(names_of())}")


COMMANDS = {"list": list_names}
