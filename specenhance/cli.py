"""The command line, ``specenhance COMMAND``.

Each command imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import io
import itertools
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from specenhance._missing import missing

try:
    import rich
    import typer
    from rich.console import Console
    from rich.table import Table
except ImportError as error:
    raise SystemExit(str(missing(error, "the command line needs more packages", "typer", "rich"))) from error

from specenhance._names import file_name, shown

if TYPE_CHECKING:
    from specenhance.deploy.windows import Classified
    from specenhance.training.recipe import Recipe

__all__ = ["main"]

FRONTENDS = ("identity", "tfe4")  # that the demo compares

app = typer.Typer(
    help="Learned time-frequency masks in front of any timm backbone, for sound classification.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Device(str, Enum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Role(str, Enum):
    """What a run's model is for."""

    student = "student"
    teacher = "teacher"


class Strategy(str, Enum):
    """How several devices train one model."""

    auto = "auto"
    ddp = "ddp"


class FeaturesOn(str, Enum):
    """Where spectrograms are made."""

    device = "device"
    worker = "worker"


class Split(str, Enum):
    """A part of a data set."""

    train = "train"
    validation = "validation"
    test = "test"


class PaperData(str, Enum):
    """A data set of the paper."""

    esc50 = "esc50"
    speech_commands = "speech_commands"


class Scale(str, Enum):
    """How large the models and how long the runs are."""

    paper = "paper"
    small = "small"


class Kind(str, Enum):
    """What ``list`` lists."""

    frontends = "frontends"
    features = "features"
    data = "data"
    backbones = "backbones"


class Format(str, Enum):
    """What ``export`` writes."""

    onnx = "onnx"
    pt2 = "pt2"
    aoti = "aoti"


class Input(str, Enum):
    """What an exported model takes."""

    waveform = "waveform"
    spectrogram = "spectrogram"


AllowTruncatedOption = Annotated[
    bool, typer.Option("--allow-truncated", help="Take what there is of sound files that are not whole.")
]
RootOption = Annotated[Path | None, typer.Option(help="The data set's folder, if it has moved.")]
CsvOption = Annotated[Path | None, typer.Option(help="The data set's table, if it has moved.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder that 'specenhance train' wrote.")]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute; auto takes a GPU if there is one.")]
DevicesOption = Annotated[int, typer.Option(min=1, help="How many of them share each batch, a process each.")]
StrategyOption = Annotated[Strategy, typer.Option(help="How they share it; auto is ddp where there are several.")]
WorkersOption = Annotated[int, typer.Option(min=0, help="Processes that read clips; 0 reads in this one.")]
FeaturesOnOption = Annotated[
    FeaturesOn, typer.Option(help="Make spectrograms in the model, or in the processes that read clips.")
]
CacheOption = Annotated[
    str,
    typer.Option(
        metavar="memory|FOLDER", help="Decode each clip once; a folder keeps them for later runs. None if left out."
    ),
]


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        from specenhance._version import __version__

        _say(__version__)
        raise typer.Exit


