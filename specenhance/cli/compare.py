"""``compare`` and ``reproduce``: many runs, and what they say together."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specenhance._choices import PaperData, Scale
from specenhance._files import resolved_place
from specenhance.cli import options
from specenhance.cli.console import say, told
from specenhance.cli.train import settings

if TYPE_CHECKING:
    from specenhance.experiments.jobs import Place
    from specenhance.experiments.plan import Plan

__all__ = ["COMMANDS", "compare", "reproduce"]


Jobs = Annotated[int, typer.Option(min=1, help="Number of processes that share this machine.")]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="local|ADDRESS",
        help="Execute the runs on a Ray cluster: local for processes of this machine, auto or HOST:PORT for a cluster that "
        "runs. All nodes must share the file system of --out, unless there is a --store.",
    ),
]
CpusPerRun = Annotated[
    int | None, typer.Option(min=1, help="Number of CPUs and threads of each run, with --ray. The default is 1.")
]
Store = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where the nodes of --ray keep the runs, such as s3://BUCKET/FOLDER. Runs that are done are copied to --out.",
    ),
]


def compare(
    plan: Annotated[
        Path | None,
        typer.Argument(metavar="PLAN", help="A TOML file with the tables recipe and factors, in place of options."),
    ] = None,
    data: Annotated[str | None, options.Data] = None,
    root: options.Root = None,
    csv: options.Csv = None,
    frontends: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="The front ends. The first one is the baseline's.")
    ] = None,
    backbones: Annotated[str | None, typer.Option(metavar="NAME,...", help="The backbones.")] = None,
    augment: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Named sets of augmentation: none, light, robust.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="RUN,...", help="Teachers: run folders or names such as embedding:FILE.npz, or none."),
    ] = None,
    factor: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE,...", help="Any other field of the recipe that differs. May be repeated."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Number of runs of each arm on each fold. The default is 1.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Divide all clips into this many folds, no group in two. Each is tested once.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="What must not be in two folds: speaker, recording, a column of the CSV, or clip."),
    ] = None,
    conditions: options.Conditions = None,
    baseline: Annotated[
        str, typer.Option(help="The arm that the others are compared with. The default is the first one.")
    ] = "",
    hypothesis: Annotated[
        str, typer.Option(help="What is asked, in words. It is written down before the first run.")
    ] = "",
    epochs: Annotated[int | None, typer.Option(help="Number of passes over the training clips.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any field of the recipe that all share. May be repeated."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder of the comparison. A stopped one goes on.")] = Path("compare"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run, and run nothing.")] = False,
    jobs: Jobs = 1,
    ray: Ray = None,
    cpus_per_run: CpusPerRun = None,
    store: Store = None,
    device: options.DeviceName = "auto",
    cache: options.Cache = "",
    teacher_cache: options.TeacherCache = "",
) -> None:
    """Compare front ends, backbones or anything else of a recipe on the same clips, with intervals over groups."""
    with told():
        _check_place(jobs, ray, cpus_per_run, store)
        shared = {"data": data, "root": root and resolved_place(root), "csv": csv and csv.resolve(), "epochs": epochs}
        shared |= {"folds": folds, "group": group}
        recipe = {name: str(value) for name, value in shared.items() if value is not None}
        factors = _factors(
            {"frontend": frontends, "backbone": backbones, "augment": augment, "teacher": teacher}, factor
        )
        from specenhance.experiments.plan import load_plan

        if plan is not None:
            if recipe or factors or set_ or seeds or conditions or baseline or hypothesis:
                raise ValueError(f"{plan}: a plan has all that is compared; leave the options for it out")
            planned = load_plan(plan)
        else:
            planned = _plan(
                recipe=recipe | settings(set_ or [], recipe),
                factors=factors,
                seeds=seeds or 1,
                conditions=(conditions or "clean").split(","),
                baseline=baseline,
                hypothesis=hypothesis,
            )
        runs = planned.runs(out)
        from specenhance.frontends.registry import check_frontend

        for run in runs:
            check_frontend(run.recipe.frontend)  # before Lightning is loaded
        say(
            f"{len(runs)} runs of {len(planned.arms())} arms: {'; '.join(planned.arms())}; baseline: {planned.reference}"
        )
        if dry_run:
            from specenhance.experiments.estimate import estimate

            say(*estimate(planned, jobs).splitlines())
            return
        from specenhance.experiments.compare import compare as run_comparison

        run_comparison(
            planned,
            out,
            _place(jobs, ray, cpus_per_run, store),
            device=device,
            cache=cache,
            teacher_cache=teacher_cache,
        )
        say(*(out / "compare.md").read_text(encoding="utf-8").splitlines(), out / "compare.html")


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
    jobs: Jobs = 1,
    ray: Ray = None,
    cpus_per_run: CpusPerRun = None,
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
            place=_place(jobs, ray, cpus_per_run, None),
            device=device,
            devices=devices,
            workers=workers,
            features_on=features_on,
            cache=cache,
            progress=progress,
        )
        say(*to_markdown(made).splitlines())


def _place(jobs: int, ray: str | None, cpus: int | None, store: str | None) -> Place:
    """Choose where the runs are executed. It loads Lightning."""
    _check_place(jobs, ray, cpus, store)
    from specenhance.experiments.cluster import on_ray
    from specenhance.experiments.jobs import here, processes

    if ray is not None:
        return partial(on_ray, address=ray, cpus=cpus or 1, store=store or "")
    return here if jobs == 1 else partial(processes, jobs=jobs)


def _check_place(jobs: int, ray: str | None, cpus: int | None, store: str | None) -> None:
    if ray is not None:
        if jobs > 1:
            raise ValueError(f"--jobs {jobs}: with --ray, Ray finds how many runs fit; leave --jobs or --ray out")
        return
    for option, value in {"--cpus-per-run": cpus, "--store": store}.items():
        if value is not None:
            raise ValueError(f"{option} {value}: is for runs on a Ray cluster; add --ray local or --ray ADDRESS")


def _factors(named: dict[str, str | None], others: list[str] | None) -> dict[str, list[str]]:
    found = {name: value.split(",") for name, value in named.items() if value is not None}
    for text in others or []:
        name, equals, values = text.partition("=")
        if not equals:
            raise ValueError(f"--factor {text}: expected FIELD=VALUE,VALUE, such as --factor lr=1e-3,3e-3")
        if name in found:
            raise ValueError(f"--factor {text}: {name} is also given by another option; leave one out")
        found[name] = values.split(",")
    return found


def _plan(**fields: Any) -> Plan:
    from pydantic import ValidationError

    from specenhance.experiments.plan import Plan, whole_paths

    if "data" not in fields["recipe"]:
        raise ValueError("--data is missing: expected the name of a data set, or a plan's TOML file")
    if not fields["factors"]:
        raise ValueError("nothing to compare: expected --frontends, --backbones, --augment, --teacher or --factor")
    try:
        return Plan(**whole_paths(fields, Path()))
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from error


COMMANDS = {"compare": compare, "reproduce": reproduce}
