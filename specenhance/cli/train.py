"""``demo``, ``train``, ``recipe`` and ``check``: everything up to a finished run."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specenhance._choices import Augment, Role
from specenhance._files import is_url, resolved_place
from specenhance._names import file_name
from specenhance.cli import options
from specenhance.cli.console import say, told

if TYPE_CHECKING:
    from specenhance.training.recipe import Recipe

__all__ = ["COMMANDS", "check", "chosen_recipe", "demo", "recipe", "require_data", "require_run", "settings", "train"]

FRONTENDS = ("identity", "tfe4")  # that the demo compares
WITH_RESUME = (
    "--epochs, --root, --csv, --device, --devices, --nodes, --workers, --features-on, --cache, --teacher-cache, "
    "--log and --progress"
)


def demo(
    out: Annotated[Path, typer.Option(help="The folder for both runs and the pictures. It must be new.")] = Path(
        "demo"
    ),
    epochs: Annotated[int, typer.Option(min=1, help="Number of passes over the built-in clips.")] = 10,
    device: options.DeviceName = "auto",
) -> None:
    """Train with and without the front end on built-in sounds, and compare. It takes three minutes on two cores."""
    with told():
        import rich
        from rich.table import Table

        from specenhance.training.recipe import recipe_for
        from specenhance.training.run import train as train_run

        if out.exists():
            raise FileExistsError(f"{out}: already there; remove it or choose another --out")
        table = Table("front end", "test accuracy", "parameters", "seconds")
        for frontend in FRONTENDS:
            recipe = recipe_for("synthetic", frontend=frontend, backbone="mobilenetv3_small_050", epochs=epochs)
            result = train_run(recipe, out / frontend, device=device)
            table.add_row(
                frontend,
                f"{result['test_accuracy']:.1%}",
                f"{result['parameters']['total']:,}",
                f"{result['seconds']:.0f}",
            )
        say("pictures of what the front ends do:", *(out / frontend / "enhanced.png" for frontend in FRONTENDS))
        rich.get_console().print(table)


def train(
    data: Annotated[str | None, options.Data] = None,
    root: options.Root = None,
    csv: options.Csv = None,
    multi_label: Annotated[
        bool | None,
        typer.Option(
            "--multi-label",
            help="A clip has any number of classes: labels such as a;b in the CSV, or a column of 0 and 1 for each class.",
        ),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option(
            help="The fold that is tested, from 1 on. The default is each in turn. For --folds and --data esc50."
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Divide all clips into this many folds, no group in two. One tests, the next validates."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="What must not be in two folds: speaker, recording, a column of the CSV, or clip. For --folds."
        ),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="A timm model, or ast:NAME_OR_PATH.")] = None,
    frontend: Annotated[str | None, typer.Option(help="A front end of 'specenhance list frontends'.")] = None,
    pretrained: options.Pretrained = None,
    init: Annotated[
        str | None,
        typer.Option(help="A finished run, or a .safetensors file, whose weights training starts from."),
    ] = None,
    role: Annotated[
        Role | None,
        typer.Option(
            help="What the model is for. A teacher is fine-tuned by the paper's settings, and stored for students to learn "
            "from."
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="A teacher to learn from besides the labels: its run folder, or a name such as ast:NAME_OR_PATH. Several "
            "have ' + ' between them."
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Number of passes over the training clips. With --resume, more than the finished run had."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Number of clips in each step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Maximum learning rate.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the weights, the order of clips and the augmentation.")
    ] = None,
    augment: Annotated[
        Augment | None,
        typer.Option(help="A named set of augmentation. robust is for devices and the field: noise, levels, rooms."),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="A TOML file of recipe fields, such as a run's recipe.toml. The options above override it."),
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad", help="Train without the files that cannot be used, and list them in the run folder."
        ),
    ] = False,
    allow_truncated: options.AllowTruncated = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Any other field of the recipe. 'specenhance recipe' lists them. May be repeated.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The run folder. It must be new. The default is runs/DATA-BACKBONE-FRONTEND-TIME."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="A stopped run to continue by its own recipe."),
    ] = None,
    device: options.DeviceName = "auto",
    devices: options.Devices = 1,
    nodes: options.Nodes = 1,
    workers: options.Workers = 0,
    features_on: options.FeaturesWhere = "device",
    cache: options.Cache = "",
    teacher_cache: options.TeacherCache = "",
    log: options.Loggers = "tensorboard",
    find_lr: Annotated[
        bool,
        typer.Option(
            "--find-lr", help="Only suggest a value for --lr, from 100 steps at a rising rate. Nothing is kept."
        ),
    ] = False,
    progress: options.Progress = options.TERMINAL,
) -> None:
    """Train a model on labelled sounds, test it, and keep all of it in a run folder."""
    given: dict[str, Any] = {
        "data": data,
        "root": root and resolved_place(root),  # a run is resumed and evaluated from anywhere
        "csv": csv and csv.resolve(),
        "multi_label": multi_label,
        "fold": fold,
        "folds": folds,
        "group": group,
        "backbone": backbone,
        "frontend": frontend,
        "pretrained": pretrained,
        "init": init,
        "role": role,
        "teacher": teacher,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "skip_bad": skip_bad or None,
        "allow_truncated": allow_truncated or None,
    }
    fields = {name: str(value) for name, value in given.items() if value is not None}
    machine: dict[str, Any] = {
        "device": device,
        "devices": devices,
        "nodes": nodes,
        "workers": workers,
        "features_on": features_on,
        "cache": cache,
        "teacher_cache": teacher_cache,
        "loggers": log,
        "progress": progress,
    }

    def run() -> None:
        if resume is not None:
            if fields.keys() - {"epochs", "root", "csv"} or set_ or recipe or out or augment:
                raise ValueError(
                    f"--resume continues a run by its own recipe; only these options go with it: {WITH_RESUME}"
                )
            require_run(resume)
            from specenhance.training.run import resume as resume_run

            resume_run(resume, epochs=epochs, root=root, csv=csv, **machine)
            return
        chosen = chosen_recipe(recipe, _augmentation(augment) | fields | settings(set_ or [], fields))
        require_data(chosen)
        if find_lr:
            from specenhance.training.find_lr import find_lr as find

            say(f"--lr {find(chosen, **machine).rate:.2g}")
            return
        folder = out or _new_folder(chosen)
        say(f"training in {folder}")  # what follows takes seconds to load
        from specenhance.frontends.registry import check_frontend

        check_frontend(chosen.frontend)  # a wrong name is told before Lightning is loaded
        from specenhance.training.run import train as train_run

        train_run(chosen, folder, **machine)

    with told():
        if nodes == 1:
            run()
            return
        from specenhance.training.machine import Machine
        from specenhance.training.run import on_all_machines

        on_all_machines(Machine(**machine), run)  # so that only one process looks for mistakes, and tells them


def recipe(
    data: Annotated[str, options.Data] = "synthetic",
    role: Annotated[Role, typer.Option(help="What the model is for.")] = "student",
) -> None:
    """Print a recipe: every field with its default for a data set and its meaning. 'train --recipe' reads it."""
    with told():
        from specenhance.data.registry import takes
        from specenhance.training.recipe import explain, recipe_for

        fields = {"data": data, "role": role} | ({"root": "."} if takes(data, "root") else {})
        say(*explain(recipe_for(**fields)).splitlines())  # "." stays: it is the place of the file


def check(
    data: Annotated[str, options.Data],
    root: options.Root = None,
    csv: options.Csv = None,
    allow_truncated: options.AllowTruncated = False,
) -> None:
    """Read every sound of a data set completely. Tell which cannot be used, which are ignored and which occur twice."""
    with told():
        from specenhance.data.registry import data_folds

        fields = {"data": data, "allow_truncated": str(allow_truncated)}
        fields |= {name: resolved_place(path) for name, path in (("root", root), ("csv", csv)) if path}
        if data_folds(data):
            fields["fold"] = "1"
        chosen = chosen_recipe(None, fields)
        require_data(chosen)
        from specenhance.training.prepare import check as check_data

        if check_data(chosen):
            raise typer.Exit(1)


def require_run(run: Path) -> None:
    """Refuse a path that is no run folder, before a large library is loaded."""
    from specenhance.training.recipe import RECIPE

    if run.is_file():
        raise ValueError(f"{run}: is a file; expected a run folder that 'specenhance train' wrote")
    if not (run / RECIPE).is_file():
        raise FileNotFoundError(
            f"{run}: no training run, it has no {RECIPE}; give the folder that 'specenhance train' wrote"
        )


def settings(pairs: list[str], given: dict[str, str], option: str = "--set") -> dict[str, str]:
    """Read the pairs of --set, or of another option."""
    fields: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{option} {pair}: expected FIELD=VALUE, such as --set time_mask=16")
        if name in given or name in fields:
            other = f"--{name.replace('_', '-')}" if name in given else f"{option} {name}={fields[name]}"
            raise ValueError(f"{option} {pair}: {name} is also given as {other}; leave one out")
        fields[name] = value
    return fields


def _augmentation(name: str | None) -> dict[str, str]:
    from specenhance.training.recipe import augmentation

    return {} if name is None else {field: str(value) for field, value in augmentation(name).items()}


def chosen_recipe(path: Path | None, fields: dict[str, str]) -> Recipe:
    """Make a recipe of what the options give, and of a file if there is one."""
    from specenhance.data.registry import list_data
    from specenhance.training.recipe import in_place, load_recipe, recipe_for

    fields = in_place(fields, Path())  # a run is resumed from anywhere
    if path is not None:
        return load_recipe(path, **fields)
    if "data" not in fields:
        raise ValueError(
            f"--data is missing: expected one of {', '.join(list_data())} (or --recipe FILE, or --resume RUN)"
        )
    return recipe_for(**fields)


def require_data(recipe: Recipe) -> None:
    """Refuse a data set that does not exist, before a large library is loaded."""
    for path in (recipe.root, recipe.csv):
        if path and not is_url(path) and not Path(path).exists():
            raise FileNotFoundError(f"{path}: no such {'table' if path == recipe.csv else 'folder'}; check the path")


def _new_folder(recipe: Recipe) -> Path:
    """Make a run folder that no other process has. Several runs in one second get a folder each."""
    backbone = recipe.backbone.rstrip("/").rpartition("/")[2]  # of a path, the last part
    name = file_name(f"{recipe.data}-{backbone}-{recipe.frontend}-{time.strftime('%Y%m%d-%H%M%S')}")
    for number in itertools.count(1):
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("unreachable")


COMMANDS = {"demo": demo, "train": train, "recipe": recipe, "check": check}