@app.command()
def train(
    data: Annotated[str | None, typer.Option(help="esc50, speech_commands, folder or synthetic.")] = None,
    root: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
    csv: Annotated[Path | None, typer.Option(help="With --data folder: a CSV of path, label[, split].")] = None,
    fold: Annotated[int | None, typer.Option(help="With --data esc50: the fold to test; all five if left out.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Any timm model, or ast:NAME_OR_PATH.")] = None,
    frontend: Annotated[str | None, typer.Option(help="A front end of 'specenhance list frontends'.")] = None,
    pretrained: Annotated[
        bool | None,
        typer.Option("--pretrained/--no-pretrained", help="Start from timm's weights, or from scratch."),
    ] = None,
    role: Annotated[
        Role | None,
        typer.Option(help="A teacher is fine-tuned by the paper's settings and stored for students to learn from."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Learn from it too: the run folder of a teacher, or ast:NAME_OR_PATH."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training clips; with --resume, more than a finished run had.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Clips in each step.")] = None,
    lr: Annotated[float | None, typer.Option(help="The learning rate at its peak.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and augmentation.")] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="A TOML file of recipe fields, such as a run's recipe.toml; options above override it."),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Train without files that cannot be used, and write down which.")
    ] = False,
    allow_truncated: AllowTruncatedOption = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Any other field of the recipe ('specenhance recipe' lists them); may be repeated.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The run folder, new; runs/DATA-BACKBONE-FRONTEND-TIME if left out."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Continue a stopped run, by its own recipe."),
    ] = None,
    device: DeviceOption = Device.auto,
    devices: DevicesOption = 1,
    strategy: StrategyOption = Strategy.auto,
    workers: WorkersOption = 0,
    features_on: FeaturesOnOption = FeaturesOn.device,
    cache: CacheOption = "",
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = sys.stderr.isatty(),
) -> None:
    """Train a model on labelled sounds, test it, and keep all of it in a run folder."""
    fields: dict[str, Any] = {
        "data": data,
        "root": root and root.resolve(),  # a run is resumed and evaluated from anywhere
        "csv": csv and csv.resolve(),
        "fold": fold,
        "backbone": backbone,
        "frontend": frontend,
        "pretrained": pretrained,
        "role": role and role.value,
        "teacher": str(Path(teacher).resolve()) if teacher and Path(teacher).is_dir() else teacher,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "skip_bad": skip_bad or None,
        "allow_truncated": allow_truncated or None,
    }
    fields = {name: str(value) for name, value in fields.items() if value is not None}
    with _told():
        settings: dict[str, Any] = {
            "device": device.value,
            "devices": devices,
            "strategy": strategy.value,
            "workers": workers,
            "features_on": features_on.value,
            "cache": cache,
            "progress": progress,
            "say": _say,
        }
        if resume is not None:
            changes: dict[str, Any] = {"epochs": epochs, "root": root, "csv": csv}
            fields = {name: value for name, value in fields.items() if name not in changes}
            if fields or set_ or recipe or out:
                raise ValueError(
                    "--resume continues a run by its own recipe; only these go with it: --epochs, --root, --csv, --device, "
                    "--devices, --strategy, --workers, --features-on, --cache and --progress"
                )
            _require_run(resume)
            from specenhance.training.run import resume as resume_run

            resume_run(resume, **changes, **settings)
            return
        for pair in set_ or ():
            name, equals, value = pair.partition("=")
            if not equals:
                raise ValueError(f"--set {pair}: expected FIELD=VALUE, such as --set time_mask=16")
            if name in fields:
                raise ValueError(f"--set {pair}: {name} is also given as --{name.replace('_', '-')}; leave one out")
            fields[name] = value
        chosen = _recipe(recipe, fields)
        _require_data(chosen)
        folder = out or _new_folder(chosen)
        _say(f"training in {folder}")  # what follows takes seconds to load
        from specenhance.training.run import train as train_run

        train_run(chosen, folder, **settings)


@app.command()
def recipe(
    data: Annotated[str, typer.Option(help="esc50, speech_commands, folder or synthetic.")] = "synthetic",
    role: Annotated[Role, typer.Option(help="What the model is for.")] = Role.student,
) -> None:
    """Print every field of a recipe, with its default for a data set and what it is: a file for 'train --recipe'."""
    with _told():
        from specenhance.data.registry import takes
        from specenhance.training.recipe import explain

        fields = {"data": data, "role": role.value} | ({"root": "."} if takes(data, "root") else {})
        _say(*explain(_recipe(None, fields)).splitlines())


@app.command()
def reproduce(
    data: Annotated[PaperData, typer.Argument(help="The data set.")],
    table: Annotated[
        int,
        typer.Option(
            min=2,
            max=4,
            help="2: the front ends, with a teacher. 3: the teacher, and every front end with it and without. "
            "4: the bare backbone and tfe4, with it and without.",
        ),
    ],
    root: Annotated[Path, typer.Option(help="The data set's folder.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder of all runs; what is done in it is not done again. reproduce/DATA-SCALE if left out."
        ),
    ] = None,
    scale: Annotated[Scale, typer.Option(help="small: the same path with small models and few epochs.")] = Scale.paper,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each student.")] = 5,
    pretrained: Annotated[
        bool | None,
        typer.Option("--pretrained/--no-pretrained", help="Start backbone and teacher from published weights, or not."),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Another one for the students; local-dir:FOLDER is local.")
    ] = None,
    teacher_backbone: Annotated[
        str | None, typer.Option(help="Another one for the teacher; ast:FOLDER and local-dir:FOLDER are local.")
    ] = None,
    device: DeviceOption = Device.auto,
    devices: DevicesOption = 1,
    strategy: StrategyOption = Strategy.auto,
    workers: WorkersOption = 0,
    features_on: FeaturesOnOption = FeaturesOn.device,
    cache: CacheOption = "",
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = sys.stderr.isatty(),
) -> None:
    """Run one of the paper's tables whole; stopped at any point, the same command goes on."""
    with _told():
        from specenhance.experiments.reproduce import reproduce as reproduce_table
        from specenhance.experiments.reproduce import to_markdown

        report = reproduce_table(
            data.value,
            table,
            root,
            out or Path("reproduce") / f"{data.value}-{scale.value}",
            scale=scale.value,
            repeats=repeats,
            pretrained=pretrained,
            backbone=backbone,
            teacher_backbone=teacher_backbone,
            device=device.value,
            devices=devices,
            strategy=strategy.value,
            workers=workers,
            features_on=features_on.value,
            cache=cache,
            progress=progress,
            say=_say,
        )
        _say(*to_markdown(report).splitlines())


