"""``export``: a run as one file for other machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specenhance._choices import Input
from specenhance.cli import options
from specenhance.cli.console import say, told

__all__ = ["COMMANDS", "export"]

CALIBRATION, MAX_LOSS = 300, 1.0


def export(
    run: options.Run,
    format: Annotated[
        str,
        typer.Option(
            help="onnx is for onnxruntime, web is a page for browsers, tflite is for LiteRT, pte is for ExecuTorch, pt2 is for "
            "PyTorch, aoti is compiled for this kind of processor."
        ),
    ] = "onnx",
    out: Annotated[
        Path | None, typer.Option(help="The file to write. The default is RUN/model.onnx or the like.")
    ] = None,
    input: Annotated[Input, typer.Option(help="What the model takes.")] = "waveform",
    int8: Annotated[bool, typer.Option("--int8", help="Write ONNX with the backbone in 8-bit integers.")] = False,
    calibration: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"Number of training clips that measure ranges for --int8. The default is {CALIBRATION}."
        ),
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(
            help="Maximum loss of accuracy on the test clips by --int8, in percentage points. "
            f"The default is {MAX_LOSS:g}."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write the file of --int8 whatever its loss is.")] = False,
    fixed_mask: Annotated[
        bool,
        typer.Option(
            "--fixed-mask",
            help="Write the front end's mask as a constant. Clips of the run's data show whether it is one.",
        ),
    ] = False,
    root: Annotated[
        Path | None,
        typer.Option(help="The data set's new folder, if it has moved. For --int8 and --fixed-mask."),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(help="The data set's new CSV file, if it has moved. For --int8 and --fixed-mask."),
    ] = None,
) -> None:
    """Write a run's model as one file for other machines. The file is compared with PyTorch first."""
    with told():
        if not int8 and (force or calibration is not None or max_loss is not None):
            raise ValueError("--calibration, --max-loss and --force are for --int8; add it or leave them out")
        if not (int8 or fixed_mask) and (root is not None or csv is not None):
            raise ValueError(
                "--root and --csv are for --int8 and --fixed-mask, which need clips; add one or leave them out"
            )
        from specenhance.training.exporting import export_run

        made = export_run(
            run,
            out,
            format=format,
            input=input,
            int8=int8,
            calibration=CALIBRATION if calibration is None else calibration,
            max_loss=MAX_LOSS if max_loss is None else max_loss,
            force=force,
            fixed_mask=fixed_mask,
            root=root,
            csv=csv,
        )
        if made.is_dir():
            say(
                f"open {made / 'index.html'} in a browser, or put the folder on any web server (by https, for the microphone)"
            )


COMMANDS = {"export": export}
