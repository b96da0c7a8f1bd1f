"""Options and arguments that several commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from specenhance._choices import Device, FeaturesOn, Split

__all__ = [
    "TERMINAL",
    "AllowTruncated",
    "Cache",
    "Conditions",
    "Csv",
    "Data",
    "DeviceName",
    "Devices",
    "FeaturesWhere",
    "Loggers",
    "MovedCsv",
    "MovedRoot",
    "Nodes",
    "Pretrained",
    "Progress",
    "Root",
    "Run",
    "SplitName",
    "Workers",
]

TERMINAL = sys.stderr.isatty()

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder that 'specenhance train' wrote.")]
Data = typer.Option(
    help="The data set: esc50, speech_commands, folder, synthetic, or another one of 'specenhance list data'."
)
Root = Annotated[str | None, typer.Option(metavar="FOLDER", help="The data set's folder, or the URL of shards.")]
Csv = Annotated[
    Path | None,
    typer.Option(help="A CSV file with the columns path, label and, if you like, split. For --data folder."),
]
MovedRoot = Annotated[Path | None, typer.Option("--root", help="The data set's new folder, if it has moved.")]
MovedCsv = Annotated[Path | None, typer.Option("--csv", help="The data set's new CSV file, if it has moved.")]
Conditions = Annotated[
    str | None,
    typer.Option(
        "--conditions",
        metavar="NAME:ARGUMENT,...",
        help="Conditions under which the clips are heard: clean,noise:20,gain:-12,reverb:0.5,lowpass:4000,codec:opus-16k.",
    ),
]
AllowTruncated = Annotated[
    bool,
    typer.Option("--allow-truncated", help="Use incomplete sound files too, as far as they can be read."),
]
SplitName = Annotated[Split, typer.Option("--split", help="The part of the data set.")]
Pretrained = Annotated[
    bool | None,
    typer.Option("--pretrained/--no-pretrained", help="Start from published weights, or from random weights."),
]
DeviceName = Annotated[Device, typer.Option("--device", help="Where to compute. auto uses a GPU if there is one.")]
Devices = Annotated[
    int,
    typer.Option(
        min=1, help="Number of devices of each machine that share each batch. Each device has its own process."
    ),
]
Nodes = Annotated[
    int,
    typer.Option(
        min=1, help="Number of machines that share each batch. torchrun or srun starts this command for each device."
    ),
]
Workers = Annotated[
    int, typer.Option(min=0, help="Number of processes that read clips. With 0 the main process reads them.")
]
FeaturesWhere = Annotated[
    FeaturesOn,
    typer.Option(
        "--features-on", help="Where spectrograms are made: on the device, or in the processes that read clips."
    ),
]
Cache = Annotated[
    str,
    typer.Option(
        metavar="memory|FOLDER",
        help="Decode each clip once, and keep it in memory or in a folder for later runs. The default is no cache.",
    ),
]
TeacherCache = Annotated[
    str,
    typer.Option(
        metavar="FOLDER",
        help="Keep the teacher's logits in a folder, for all runs that meet the same views of the clips. It needs "
        "--set teacher_views=K.",
    ),
]
Loggers = Annotated[
    str,
    typer.Option(
        "--log",
        metavar="NAME,...",
        help="Where figures are logged besides the run folder: tensorboard (files in it), wandb, mlflow.",
    ),
]
Progress = Annotated[bool, typer.Option(help="Show a progress bar.")]