@app.command()
def evaluate(
    run: RunArgument,
    split: Annotated[Split, typer.Option(help="The part of the data set.")] = Split.test,
    root: RootOption = None,
    csv: CsvOption = None,
    device: DeviceOption = Device.auto,
    workers: WorkersOption = 0,
) -> None:
    """Count a run's accuracy, and what it confuses most, on the data it was trained for."""
    with _told():
        _require_run(run)
        from specenhance.training.evaluate import evaluate as evaluate_run
        from specenhance.training.store import load_stored, stored_runs

        folders = stored_runs(run)
        accuracies = []
        for folder in folders:
            model, classes, recipe = load_stored(folder)
            recipe = recipe.moved_to(root, csv)
            result = evaluate_run(model, recipe, split.value, classes, device=device.value, workers=workers)
            accuracies.append(result.accuracy)
            _say(f"{folder}: {split.value} accuracy {result.accuracy:.2%} of {int(result.confusion.sum())} clips")
            wrong = result.confusion.clone().fill_diagonal_(0)
            for flat in wrong.flatten().argsort(descending=True, stable=True)[:5].tolist():
                true, predicted = divmod(flat, len(classes))
                if wrong[true, predicted]:
                    part = f"{int(wrong[true, predicted])} of {int(result.confusion[true].sum())}"
                    _say(f"  {part} {classes[true]} taken for {classes[predicted]}")
        if len(folders) > 1:
            _say(f"mean of {len(folders)} folds: {sum(accuracies) / len(accuracies):.2%}")


@app.command()
def check(
    data: Annotated[str, typer.Option(help="esc50, speech_commands, folder or synthetic.")],
    root: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
    csv: Annotated[Path | None, typer.Option(help="With --data folder: a CSV of path, label[, split].")] = None,
    allow_truncated: AllowTruncatedOption = False,
) -> None:
    """Read every sound of a data set whole, and say what cannot be used, what is passed over, and what stands twice."""
    with _told():
        fields: dict[str, Any] = {"root": root and root.resolve(), "csv": csv and csv.resolve()}
        fields = {"data": data, **{name: str(value) for name, value in fields.items() if value is not None}}
        from specenhance.data.registry import data_folds

        if data_folds(data):
            fields["fold"] = 1
        chosen = _recipe(None, fields | {"allow_truncated": str(allow_truncated)})
        _require_data(chosen)
        from specenhance.training.prepare import check as check_data

        faults = check_data(chosen, _say)
        if faults:
            raise typer.Exit(1)


@app.command()
def predict(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="[RUN] FILE...", help="A run folder, unless --model is given; then audio files."),
    ],
    model: Annotated[
        Path | None, typer.Option(help="An ONNX file that 'specenhance export' wrote; needs no PyTorch.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to show for each file.")] = 3,
    first_window: Annotated[
        bool,
        typer.Option("--first-window", help="Look only at the start of a file that is longer than the model looks at."),
    ] = False,
    allow_truncated: AllowTruncatedOption = False,
    device: DeviceOption = Device.auto,
) -> None:
    """Classify audio files: the most likely classes of each, over windows of a long one."""
    with _told():
        if model is None:
            run, *files = files
            if run.suffix == ".onnx" and not run.is_dir():
                raise ValueError(f"{run}: is an exported model, not a run folder; give it as --model {run}")
            if not files:
                what = "is a folder; " if run.is_dir() else ""
                raise ValueError(
                    f"{run}: {what}expected a run folder and then audio files, or --model model.onnx and audio files"
                )
            _require_run(run)
        elif device is not Device.auto:
            raise ValueError(f"--device {device.value}: with --model, onnxruntime computes on the CPU; leave it out")
        _check_sounds(files)
        listener: Any
        if model is not None:
            from specenhance.deploy.runtime import OnnxModel

            listener = OnnxModel(model)
            classes, window, longest = listener.classes, listener.clip_samples, listener.samples
        else:
            from specenhance.inference import Listening
            from specenhance.training.store import load_stored

            stored, classes, recipe = load_stored(run, _torch_device(device))
            listener = Listening(stored)
            longest = stored.features.samples
            window = min(longest, max(1, round((recipe.clip_seconds or longest) * recipe.sample_rate)))
        from specenhance.audio import read_blocks
        from specenhance.deploy.windows import classify, likeliest

        for file in files:
            blocks = read_blocks(file, listener.sample_rate, allow_truncated=allow_truncated)
            found = classify(listener, blocks, window, longest, first_only=first_window)
            told = ", ".join(
                f"{classes[label]} {probability:.1%}" for label, probability in likeliest(found.probabilities, top)
            )
            _say(f"{file}: {told}{_windows(found)}")


