"""``predict``, ``enhance`` and ``listen``: a model on sounds."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specenhance._choices import Device
from specenhance._names import file_name, shown
from specenhance.cli import options
from specenhance.cli.console import errors_console, say, told
from specenhance.cli.train import require_run
from specenhance.cli.working import ON_A_GPU, fail_for, progress_bar, say_done

if TYPE_CHECKING:
    from specenhance.audio.windows import Classified

__all__ = ["COMMANDS", "enhance", "listen", "predict"]


def predict(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="[RUN|model.onnx] PATH...",
            help="A run folder or an exported model, unless --model is given. Then sound files, folders of them and patterns "
            "such as 'site*/**/*.wav'.",
        ),
    ],
    model: Annotated[
        Path | None, typer.Option(help="An ONNX file that 'specenhance export' wrote. It needs no PyTorch.")
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="Number of classes that are shown for each file, or with --all for each window: 3."),
    ] = None,
    first_window: Annotated[
        bool,
        typer.Option("--first-window", help="Classify only the start of a file that is longer than the model's input."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write a table of what is found when: .csv, .parquet or .jsonl, or a new folder for --format. It goes "
            "on where it was if the command is killed and given again."
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="raven|audacity",
            help="Write a folder of Raven's selection tables or of Audacity's labels to --out.",
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER|FILE",
            help="Minimum probability of a class, or a CSV with the columns label and threshold. The default is that of the "
            "model, or 0.5. For --out.",
        ),
    ] = None,
    window: Annotated[
        float | None,
        typer.Option(help="Length of a window, in seconds. The default is that of the training clips. For --out."),
    ] = None,
    hop: Annotated[
        float | None,
        typer.Option(help="Time from one window to the next, in seconds. The default is the window. For --out."),
    ] = None,
    merge: Annotated[
        float | None,
        typer.Option(
            metavar="GAP",
            help="Write windows of one class as one row if they follow within this many seconds; 0 if they touch. For --out.",
        ),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Write the --top classes of every window, whatever is probable. For --out.")
    ] = False,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Number of windows that are computed together: 32. For --out.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Number of processes. The default is one for every two cores. For --out."),
    ] = None,
    allow_truncated: options.AllowTruncated = False,
    device: options.DeviceName = "auto",
    progress: options.Progress = options.TERMINAL,
) -> None:
    """Classify sound files: the most probable classes of each, or with --out a table of what is found when."""
    with told():
        run: Path | None = None
        if model is None:
            run, model, files = _model_and_files(files)
        if model is not None and device != "auto":
            raise ValueError(
                f"--device {device}: with --model or an ONNX file onnxruntime computes on the CPU; leave it out"
            )
        settings = {
            "format": format,
            "threshold": threshold,
            "window": window,
            "hop": hop,
            "merge": merge,
            "all": all_ or None,
            "batch_size": batch_size,
            "jobs": jobs,
        }
        if out is None:
            for name, value in settings.items():
                if value is not None:
                    option = f"--{name.replace('_', '-')}"
                    raise ValueError(f"{option}: is for a table; add --out, such as --out table.csv, or leave it out")
        elif first_window:
            raise ValueError("--first-window: --out has a row for each window; leave one of them out")
        elif top is not None and not all_:
            raise ValueError(f"--top {top}: with --out it is for --all; add --all, or choose a --threshold")
        elif all_ and (threshold is not None or merge is not None):
            raise ValueError("--all: writes every window, whatever its probability; leave out --threshold and --merge")
        from specenhance.detection.sounds import find_sounds

        sounds = find_sounds(files)
        if out is None:
            _likeliest_of_each(run, model, sounds, top or TOP, first_window, allow_truncated, device)
            return
        from specenhance.annotations.tables import format_of
        from specenhance.detection.predicting import check_place, errors_path, predict_sounds

        kind = format_of(out, format)
        check_place(out, kind)
        opened, fingerprint, at_once = _opened(run, model, device)
        began = time.perf_counter()
        with progress_bar(len(sounds), progress) as tell:
            done = predict_sounds(
                opened,
                sounds,
                out,
                format=kind,
                fingerprint=fingerprint,
                thresholds=threshold,
                window=window,
                hop=hop,
                merge=merge,
                top=(top or TOP) if all_ else None,
                batch_size=batch_size or BATCH_SIZE,
                jobs=jobs or at_once,
                allow_truncated=allow_truncated,
                told=tell,
            )
        say_done(
            out, "rows", done.rows, done.sounds - done.errors, done.seconds, tell.seconds, time.perf_counter() - began
        )
        fail_for(done.errors, done.sounds, errors_path(out))


TOP, BATCH_SIZE = 3, 32


def _likeliest_of_each(
    run: Path | None,
    model: Path | None,
    sounds: list[str],
    top: int,
    first_window: bool,
    allow_truncated: bool,
    device: Device,
) -> None:
    listener: Any
    if model is not None:
        from specenhance.deploy.runtime import OnnxModel

        listener = OnnxModel(model)
    else:
        from specenhance.inference import Listening, chosen_device
        from specenhance.training.store import load_stored

        assert run is not None
        stored = load_stored(run, chosen_device(device))
        listener = Listening(stored.model, stored.recipe.clip_seconds)
    from specenhance.audio import read_blocks
    from specenhance.audio.windows import classify, likeliest

    for sound in sounds:
        blocks = read_blocks(sound, listener.sample_rate, allow_truncated=allow_truncated)
        found = classify(listener, blocks, listener.clip_samples, listener.samples, first_only=first_window)
        named = ", ".join(
            f"{listener.classes[label]} {probability:.1%}" for label, probability in likeliest(found.probabilities, top)
        )
        say(f"{sound}: {named}{_windows(found)}")


def _opened(run: Path | None, model: Path | None, device: Device) -> tuple[Callable[[], Any], str | None, int | None]:
    """Give what opens the model in any process, its checksum if it has none inside, and the number of processes on a GPU."""
    if model is not None:
        from specenhance.deploy.runtime import OnnxModel

        return partial(OnnxModel, model, threads=1), None, None
    from specenhance.inference import chosen_device
    from specenhance.training.opened import fingerprint, open_run

    assert run is not None
    chosen = chosen_device(device)
    return partial(open_run, run, chosen), fingerprint(run), None if chosen == "cpu" else ON_A_GPU


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
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Minimum probability of a class, for it to count as heard. The default is 0.4, or what is stored with a "
            "multi-label model.",
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Minimum difference between the probabilities of the first and second class. The default is 0.2. Not for a "
            "multi-label model.",
        ),
    ] = None,
    level: Annotated[
        float, typer.Option(help="Minimum level of a window, in dBFS (RMS). Quieter windows are not heard.")
    ] = -60.0,
    agree: Annotated[int, typer.Option(min=1, help="Minimum number of windows with the same class in an event.")] = 2,
    patience: Annotated[
        int, typer.Option(min=0, help="Number of windows in a row that may lie inside an event without its class.")
    ] = 0,
    debounce: Annotated[
        float, typer.Option(min=0, help="Minimum time between two events of the same class, in seconds.")
    ] = 0.0,
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
    json: Annotated[
        bool, typer.Option("--json", help="Print each event as a JSON object on its own line, with the label as it is.")
    ] = False,
    allow_truncated: options.AllowTruncated = False,
) -> None:
    """Classify a long sound as it comes: one line for each class heard, with start, end and maximum probability."""
    with told():
        from specenhance.audio import read_blocks, resampled
        from specenhance.audio.listen import MARGIN, THRESHOLD, Heard, events, pcm_blocks
        from specenhance.audio.listen import listen as listen_to
        from specenhance.deploy.runtime import OnnxModel

        exported = OnnxModel(model)
        samples, step = _window_and_step(exported, window, hop)
        least: float | list[float] = THRESHOLD if threshold is None else threshold
        if exported.thresholds is not None:
            if margin is not None:
                raise ValueError(
                    f"--margin {margin}: the classes of a multi-label model do not exclude one another; leave it out"
                )
            least = exported.thresholds if threshold is None else [threshold] * len(exported.classes)
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

        found = events(
            timed(),
            threshold=least,
            margin=MARGIN if margin is None else margin,
            level=level,
            agree=agree,
            patience=patience,
            debounce=debounce,
        )
        try:
            for event in found:
                label = exported.classes[event.label]
                if json:
                    told_as = {"start": round(event.start, 6), "end": round(event.end, 6), "label": label}
                    print(dumps(told_as | {"probability": round(event.probability, 6)}), flush=True)
                else:
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


def _model_and_files(paths: list[Path]) -> tuple[Path | None, Path | None, list[Path]]:
    """Tell a run folder, or else an ONNX file, from the paths after it."""
    first, *files = paths
    onnx = first.suffix == ".onnx" and not first.is_dir()
    if not files:
        what = "is a folder; " if first.is_dir() else ""
        raise ValueError(
            f"{first}: {what}expected a run folder and then audio files, or --model model.onnx and audio files"
        )
    if onnx:
        return None, first, files
    require_run(first)
    return first, None, files


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
