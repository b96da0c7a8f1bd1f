"""Detections in many sounds, as a table: resumable, written whole, with a table of the files that could not be read."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from specenhance._checksum import KEY
from specenhance._files import atomic_folder, atomic_path, check_output, remove_leftovers
from specenhance._names import cell
from specenhance._version import __version__
from specenhance.annotations.annotation import Annotation, exact
from specenhance.annotations.parquet import pyarrow
from specenhance.annotations.tables import PER_SOUND, Format, sound_tables, table
from specenhance.detection.detections import Collector
from specenhance.detection.journal import Journal, journal_path
from specenhance.detection.thresholds import DEFAULT, read_thresholds, several_classes, stored_thresholds
from specenhance.detection.work import Job, Part, parts_of, processes, work_through

__all__ = ["Done", "Told", "check_place", "errors_path", "predict_sounds", "results", "window_and_hop", "write_errors"]

Told = Callable[[int, float], None]


class Done(NamedTuple):
    """What was done.

    Attributes:
        sounds: Number of sounds, also those that could not be read.
        errors: Number of sounds that could not be read.
        rows: Number of rows of the table.
        seconds: Length of all sounds that were read.
    """

    sounds: int
    errors: int
    rows: int
    seconds: float


def window_and_hop(model: Any, window: float | None, hop: float | None) -> tuple[int, int]:
    """Convert the length of a window and the time from one to the next from seconds to samples.

    Args:
        model: A model with ``sample_rate``, ``samples`` and ``clip_samples``.
        window: Length of a window, in seconds. The default is that of the training clips.
        hop: Time from one window to the next, in seconds. The default is the window.

    Raises:
        ValueError: for a window that the model does not look at whole, and for a hop longer than the window.

    >>> from types import SimpleNamespace
    >>> window_and_hop(SimpleNamespace(sample_rate=16000, samples=20000, clip_samples=16000), None, 0.5)
    (16000, 8000)
    """
    longest = model.samples / model.sample_rate
    if window is not None and not 0 < window <= longest:
        raise ValueError(f"--window {window}: expected seconds, more than 0 and at most the {longest} of the model")
    samples = model.clip_samples if window is None else max(1, round(window * model.sample_rate))
    if hop is not None and not 0 < hop <= samples / model.sample_rate:
        raise ValueError(
            f"--hop {hop}: expected seconds, more than 0 and at most the window's {samples / model.sample_rate}"
        )
    return samples, samples if hop is None else max(1, round(hop * model.sample_rate))


def predict_sounds(
    open_model: Callable[[], Any],
    sounds: Sequence[str],
    out: str | os.PathLike[str],
    *,
    format: Format,
    fingerprint: str | None = None,
    thresholds: float | Sequence[float] | str | None = None,
    several: bool | None = None,
    window: float | None = None,
    hop: float | None = None,
    merge: float | None = None,
    top: int | None = None,
    batch_size: int = 32,
    jobs: int | None = None,
    allow_truncated: bool = False,
    told: Told = lambda sounds, seconds: None,
) -> Done:
    """Write a table of what a model finds in sounds, one row for each detection.

    What is done is kept in a journal beside ``out`` until the end. The same call goes on with it after a kill, and writes the
    same table, byte for byte. Files that cannot be read are in the table :func:`errors_path`.

    Args:
        open_model: Opens the model, such as ``partial(OnnxModel, "model.onnx", threads=1)``. It is called in every process.
        sounds: Paths of sound files, see :func:`specenhance.detection.sounds.find_sounds`.
        out: The table. For Raven and Audacity a folder that is not there yet, with one file for each sound.
        format: The format of the table.
        fingerprint: A checksum of the model. A journal of another one is refused. The default is the one that an ONNX file's
            metadata have.
        thresholds: Minimum probability of each class, or one number for all, or a text as for
            :func:`specenhance.detection.thresholds.read_thresholds`. The default is what is stored with the model, else 0.5.
        several: Whether a window may have several classes, see :func:`specenhance.detection.detections.detected`. The default
            is what the model was trained for.
        window: Length of a window, in seconds. The default is that of the training clips.
        hop: Time from one window to the next, in seconds. The default is the window.
        merge: Maximum gap in seconds between windows of a class that become one row. None merges nothing.
        top: Write this number of classes for every window, whatever the thresholds are.
        batch_size: Number of windows that are computed together.
        jobs: Number of processes. The default is one for every two cores.
        allow_truncated: Whether to use incomplete files too, as far as they can be read.
        told: Is called as in :func:`specenhance.detection.work.work_through`, first for what the journal has already.

    Raises:
        ValueError: for a setting out of range; for a journal of other settings; for a label or file that the format cannot hold
            exactly.
        OSError: for an output that cannot be written, and if a process was killed.
        ImportError: if a package is missing.
    """
    out = Path(out)
    check_place(out, format)
    for name, value in (("--batch-size", batch_size), ("--jobs", 1 if jobs is None else jobs)):
        if value < 1:
            raise ValueError(f"{name} {value}: expected 1 or more")
    if merge is not None and not 0 <= merge < float("inf"):
        raise ValueError(f"--merge {merge}: expected seconds, 0 or more")
    model = open_model()
    classes: list[str] = model.classes
    samples, step = window_and_hop(model, window, hop)
    if thresholds is None:
        stored = stored_thresholds(model)
        thresholds = DEFAULT if stored is None else stored
    elif isinstance(thresholds, str):
        thresholds = read_thresholds(thresholds, classes)
    several = several_classes(model) if several is None else several
    if format in ("csv", *PER_SOUND):
        for text, what in (*((name, "label") for name in classes), *((sound, "file") for sound in sounds)):
            exact(text, what, format)
    collector = partial(Collector, thresholds, several, merge, top)
    job = Job(open_model, _probabilities, collector, model.sample_rate, samples, step, batch_size, allow_truncated)
    settings = {
        "version": __version__,
        "model": model.metadata[KEY] if fingerprint is None else fingerprint,
        "--window": samples / model.sample_rate,
        "--hop": step / model.sample_rate,
        "--threshold": thresholds if isinstance(thresholds, float | int) else list(thresholds),
        "several classes": several,
        "--merge": merge,
        "--all --top": top,
        "--batch-size": batch_size,
        "--allow-truncated": allow_truncated,
    }
    parts = parts_of(sounds, batch_size)
    with Journal(journal_path(out), settings) as journal:
        for part in parts:
            if part.key in journal:
                told(len(part.sounds), 0.0)
        work_through(job, parts, journal, processes() if jobs is None else jobs, told, model)
        done = _write(out, format, parts, journal, classes, job.sample_rate / 2)
        journal.remove()
    return done


def check_place(out: Path, format: Format) -> None:
    """Refuse an output that cannot be written, before the work.

    Args:
        out: The output.
        format: Its format.

    Raises:
        OSError: if nothing can be written there, and for a folder that is not empty where one is to be written.
        ImportError: for Parquet without pyarrow.

    >>> check_place(Path("none/birds.csv"), "csv")
    Traceback (most recent call last):
    FileNotFoundError: none/birds.csv: there is no folder none; make it (mkdir -p none) or choose another --out
    """
    if format == "parquet":
        pyarrow()
    if format not in PER_SOUND:
        check_output(out)
        return
    if not out.parent.exists():
        raise FileNotFoundError(f"{out}: there is no folder {out.parent}; make it, or choose another --out")
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise FileExistsError(f"{out}: already there; remove it, or choose another --out")


def errors_path(out: Path) -> Path:
    """Give the table of the files that could not be read.

    >>> errors_path(Path("out/birds.csv")).name, errors_path(Path("site.2")).name
    ('birds.errors.csv', 'site.2.errors.csv')
    """
    stem = out.stem if out.suffix.lower() in (".csv", ".jsonl", ".ndjson", ".parquet", ".npy", ".npz") else out.name
    return out.with_name(f"{stem}.errors.csv")


def results(parts: Sequence[Part], journal: Journal) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give what was found in each sound, in the order of the sounds, see :func:`specenhance.detection.work.do`.

    Args:
        parts: The parts of the work, all done.
        journal: The journal of the work.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Journal(Path(folder, "journal"), {}) as journal:
    ...     journal.add("key", [{"error": "a.wav: cannot be decoded"}])
    ...     list(results([Part("key", ["a.wav"])], journal))
    [('a.wav', {'error': 'a.wav: cannot be decoded'})]
    """
    for part in parts:
        yield from zip(part.sounds, journal.get(part.key), strict=True)