@app.command()
def report(
    run: RunArgument,
    out: Annotated[Path | None, typer.Option(help="The page; RUN/report.html if left out.")] = None,
    split: Annotated[Split, typer.Option(help="The part of the data set.")] = Split.test,
    clips: Annotated[
        list[Path] | None, typer.Option("--clip", help="An audio file whose mask is shown; may be given several times.")
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst clips to show.")] = 8,
    root: RootOption = None,
    csv: CsvOption = None,
) -> None:
    """Write one page on a run: curves, confusions, the worst clips with players, and what its mask does."""
    with _told():
        from specenhance._files import check_output

        if out is not None:
            check_output(out)
        from specenhance.training.reporting import report_run

        _say(report_run(run, out, split=split.value, clips=clips or [], worst=worst, root=root, csv=csv))


@app.command()
def export(
    run: RunArgument,
    format: Annotated[
        Format, typer.Option(help="onnx; pt2, PyTorch's own; aoti, compiled for this kind of processor.")
    ] = Format.onnx,
    out: Annotated[Path | None, typer.Option(help="The file to write; RUN/model.onnx or the like if left out.")] = None,
    input: Annotated[Input, typer.Option(help="What the model takes.")] = Input.waveform,
    int8: Annotated[bool, typer.Option("--int8", help="ONNX with the backbone in 8-bit integers.")] = False,
    calibration: Annotated[
        int | None, typer.Option(min=1, help="Training clips to measure ranges on, for --int8; 300 if left out.")
    ] = None,
    max_loss: Annotated[
        float | None, typer.Option(help="Points of accuracy that --int8 may lose on the test clips; 1 if left out.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write the file of --int8 whatever it loses.")] = False,
    root: Annotated[Path | None, typer.Option(help="The data set's folder, for --int8, if it has moved.")] = None,
    csv: Annotated[Path | None, typer.Option(help="The data set's table, for --int8, if it has moved.")] = None,
) -> None:
    """Write a run's model as one file for other machines, checked against PyTorch."""
    with _told():
        if not int8 and (force or any(option is not None for option in (calibration, max_loss, root, csv))):
            raise ValueError(
                "--calibration, --max-loss, --force, --root and --csv are for --int8, the only one that needs clips; add it or "
                "leave them out"
            )
        from specenhance.deploy.export import export as export_run

        export_run(
            run,
            out,
            format=format.value,
            input=input.value,
            int8=int8,
            calibration=300 if calibration is None else calibration,
            max_loss=1.0 if max_loss is None else max_loss,
            force=force,
            root=root,
            csv=csv,
            say=_say,
        )


@app.command()
def listen(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-", help="An audio file, or - for raw PCM on standard input: 16 bits, little-endian, mono."
        ),
    ],
    model: Annotated[Path, typer.Option(help="An ONNX file that 'specenhance export' wrote.")],
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Minimum probability of a class, for it to count as heard.")
    ] = 0.4,
    margin: Annotated[
        float,
        typer.Option(min=0, max=1, help="Minimum difference between the probabilities of the first and second class."),
    ] = 0.2,
    level: Annotated[
        float, typer.Option(help="Minimum level of a window, in dBFS (RMS). Quieter windows are not heard.")
    ] = -60.0,
    agree: Annotated[int, typer.Option(min=1, help="Minimum number of consecutive windows with the same class.")] = 2,
    window: Annotated[
        float | None,
        typer.Option(help="Seconds classified together. The default is the length of the training clips."),
    ] = None,
    hop: Annotated[
        float | None, typer.Option(help="Seconds from one window to the next. The default is an eighth of the window.")
    ] = None,
    rate: Annotated[
        int | None, typer.Option(min=1, help="Sample rate of the raw PCM, in Hz. The default is that of the model.")
    ] = None,
    allow_truncated: AllowTruncatedOption = False,
) -> None:
    """Classify a long sound as it comes: one line for each class heard, with start, end and maximum probability."""
    with _told():
        from specenhance.audio import read_blocks, resampled
        from specenhance.deploy.listen import Heard, events, pcm_blocks
        from specenhance.deploy.listen import listen as listen_to
        from specenhance.deploy.runtime import OnnxModel

        exported = OnnxModel(model)
        longest = exported.samples / exported.sample_rate
        if window is not None and not 0 < window <= longest:
            raise ValueError(f"--window {window}: expected seconds, more than 0 and at most the {longest} of the model")
        samples = exported.clip_samples if window is None else round(window * exported.sample_rate)
        if hop is not None and not 0 < hop <= samples / exported.sample_rate:
            most = samples / exported.sample_rate
            raise ValueError(f"--hop {hop}: expected seconds, more than 0 and at most the window's {most}")
        if rate is not None and source != "-":
            raise ValueError(f"--rate {rate}: for raw PCM on standard input; {source} says its own, leave it out")
        step = max(1, samples // 8) if hop is None else round(hop * exported.sample_rate)
        if source == "-":
            blocks = resampled(pcm_blocks(sys.stdin.buffer), rate or exported.sample_rate, exported.sample_rate)
        else:
            blocks = read_blocks(source, exported.sample_rate, allow_truncated=allow_truncated)
        end = computing = 0.0

        def timed() -> Iterator[Heard]:
            nonlocal end, computing
            for heard in listen_to(exported, blocks, samples, step):
                end, computing = heard.end, computing + heard.seconds
                yield heard

        try:
            for event in events(timed(), threshold=threshold, margin=margin, level=level, agree=agree):
                label = exported.classes[event.label]
                print(shown(f"{event.start:.2f} to {event.end:.2f} s: {label} {event.probability:.1%}"), flush=True)
        except BrokenPipeError:  # whoever read has seen enough
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (Python flushes it at its end)
        finally:
            if end:
                _console().print(
                    f"{end:.1f} s of sound in {computing:.1f} s of computing: real-time factor {computing / end:.4f}"
                )
        if not end:
            raise ValueError(f"{source}: no sound came; expected {'raw PCM' if source == '-' else 'samples in it'}")


@app.command()
def enhance(
    run: RunArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An audio file.")],
    out: Annotated[
        Path | None, typer.Option(help="The picture (.png, .pdf, .svg); FILE-enhanced.png here if left out.")
    ] = None,
) -> None:
    """Draw what a run's front end does to a sound: spectrogram, mask and enhanced spectrogram."""
    with _told():
        from specenhance._files import check_output

        out = out or Path(f"{file_name(file.stem)}-enhanced.png")
        check_output(out)
        from specenhance.analysis.masks import flat_mask
        from specenhance.analysis.plots import save_figure
        from specenhance.data import read_audio
        from specenhance.training.run import picture
        from specenhance.training.store import load_stored

        model, _, recipe = load_stored(run)
        waveform = read_audio(file, recipe.sample_rate)
        save_figure(picture(model, waveform, title=f"{file.name}, {recipe.frontend}"), out)
        _say(out)
        if warning := flat_mask(model, recipe.frontend, waveform):
            _console().print(warning)


@app.command("list")
def list_names(
    kind: Annotated[Kind | None, typer.Argument(help="What to list; all but the backbones if left out.")] = None,
    pattern: Annotated[str, typer.Option(help="For backbones: a pattern such as 'efficientnet*'.")] = "*",
) -> None:
    """List the front ends, features and data sets, or timm's backbones."""
    with _told():
        if kind is Kind.backbones:
            import timm

            names = timm.list_models(pattern)
            if not names:
                raise ValueError(f"--pattern {pattern!r}: no timm model has such a name; try '*{pattern.strip('*')}*'")
            _say(*names)
            return
        from specenhance.data.registry import list_data
        from specenhance.features import list_features
        from specenhance.frontends.registry import list_frontends

        known = {Kind.frontends: list_frontends(), Kind.features: list_features(), Kind.data: list_data()}
        if kind is not None:
            _say(*known[kind])
            return
        for name, values in known.items():
            _say(f"{name.value}: {', '.join(values)}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder for both runs and the pictures, new.")] = Path("demo"),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the built-in clips.")] = 10,
    device: DeviceOption = Device.auto,
) -> None:
    """Train with and without the front end on built-in sounds, in three minutes on two cores, and compare."""
    with _told():
        from specenhance.training.recipe import recipe_for
        from specenhance.training.run import train as train_run

        if out.exists():
            raise FileExistsError(f"{out}: already there; remove it or choose another --out")
        table = Table("front end", "test accuracy", "parameters", "seconds")
        for frontend in FRONTENDS:
            recipe = recipe_for("synthetic", frontend=frontend, backbone="mobilenetv3_small_050", epochs=epochs)
            result = train_run(recipe, out / frontend, device=device.value, say=_say)
            table.add_row(
                frontend,
                f"{result['test_accuracy']:.1%}",
                f"{result['parameters']['total']:,}",
                f"{result['seconds']:.0f}",
            )
        _say("what the front ends do, as pictures:", *(out / frontend / "enhanced.png" for frontend in FRONTENDS))
        rich.get_console().print(table)


