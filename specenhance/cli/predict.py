"""``predict``, ``enhance`` and ``listen``: a model on sounds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specenhance._names import file_name, shown
from specenhance.cli import options
from specenhance.cli.console import errors_console, say, told
from specenhance.cli.train import require_run

if TYPE_CHECKING:
    from specenhance.audio.windows import Classified

__all__ = ["COMMANDS", "enhance", "listen", "predict"]


def predict(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="[RUN] FILE...", help="A run folder, unless --model is given, and then audio files."),
    ],
    model: Annotated[
        Path | None, typer.Option(help="An ONNX file that 'specenhance export' wrote. It needs no PyTorch.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes that are shown for each file.")] = 3,
    first_window: Annotated[
        bool,
        typer.Option("--first-window", help="Classify only the start of a file that is longer than the model's input."),
    ] = False,
    allow_truncated: options.AllowTruncated = False,
    device: options.DeviceName = "auto",
) -> None:
    """Classify audio files: the most probable classes of each. A long file is classified in windows."""
    with told():
        if model is None:
            run, files = _run_and_files(files)
        elif device != "auto":
            raise ValueError(f"--device {device}: with --model, onnxruntime computes on the CPU; leave it out")
        for file in files:
            if file.is_dir():
                raise IsADirectoryError(f"{file}: is a folder; give the audio files in it, such as {file / '*.wav'}")
        listener: Any
        if model is not None:
            from specenhance.deploy.runtime import OnnxModel

            listener = OnnxModel(model)
        else:
            from specenhance.inference import Listening, chosen_device
            from specenhance.training.store import load_stored

            stored = load_stored(run, chosen_device(device))
            listener = Listening(stored.model, stored.recipe.clip_seconds)
        from specenhance.audio import read_blocks
        from specenhance.audio.windows import classify, likeliest

        for file in files:
            blocks = read_blocks(file, listener.sample_rate, allow_truncated=allow_truncated)
            found = classify(listener, blocks, listener.clip_samples, listener.samples, first_only=first_window)
            named = ", ".join(
                f"{listener.classes[label]} {probability:.1%}"
                for label, probability in likeliest(found.probabilities, top)
            )
            say(f"{file}: {named}{_windows(found)}")


def enhance(
    run: options.Run,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An audio file.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The picture, .png, .pdf or .svg. The default is FILE-enhanced.png in the current folder."),
    ] = None,
) -> None:
    """Draw what a run's front end does to a sound: spectrogram, mask and enhanced spectrogram."""
    with told():
        from specenhance._files import check_output

        out = out or Path(f"{file_name(file.stem)}-enhanced.png")
        check_output(out)
        from specenhance.analysis.enhancement import enhancement_picture
        from specenhance.analysis.masks import flat_mask
        from specenhance.analysis.plots import save_figure
        from specenhance.data import read_audio
        from specenhance.training.store import load_stored

        model, _, recipe = load_stored(run)
        waveform = read_audio(file, recipe.sample_rate)
        save_figure(enhancement_picture(model, waveform, title=f"{file.name}, {recipe.frontend}"), out)
        say(out)
        if warning := flat_mask(model, recipe.frontend, waveform):
            errors_console().print(warning)


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
        typer.Option(help="Length of a window, in seconds. The default is the length of the training clips."),
    ] = None,
    hop: Annotated[
        float | None,
        typer.Option(help="Time from one window to the next, in seconds. The default is an eighth of the window."),
    ] = None,
    rate: Annotated[
        int | None, typer.Option(min=1, help="Sample rate of the raw PCM, in Hz. The default is that of the model.")
    ] = None,
    allow_truncated: options.AllowTruncated = False,
) -> None:
    """Classify a long sound as it comes: one line for each class heard, with start, end and maximum probability."""
    with told():
        from specenhance.audio import read_blocks, resampled
        from specenhance.audio.listen import Heard, events, pcm_blocks
        from specenhance.audio.listen import listen as listen_to
        from specenhance.deploy.runtime import OnnxModel

        exported = OnnxModel(model)
        samples, step = _window_and_step(exported, window, hop)
        if rate is not None and source != "-":
            raise ValueError(
                f"--rate {rate}: only for raw PCM on standard input; leave it out, {source} has its own sample rate"
            )
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
        except BrokenPipeError:  # the reader has closed the pipe
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (Python flushes it at its end)
        finally:
            if end:
                errors_console().print(
                    f"{end:.1f} s of sound in {computing:.1f} s of computing: real-time factor {computing / end:.4f}"
                )
        if not end:
            raise ValueError(f"{source}: no samples; expected {'raw PCM' if source == '-' else 'a sound'}")


def _run_and_files(paths: list[Path]) -> tuple[Path, list[Path]]:
    run, *files = paths
    if run.suffix == ".onnx" and not run.is_dir():
        raise ValueError(f"{run}: is an exported model, not a run folder; give it as --model {run}")
    if not files:
        what = "is a folder; " if run.is_dir() else ""
        raise ValueError(
            f"{run}: {what}expected a run folder and then audio files, or --model model.onnx and audio files"
        )
    require_run(run)
    return run, files


def _windows(found: Classified) -> str:
    if found.windows == 1:
        return "" if found.whole else " (only its start)"
    pauses = found.windows - found.counted
    return f" (mean of {found.counted} windows{f', {pauses} more are pauses' if pauses else ''})"


def _window_and_step(exported: Any, window: float | None, hop: float | None) -> tuple[int, int]:
    """Convert the length of a window, and the time from one to the next, from seconds to samples."""
    longest = exported.samples / exported.sample_rate
    if window is not None and not 0 < window <= longest:
        raise ValueError(f"--window {window}: expected seconds, more than 0 and at most the {longest} of the model")
    samples = exported.clip_samples if window is None else round(window * exported.sample_rate)
    longest_hop = samples / exported.sample_rate
    if hop is not None and not 0 < hop <= longest_hop:
        raise ValueError(f"--hop {hop}: expected seconds, more than 0 and at most the window's {longest_hop}")
    return samples, max(1, samples // 8) if hop is None else round(hop * exported.sample_rate)


COMMANDS = {"predict": predict, "enhance": enhance, "listen": listen}
