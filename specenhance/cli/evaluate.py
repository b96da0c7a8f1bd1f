"""``evaluate`` and ``report``: what a run is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specenhance.cli import options
from specenhance.cli.console import say, told
from specenhance.cli.train import require_run

__all__ = ["COMMANDS", "evaluate", "report"]

WEAKEST = 5  # confusions or classes that are printed for each model


def evaluate(
    run: options.Run,
    split: options.SplitName = "test",
    conditions: options.Conditions = None,
    json: Annotated[Path | None, typer.Option(help="A file for the figures, as JSON.")] = None,
    root: options.MovedRoot = None,
    csv: options.MovedCsv = None,
    device: options.DeviceName = "auto",
    workers: options.Workers = 0,
) -> None:
    """Measure a run's accuracy, or mAP, on its data set, also under conditions such as noise, and list what it confuses."""
    with told():
        require_run(run)
        from specenhance._files import check_output, write_text

        if json is not None:
            check_output(json)
        from specenhance.training.evaluate import evaluate_run, figures

        wanted = conditions.split(",") if conditions else ["clean"]
        found = []
        for one in evaluate_run(run, split, conditions=wanted, root=root, csv=csv, device=device, workers=workers):
            found.append(one)
            score = one.score
            heard = f", {one.condition}" if conditions else ""
            interval = f" ({one.interval.text()})" if one.interval else ""
            say(f"{one.folder}{heard}: {split} {score.text()}{interval}")
            for line in score.weakest(one.classes, WEAKEST) if one.condition == "clean" else ():
                say(f"  {line}")
        for condition in wanted if len(found) > len(wanted) else []:
            values = [one.score.figures()[one.score.headline] for one in found if one.condition == condition]
            heard = f", {condition}" if conditions else ""
            say(f"mean of {len(values)} folds{heard}: {sum(values) / len(values):.2%}")
        if json is not None:
            write_text(json, figures(found, split))
            say(json)


def report(
    run: options.Run,
    out: Annotated[Path | None, typer.Option(help="The page. The default is RUN/report.html.")] = None,
    split: options.SplitName = "test",
    clips: Annotated[
        list[Path] | None, typer.Option("--clip", help="An audio file whose mask is shown. May be repeated.")
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="Number of the worst clips that are shown.")] = 8,
    conditions: options.Conditions = None,
    root: options.MovedRoot = None,
    csv: options.MovedCsv = None,
) -> None:
    """Write a page about a run: curves, confusions, the worst clips with players, and what its mask does."""
    with told():
        from specenhance._files import check_output

        if out is not None:
            check_output(out)
        from specenhance.training.reporting import report_run

        say(
            report_run(
                run,
                out,
                split=split,
                clips=clips or [],
                worst=worst,
                conditions=conditions.split(",") if conditions else (),
                root=root,
                csv=csv,
            )
        )


COMMANDS = {"evaluate": evaluate, "report": report}
