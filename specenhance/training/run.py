"""Training runs, each in a folder from which it can be resumed after any stop and extended when it is finished."""

from __future__ import annotations

import csv
import io
import json
import logging
import shlex
import statistics
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch
from torch import Tensor

from specenhance._files import remove_leftovers, write_text
from specenhance._names import cell, shown
from specenhance.analysis.masks import constant_mask
from specenhance.analysis.plots import plot_confusion, plot_curves, plot_enhancement, save_figure
from specenhance.data.registry import data_folds
from specenhance.inference import as_batch
from specenhance.models.adapter import FrontendModel
from specenhance.training.batches import loader
from specenhance.training.build import build_features, build_model, build_split, check_backbone, measure_normalisation
from specenhance.training.loop import Trained, cached, open_splits, train_rank
from specenhance.training.machine import MEMORY, Machine
from specenhance.training.manifest import MANIFEST, save_manifest
from specenhance.training.prepare import prepare
from specenhance.training.ranks import ranks
from specenhance.training.recipe import Recipe, load_recipe, save_recipe
from specenhance.training.stopping import StopSignals, stop_signals
from specenhance.training.store import (
    RECIPE,
    RESULT,
    Stored,
    load_stored,
    read_history,
    save_model,
    save_pretrained,
    stored_runs,
)
from specenhance.training.teach import load_teacher

__all__ = ["picture", "resume", "train"]

LOCK = ".lock"
SKIPPED = "skipped.txt"

_log = logging.getLogger(__name__)


def train(recipe: Recipe, out: Path, **machine: Any) -> dict[str, Any]:
    """Train a recipe into a new run folder, test it, and write its result; ESC-50 with ``fold = 0`` runs all five folds.

    The folder gets ``recipe.toml``, ``clips.jsonl``, ``metrics.csv``, ``tensorboard/``, ``checkpoints/``,
    ``model.safetensors``, ``result.json``, ``confusion_matrix.csv`` and ``.png``, ``curves.png`` and ``enhanced.png``, and for
    ``role = "teacher"`` ``pretrained/``, the model as its own library stores it. A picture that cannot be drawn is
    a line of news; :func:`resume` tries again.

    Args:
        recipe: what to train.
        out: the run folder; it must not exist, or be empty.
        **machine: fields of :class:`specenhance.training.machine.Machine`.

    Returns:
        What ``result.json`` holds.

    Raises:
        FileExistsError: if ``out`` has something in it.
        FileNotFoundError, ValueError: as the data set, the model and the teacher do; for a folder that another process is
            training in; for files that cannot be used.
        DivergedError: where the loss is no longer finite.
        Stopped: where a signal asked for a stop.
    """
    settings = Machine(**machine)
    _check_parts(recipe, settings)
    with stop_signals() as stop, _locked(out):
        _require_empty(out)
        try:
            _check_names(recipe, settings)  # before any clip is read
            recipe = _prepare(recipe, out)
            _check_names(recipe, settings)
        except BaseException:
            _abandon(out)
            raise
        return _run(recipe, out, settings, stop)


def resume(
    out: Path,
    *,
    epochs: int | None = None,
    root: Path | None = None,
    csv: Path | None = None,
    **machine: Any,
) -> dict[str, Any]:
    """Continue a run where it was stopped; a run that has its result is only reported, or extended.

    On the CPU the result is the one that an uninterrupted run would have had. Arguments as :func:`train`, and:

    Args:
        out: the run folder.
        epochs: more epochs than a finished run had. Its weights, its optimizer and its best epoch are taken up. The rate
            of a one-cycle schedule makes another cycle over the new epochs; that of the other schedules goes on.
        root: the data set's folder, if it has moved.
        csv: the data set's table, if it has moved.
        **machine: fields of :class:`specenhance.training.machine.Machine`.

    Raises:
        FileNotFoundError: if ``out`` is no run folder.
        ValueError: where its clips are not those that it was trained on; for epochs that are not more; as :func:`train`.
    """
    if not (out / RECIPE).is_file():
        raise FileNotFoundError(
            f"{out}: no training run, it has no {RECIPE}; start one with specenhance train --out {out}"
        )
    settings = Machine(**machine)
    recipe = load_recipe(out / RECIPE)
    done = _result(out, recipe)
    if done is not None and root is csv is None and epochs in (None, recipe.epochs):
        _log.info(f"{out}: finished already")
        for run in stored_runs(out):
            _pictures(run)
        return done
    with stop_signals() as stop, _locked(out):
        moved = {name: str(path.resolve()) for name, path in (("root", root), ("csv", csv)) if path is not None}
        if moved:
            recipe = _moved(recipe, moved, out)
        if epochs is not None:
            recipe = _extended(recipe, epochs, out)
        return _run(recipe, out, settings, stop)