def main() -> None:
    """Run the command line; the console script ``specenhance`` calls this."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without a name's letters shows their codes
    app()


def _check_sounds(files: list[Path]) -> None:
    for file in files:
        if file.is_dir():
            raise IsADirectoryError(f"{file}: is a folder; give the audio files in it, such as {file / '*.wav'}")


def _windows(found: Classified) -> str:
    if found.windows == 1:
        return "" if found.whole else " (its start only)"
    pauses = found.windows - found.counted
    return f" (mean of {found.counted} windows{f', {pauses} more are pauses' if pauses else ''})"


def _say(*lines: object) -> None:
    # On rich's own console, which moves a progress bar out of the way.
    for line in lines:
        rich.get_console().print(shown(line), markup=False, highlight=False, emoji=False, soft_wrap=True)


def _console() -> Console:
    return Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _recipe(path: Path | None, fields: dict[str, Any]) -> Recipe:
    from specenhance.data.registry import list_data
    from specenhance.training.recipe import load_recipe, recipe_for

    if path is not None:
        return load_recipe(path, **fields)
    if "data" not in fields:
        raise ValueError(
            f"--data is missing: expected one of {', '.join(list_data())} (or --recipe FILE, or --resume RUN)"
        )
    return recipe_for(**fields)


def _new_folder(recipe: Recipe) -> Path:
    """Make a run folder that no other process has; of several in one second each gets its own."""
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


def _require_run(run: Path) -> None:
    """Refuse what is no run folder, before anything heavy is loaded for it."""
    from specenhance.training.recipe import RECIPE

    if run.is_file():
        raise ValueError(f"{run}: a file, and no run folder that 'specenhance train' wrote")
    if not (run / RECIPE).is_file():
        raise FileNotFoundError(
            f"{run}: no training run, it has no {RECIPE}; give the folder that 'specenhance train' wrote"
        )


def _require_data(recipe: Recipe) -> None:
    """Refuse a data set that is not there, before anything heavy is loaded for it."""
    for path in (recipe.root, recipe.csv):
        if path and not Path(path).exists():
            raise FileNotFoundError(f"{path}: no such {'table' if path == recipe.csv else 'folder'}; check the path")


def _torch_device(device: Device) -> str:
    import torch

    if device is not Device.auto:
        return device.value
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


@contextmanager
def _told() -> Iterator[None]:
    """Tell a user's mistake in a line instead of a traceback; exit with 1, or 128 and the signal's number after a stop."""
    from specenhance.training.stopping import Stopped

    console = _console()
    handler = _Warnings(console)
    logger = logging.getLogger("specenhance")
    logger.addHandler(handler)
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        first, *more = getattr(error, "lines", [str(error)])
        for line in (f"error: {first}", *more):
            console.print(shown(line), style="red")
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, Stopped) as stop:
        console.print(shown(stop) or "stopped")
        raise typer.Exit(128 + getattr(stop, "signum", signal.SIGINT)) from None
    finally:
        logger.removeHandler(handler)


class _Warnings(logging.Handler):
    """Show the library's warnings, each once."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console, self._shown = console, set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a warning that has not been shown yet."""
        text = record.getMessage()
        if text not in self._shown:
            self._shown.add(text)
            self._console.print(shown(f"warning: {text}"), style="yellow")


if __name__ == "__main__":
    main()
