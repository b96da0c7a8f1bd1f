"""``evaluate``, ``report`` and ``reproduce``: what a run is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specenhance._choices import PaperData, Scale
from specenhance.cli import options
from specenhance.cli.console import say, told
from specenhance.cli.train import require_run

__all__ = ["COMMANDS", "evaluate", "report", "reproduce"]

CONFUSIONS = 5  # printed for each model


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
    """Measure a run's accuracy on its data set, also under conditions such as noise, and list its most frequent confusions."""
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
            clips = int(score.confusion.sum())
            say(f"{one.folder}{heard}: {split} accuracy {score.accuracy:.2%} of {clips} clips ({one.interval.text()})")
            if one.condition == "clean":
                for true, predicted, count, clips in score.confusions()[:CONFUSIONS]:
                    say(f"  {count} of {clips} {one.classes[true]} taken for {one.classes[predicted]}")
        for condition in wanted if len(found) > len(wanted) else []:
            accuracies = [one.score.accuracy for one in found if one.condition == condition]
            heard = f", {condition}" if conditions else ""
            say(f"mean of {len(accuracies)} folds{heard}: {sum(accuracies) / len(accuracies):.2%}")
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


def reproduce(
    data: Annotated[PaperData, typer.Argument(help="The data set.")],
    table: Annotated[
        int,
        typer.Option(
            min=2,
            max=4,
            help="The number of the table in the paper. 2: the front ends, with a teacher. 3: the teacher, and every front "
            "end with and without it. 4: the backbone without a front end and tfe4, with and without a teacher.",
        ),
    ],
    root: Annotated[Path, typer.Option(help="The data set's folder.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder of all runs. Runs that are finished in it are kept. The default is reproduce/DATA-SCALE."
        ),
    ] = None,
    scale: Annotated[
        Scale, typer.Option(help="The paper's models and epochs, or small models and few epochs to try all steps.")
    ] = "paper",
    repeats: Annotated[int, typer.Option(min=1, help="Number of runs of each student.")] = 5,
    pretrained: options.Pretrained = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="Another backbone for the students. local-dir:FOLDER reads one from this machine."),
    ] = None,
    teacher_backbone: Annotated[
        str | None,
        typer.Option(
            help="Another backbone for the teacher. ast:FOLDER and local-dir:FOLDER read one from this machine."
        ),
    ] = None,
    device: options.DeviceName = "auto",
    devices: options.Devices = 1,
    workers: options.Workers = 0,
    features_on: options.FeaturesWhere = "device",
    cache: options.Cache = "",
    progress: options.Progress = options.TERMINAL,
) -> None:
    """Run a whole table of the paper. After a stop, the same command continues it."""
    with told():
        from specenhance.experiments.reproduce import reproduce as reproduce_table
        from specenhance.experiments.reproduce import to_markdown

        made = reproduce_table(
            data,
            table,
            root,
            out or Path("reproduce") / f"{data}-{scale}",
            scale=scale,
            repeats=repeats,
            pretrained=pretrained,
            backbone=backbone,
            teacher_backbone=teacher_backbone,
            device=device,
            devices=devices,
            workers=workers,
            features_on=features_on,
            cache=cache,
            progress=progress,
        )
        say(*to_markdown(made).splitlines())


COMMANDS = {"evaluate": evaluate, "report": report, "reproduce": reproduce}