def write_errors(out: Path, errors: Sequence[tuple[str, str]]) -> None:
    """Write the table of the files that could not be read, or remove an older one if there are none.

    Args:
        out: The output that the table is of.
        errors: Pairs of file and reason.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_errors(Path(folder, "birds.csv"), [("a.wav", "a.wav: cannot be decoded")])
    ...     print(Path(folder, "birds.errors.csv").read_text())
    "file","error"
    "a.wav","a.wav: cannot be decoded"
    <BLANKLINE>
    """
    path = errors_path(out)
    if not errors:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(["file", "error"])
        writer.writerows([cell(name), cell(reason)] for name, reason in errors)


def _write(
    out: Path, format: Format, parts: Sequence[Part], journal: Journal, classes: Sequence[str], top: float
) -> Done:
    """Write the table from the journal, sound by sound."""
    errors: list[tuple[str, str]] = []
    sounds, rows, seconds = 0, 0, 0.0

    def annotations(file: str, found: Sequence[Sequence[Any]]) -> Iterator[Annotation]:
        for start, end, label, probability in found:
            yield Annotation(file, start, end, classes[label], probability)

    remove_leftovers(out.parent, out.stem)
    with ExitStack() as stack:
        if format in PER_SOUND:
            if out.is_dir():
                out.rmdir()  # empty, as was checked
            folder = stack.enter_context(atomic_folder(out))
            paths = [sound for part in parts for sound in part.sounds]
            write_sound = stack.enter_context(sound_tables(folder, paths, format, top=top))
        else:
            temporary = stack.enter_context(atomic_path(out))
            write = stack.enter_context(table(temporary, format))
        for sound, found in results(parts, journal):
            sounds += 1
            if "error" in found:
                errors.append((sound, found["error"]))
                continue
            rows, seconds = rows + len(found["result"]), seconds + found["seconds"]
            if format in PER_SOUND:
                # Raven opens the sound by its path, and the table lies elsewhere.
                file = os.path.abspath(sound) if format == "raven" else sound
                write_sound(sound, annotations(file, found["result"]))
            else:
                for one in annotations(sound, found["result"]):
                    write(one)
        write_errors(out, errors)
    return Done(sounds, len(errors), rows, seconds)


def _probabilities(model: Any, batch: np.ndarray) -> np.ndarray:
    return model.batch_probabilities(batch)