def _run(recipe: Recipe, out: Path, machine: Machine, stop: StopSignals) -> dict[str, Any]:
    """Go on with a run from wherever it stands, to its result."""
    done = _result(out, recipe)
    if done is not None:
        _log.info(f"{out}: finished already")
        return done
    return (_train_folds if _has_folds(recipe) else _train_one)(recipe, out, machine, stop)


def picture(model: FrontendModel, waveform: Tensor | np.ndarray, title: str = "") -> Any:
    """Draw what the model's front end does to one waveform ``(samples,)``: a matplotlib figure.

    Raises:
        TypeError, ValueError: as :func:`specenhance.inference.as_batch`.
    """
    with torch.no_grad():
        spec = model.eval().spectrogram(as_batch(model, waveform))
        enhanced = model.frontend(spec)
        mask = model.frontend.mask(spec) if hasattr(model.frontend, "mask") else None
    return plot_enhancement(
        spec[0, 0],
        enhanced[0, 0],
        None if mask is None else mask[0, 0],
        hop_seconds=model.features.hop_seconds,
        frequencies=[float(f) for f in model.features.frequencies],
        title=title,
    )


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Have a run folder for this process alone; what a killed one left half written in it is removed.

    Raises:
        ValueError: if another process has it.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ValueError(f"{out}: another process is training in it; wait for it, or choose another --out") from None
    try:
        for folder in (out, out / "checkpoints"):
            if folder.is_dir():
                remove_leftovers(folder)
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            (out / LOCK).unlink(missing_ok=True)  # before it is released: whoever waits for it then takes a new one
        lock.release()


def _require_empty(out: Path) -> None:
    there = [entry.name for entry in out.iterdir() if entry.name != LOCK]
    if not there:
        return
    cure = f"continue it with --resume {out}, or " if (out / RECIPE).is_file() else ""
    raise FileExistsError(f"{out}: already there, with {', '.join(sorted(there)[:3])}; {cure}choose another --out")


def _abandon(out: Path) -> None:
    """Remove what a run that cannot start has written, and its folder."""
    for name in (RECIPE, MANIFEST, SKIPPED, LOCK):
        (out / name).unlink(missing_ok=True)
    with suppress(OSError):  # not empty, or not ours to remove
        out.rmdir()


def _prepare(recipe: Recipe, out: Path) -> Recipe:
    """Fit a recipe to its data, and write it down with its clips."""
    prepared = prepare(recipe.replace(fold=1) if _has_folds(recipe) else recipe)
    whole = prepared.recipe.replace(fold=recipe.fold)
    left_out = [clip.left_out for clip in prepared.manifest.clips if clip.left_out]
    if left_out:
        write_text(out / SKIPPED, "".join(f"{fault}\n" for fault in dict.fromkeys(left_out)))
    if not _has_folds(recipe):
        save_manifest(prepared.manifest, out)
    save_recipe(whole, out / RECIPE)
    return whole


def _train_one(recipe: Recipe, out: Path, machine: Machine, stop: StopSignals) -> dict[str, Any]:
    _check_parts(recipe, machine)
    if not (out / MANIFEST).is_file():
        recipe = _prepare(recipe, out)
    parts = open_splits(recipe, out)
    if recipe.mean is None:
        samples = getattr(build_features(recipe), "samples", None)
        seconds = None if samples is None else samples / recipe.sample_rate
        with closing(loader(parts["train"], recipe, train=False, workers=machine.workers, seconds=seconds)) as batches:
            measured = measure_normalisation(recipe, batches)
        recipe = recipe.replace(mean=measured.mean, std=measured.std)
        save_recipe(recipe, out / RECIPE)
        _log.info(f"normalisation measured on the training clips: mean {measured.mean:.4f}, std {measured.std:.4f}")
    if machine.devices > 1 and machine.cache not in ("", MEMORY):
        for data in parts.values():  # here, so that the processes do not do it all at once
            cached(data, machine)
    with ranks(machine.devices, train_rank, recipe, out, machine):
        trained = train_rank(recipe, out, machine, stop)
        assert trained is not None
        return _finish(recipe, out, trained)


def _finish(recipe: Recipe, out: Path, trained: Trained) -> dict[str, Any]:
    """Write what came out of a training, the result last of all that matters: it says that the run is finished."""
    save_model(trained.model, trained.classes, out)
    if recipe.role == "teacher":
        save_pretrained(trained.model, trained.classes, out)
    _write_confusion(trained.score.confusion, trained.classes, out)
    write_text(out / RESULT, json.dumps(trained.result, indent=2) + "\n")
    _pictures(out, Stored(trained.model, trained.classes, recipe))
    if warning := constant_mask(trained.model, recipe.frontend, trained.validation):
        _log.warning(warning.removeprefix("warning: "))
    _warn_of_chance(trained)
    _log.info(f"test accuracy {trained.score.accuracy:.2%}, in {out}")
    return trained.result


def _warn_of_chance(trained: Trained) -> None:
    """Say when a model is no better than one that always names the class with the most test clips."""
    counts = trained.score.confusion.sum(1)
    largest = int(counts.argmax())
    always = float(counts[largest] / counts.sum())
    if trained.score.accuracy <= always:
        _log.warning(
            f"the test accuracy is no better than that of always naming {trained.classes[largest]!r} ({always:.2%}). "
            "Try more epochs (--epochs), another rate (--lr) or more clips; curves.png shows whether it learned at all"
        )


def _train_folds(recipe: Recipe, out: Path, machine: Machine, stop: StopSignals) -> dict[str, Any]:
    results = []
    folds = data_folds(recipe.data)
    for fold in range(1, folds + 1):
        folder = out / f"fold{fold}"
        _log.info(f"fold {fold} of {folds}")
        if not (folder / RECIPE).is_file():
            save_recipe(recipe.replace(fold=fold), folder / RECIPE)
        results.append(_run(load_recipe(folder / RECIPE), folder, machine, stop))
    accuracies = [result["test_accuracy"] for result in results]
    result = {
        "test_accuracy": statistics.mean(accuracies),
        "fold_accuracies": accuracies,
        "fold_standard_deviation": statistics.stdev(accuracies),
        "seconds": round(sum(result["seconds"] for result in results), 1),
        "parameters": results[0]["parameters"],
        "recipe": recipe.model_dump(mode="json"),
    }
    write_text(out / RESULT, json.dumps(result, indent=2) + "\n")
    _log.info(f"mean test accuracy of {folds} folds: {result['test_accuracy']:.2%}")
    return result


def _result(out: Path, recipe: Recipe) -> dict[str, Any] | None:
    """Give the result of a run if it is that of its recipe: one that was extended since has none yet."""
    if not (out / RESULT).is_file():
        return None
    result: dict[str, Any] = json.loads((out / RESULT).read_text(encoding="utf-8"))
    return result if result["recipe"]["epochs"] == recipe.epochs else None


def _extended(recipe: Recipe, epochs: int, out: Path) -> Recipe:
    """Give a finished run more epochs, in its folder too."""
    if epochs == recipe.epochs:
        return recipe
    if epochs < recipe.epochs:
        raise ValueError(f"epochs = {epochs}: {out} has {recipe.epochs} already; expected more")
    if _result(out, recipe) is None:
        raise ValueError(
            f"epochs = {epochs}: {out} is not finished, and only a finished run can be extended; finish it first: "
            f"specenhance train --resume {out}"
        )
    extended = recipe.replace(epochs=epochs, cycle_from=recipe.epochs)
    for folder in sorted(out.glob("fold*")) if _has_folds(recipe) else []:
        save_recipe(extended.replace(fold=load_recipe(folder / RECIPE).fold), folder / RECIPE)
    save_recipe(extended, out / RECIPE)
    return extended


def _moved(recipe: Recipe, changes: dict[str, str], out: Path) -> Recipe:
    """Point a run, and its folds, to where its data lies now; the same clips, or nothing is changed."""
    moved = recipe.replace(**changes)
    if not _has_folds(recipe):
        open_splits(moved, out)
    for folder in sorted(path.parent for path in out.glob(f"fold*/{RECIPE}")):
        _moved(load_recipe(folder / RECIPE), changes, folder)
    save_recipe(moved, out / RECIPE)
    return moved


def _has_folds(recipe: Recipe) -> bool:
    return data_folds(recipe.data) > 0 and recipe.fold == 0


def _check_parts(recipe: Recipe, machine: Machine) -> None:
    if recipe.batch_size % machine.devices:
        raise ValueError(
            f"batch_size = {recipe.batch_size} is the batch of all {machine.devices} devices together, who have equal parts of "
            f"it: expected a multiple of {machine.devices}"
        )


def _check_names(recipe: Recipe, machine: Machine) -> None:
    """Refuse what nobody knows, what does not fit together, and features that cannot be where they are to be."""
    check_backbone(recipe)
    some = recipe.replace(frames=recipe.frames or 128, pretrained=False)  # 0: not fitted yet
    model = build_model(some, 2)
    if machine.features_on == "worker" and any(True for _ in model.features.parameters()):
        raise ValueError(
            f"features_on = 'worker': the features {recipe.features!r} learn, which they can only in the model; "
            "expected 'device'"
        )
    first = some.replace(fold=1) if _has_folds(recipe) else some
    load_teacher(first, build_split(first, "train").classes)


def _write_confusion(confusion: Tensor, classes: list[str], out: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(["true \\ predicted", *map(cell, classes)])
    writer.writerows([cell(name), *row] for name, row in zip(classes, confusion.tolist(), strict=True))
    write_text(out / "confusion_matrix.csv", text.getvalue())


def _pictures(run: Path, trained: Stored | None = None) -> None:
    """Draw the pictures of a finished run that are not there; one that cannot be drawn is told, and costs nothing else."""
    stored = cache(lambda: trained or load_stored(run))

    def confusion() -> Any:
        with (run / "confusion_matrix.csv").open(encoding="utf-8", newline="") as file:
            _, *rows = csv.reader(file)
        return plot_confusion(torch.tensor([[int(count) for count in row[1:]] for row in rows]), stored().classes)

    def enhanced() -> Any:
        model, classes, recipe = stored()
        waveform, label = build_split(recipe, "test")[0]
        return picture(model, waveform, title=f"{classes[label]} (first test clip)")

    for name, draw in (
        ("confusion_matrix.png", confusion),
        ("curves.png", lambda: plot_curves(read_history(run))),
        ("enhanced.png", enhanced),
    ):
        if trained is not None:
            (run / name).unlink(missing_ok=True)  # of an earlier end of the run
        if not (run / name).is_file():
            try:
                save_figure(draw(), run / name)
            except Exception as error:  # whatever it is: the run is finished, and its result is written
                _log.warning(
                    f"{shown(run / name)} was not drawn ({shown(error)}); specenhance train --resume "
                    f"{shlex.quote(str(run))} tries again"
                )
