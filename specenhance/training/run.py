"""Training runs. Each has a folder, from which it is resumed after a stop, or extended when it is finished."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from torch import nn

from specenhance._files import resolved_place, write_text
from specenhance._stopping import StopSignals, stop_signals
from specenhance.data import AudioDataset
from specenhance.inference import chosen_device
from specenhance.training.acoustics import check_folders
from specenhance.training.artefacts import finish
from specenhance.training.batches import loader
from specenhance.training.build import build_features, build_model, build_split, check_backbone, measure_normalisation
from specenhance.training.folder import SKIPPED, abandon, finished, locked, require_empty
from specenhance.training.folds import has_folds, train_folds
from specenhance.training.given import NOTHING, Given, check_model, given_parts
from specenhance.training.loggers import check_loggers
from specenhance.training.loop import cached, open_splits, train_rank
from specenhance.training.machine import MEMORY, Machine
from specenhance.training.manifest import MANIFEST, save_manifest
from specenhance.training.nodes import in_other_processes, together
from specenhance.training.pictures import draw_pictures
from specenhance.training.prepare import prepare
from specenhance.training.ranks import ranks
from specenhance.training.recipe import RECIPE, Recipe, load_recipe, save_recipe
from specenhance.training.start import load_start
from specenhance.training.store import read_history, stored_runs
from specenhance.training.teach import check_teacher, prepare_teacher

__all__ = ["check_recipe", "measured", "on_all_machines", "resume", "train"]

_log = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    out: Path,
    *,
    data: Mapping[str, Any] | None = None,
    model: nn.Module | None = None,
    classes: Sequence[str] | None = None,
    **machine: Any,
) -> dict[str, Any]:
    """Train a recipe in a new run folder, test the model, and write the result. ESC-50 with ``fold = 0`` trains all five folds.

    News and warnings go to the loggers of the library. The folder gets ``recipe.toml``, ``clips.jsonl``, ``metrics.csv``,
    ``tensorboard/``, ``checkpoints/``, ``model.safetensors``, ``result.json``, ``classes.csv``, ``confusion_matrix.csv`` and
    ``.png`` (not of a multi-label model), ``curves.png`` and ``enhanced.png``. For ``role = "teacher"`` it also gets
    ``pretrained/``, the backbone in the format of its own library. A picture that cannot be drawn is a warning, and
    :func:`resume` tries again.

    Args:
        recipe: the recipe.
        out: the run folder. It must not exist, or be empty.
        data: a data set to train on in place of the recipe's: its splits ``"train"``, ``"validation"`` and ``"test"``. Each
            is a ``torch.utils.data.Dataset`` with ``len``. Its items are pairs of a waveform ``(samples,)`` at the recipe's
            sample rate and a label from 0. ``recipe_for("given")`` is a recipe that fits itself to such data.
        model: a model to train in place of the recipe's, with the weights that it has. It is a
            :class:`~specenhance.FrontendModel`, or any backbone from spectrograms ``(B, 1, T, F)`` to logits
            ``(B, classes)``, which gets the recipe's front end and features. The object itself is trained.
        classes: names of the labels of ``data``, in order. The default is the training split's attribute ``classes``, or the
            labels' numbers.
        **machine: fields of :class:`specenhance.training.machine.Machine`.

    Returns:
        The content of ``result.json``.

    Raises:
        FileExistsError: if ``out`` is not empty.
        FileNotFoundError, ValueError: as the data set, the model and the teacher do. ValueError also for a folder in which
            another process is training, and for files that cannot be used.
        DivergedError: if the loss is no longer finite.
        RankError: if the process of another device failed.
        Stopped: if a signal has asked for a stop.

    >>> import tempfile, torch
    >>> from torch import nn
    >>> from specenhance.training import recipe_for
    >>> clips = [(torch.randn(1600) * (1 + label), label) for label in (0, 1) * 8]
    >>> backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> recipe = recipe_for("given", frontend="tfe1", epochs=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     splits = {"train": clips, "validation": clips, "test": clips}
    ...     result = train(recipe, Path(folder) / "run", data=splits, model=backbone, classes=["soft", "loud"], device="cpu")
    >>> result["classes"]
    ['soft', 'loud']
    """
    settings = Machine(**machine)

    def lead() -> dict[str, Any]:
        _check_parts(recipe, settings)
        named, given = given_parts(recipe, data, model, classes)
        if model is not None and has_folds(named):
            raise ValueError(
                "fold = 0 trains a new model for each fold, and only one was given; choose a fold from 1 on"
            )
        with stop_signals() as stop, locked(out):
            require_empty(out)
            try:
                check_recipe(named, settings, given)  # before any clip is read
                fitted = _prepare(named, out, given)
                check_recipe(fitted, settings, given)
            except BaseException:
                abandon(out)
                raise
            return _run(fitted, out, settings, given, stop)

    return on_all_machines(settings, lead, data, model, classes)


def resume(
    out: Path,
    *,
    epochs: int | None = None,
    root: str | os.PathLike[str] | None = None,
    csv: str | os.PathLike[str] | None = None,
    data: Mapping[str, Any] | None = None,
    model: nn.Module | None = None,
    classes: Sequence[str] | None = None,
    **machine: Any,
) -> dict[str, Any]:
    """Continue a stopped run, or extend a finished one. A finished run that is not extended only returns its result.

    On the CPU the result is the same as that of an uninterrupted run.

    Args:
        out: the run folder.
        epochs: number of epochs for a finished run, more than it had. It keeps its weights, its optimizer and its best epoch.
            A one-cycle schedule makes another cycle over the new epochs. Other schedules continue.
        root: the data set's new folder or URL, if it has moved.
        csv: the data set's new table, if it has moved.
        data: the data set, if it was given to :func:`train`.
        model: the model, if it was given to :func:`train`. It gets the weights of the run.
        classes: as for :func:`train`.
        **machine: fields of :class:`specenhance.training.machine.Machine`.

    Raises:
        FileNotFoundError: if ``out`` is no run folder.
        ValueError: if the clips are not those that the run was trained on, or ``epochs`` are not more. Also as :func:`train`.
    """
    settings = Machine(**machine)

    def lead() -> dict[str, Any]:
        if not (out / RECIPE).is_file():
            raise FileNotFoundError(
                f"{out}: no training run, it has no {RECIPE}; start one with specenhance train --out {out}"
            )
        recipe = load_recipe(out / RECIPE)
        done = finished(out, recipe)
        if done is not None and root is csv is None and epochs in (None, recipe.epochs):
            _log.info(f"{out}: finished already")
            for run in stored_runs(out):
                draw_pictures(run)
            return done
        recipe, given = given_parts(recipe, data, model, classes)
        with stop_signals() as stop, locked(out):
            moved = {name: resolved_place(path) for name, path in (("root", root), ("csv", csv)) if path is not None}
            if moved:
                recipe = _moved(recipe, moved, out)
            if epochs is not None:
                recipe = _extended(recipe, epochs, out)
            return _run(recipe, out, settings, given, stop)

    return on_all_machines(settings, lead, data, model, classes)


def on_all_machines(
    machine: Machine,
    lead: Callable[[], Any],
    data: Mapping[str, Any] | None = None,
    model: nn.Module | None = None,
    classes: Sequence[str] | None = None,
) -> Any:
    """Call ``lead()``, which trains by :func:`train` or :func:`resume`, while the processes of other ranks train with it.

    With one machine it only calls ``lead``.

    Args:
        machine: the machine of this process.
        lead: a function. Only the process of rank 0 calls it. Its result must be content for JSON.
        data: as for :func:`train`.
        model: as for :func:`train`.
        classes: as for :func:`train`.

    Returns:
        The result of ``lead``, in all processes.

    Raises:
        RankError, Stopped: as :func:`specenhance.training.nodes.together`.
    """

    def follow(fields: dict[str, Any], folder: str) -> None:
        out = Path(folder)
        if not (out / RECIPE).is_file():
            raise FileNotFoundError(
                f"{out}: the machine {platform.node()} does not see this run folder; it must be on a file system that "
                "all machines share, under the same path"
            )
        recipe, given = given_parts(Recipe.model_validate(fields), data, model, classes)
        train_rank(recipe, out, machine, given)

    return together(machine, lead, follow)


def _run(recipe: Recipe, out: Path, machine: Machine, given: Given, stop: StopSignals) -> dict[str, Any]:
    """Continue a run from its next step to its result."""
    done = finished(out, recipe)
    if done is not None:
        _log.info(f"{out}: finished already")
        return done
    if has_folds(recipe):
        return train_folds(recipe, out, lambda fold, folder: _run(fold, folder, machine, given, stop))
    return _train_one(recipe, out, machine, given, stop)


def _prepare(recipe: Recipe, out: Path, given: Given = NOTHING) -> Recipe:
    """Fit a recipe to its data, and write it and its manifest into the run folder."""
    prepared = prepare(recipe.replace(fold=1) if has_folds(recipe) else recipe, given)
    whole = prepared.recipe.replace(fold=recipe.fold)
    save_recipe(whole, out / RECIPE)  # first: a killed run is taken up by its recipe, and makes its manifest again
    left_out = [clip.left_out for clip in prepared.manifest.clips if clip.left_out]
    if left_out:
        write_text(out / SKIPPED, "".join(f"{fault}\n" for fault in dict.fromkeys(left_out)))
    if not has_folds(recipe):
        save_manifest(prepared.manifest, out)
    return whole


def _train_one(recipe: Recipe, out: Path, machine: Machine, given: Given, stop: StopSignals) -> dict[str, Any]:
    _check_parts(recipe, machine)
    if not (out / MANIFEST).is_file():
        recipe = _prepare(recipe, out, given)
    parts = open_splits(recipe, out, given)
    in_folder = machine.cache not in ("", MEMORY)  # what is decoded here then serves the training too
    if recipe.mean is None:
        recipe = measured(recipe, cached(parts["train"], machine) if in_folder else parts["train"], machine)
        save_recipe(recipe, out / RECIPE)
    prepare_teacher(recipe, out, parts["train"], chosen_device(machine.device))
    if machine.processes > 1 and in_folder:
        for data in parts.values():  # before the other processes start, so that each clip is decoded once
            cached(data, machine)
    if machine.nodes > 1:
        others = in_other_processes(recipe.model_dump(mode="json"), str(out.resolve()))
    else:
        others = ranks(machine.devices, train_rank, recipe, out, machine, given)
    with others:
        trained = train_rank(recipe, out, machine, given, stop)
    assert trained is not None
    return finish(recipe, out, trained, given)


def measured(recipe: Recipe, train: AudioDataset, machine: Machine) -> Recipe:
    """Fill in the normalisation of a recipe: measured on the training clips, if the recipe leaves it open.

    >>> recipe = Recipe(mean=-4, std=3)
    >>> measured(recipe, AudioDataset(["no"], []), Machine(device="cpu")) == recipe
    True
    """
    if recipe.mean is not None:
        return recipe
    samples = getattr(build_features(recipe), "samples", None)
    seconds = None if samples is None else samples / recipe.sample_rate
    with closing(loader(train, recipe, train=False, workers=machine.workers, seconds=seconds)) as batches:
        found = measure_normalisation(recipe, batches)
    _log.info(f"normalisation measured on the training clips: mean {found.mean:.4f}, std {found.std:.4f}")
    return recipe.replace(mean=found.mean, std=found.std)


def _extended(recipe: Recipe, epochs: int, out: Path) -> Recipe:
    """Give a finished run more epochs, also in its folder."""
    if epochs == recipe.epochs:
        return recipe
    if epochs < recipe.epochs:
        raise ValueError(f"epochs = {epochs}: {out} has {recipe.epochs} already; expected more")
    if finished(out, recipe) is None:
        raise ValueError(
            f"epochs = {epochs}: {out} is not finished, and only a finished run can be extended; finish it first: "
            f"specenhance train --resume {out}"
        )
    if recipe.patience and any(len(read_history(run)) < recipe.epochs for run in stored_runs(out)):
        raise ValueError(
            f"epochs = {epochs}: {out} ended early, by patience = {recipe.patience}, so it has no end to go on from; start a "
            f"new run from its weights: specenhance train --recipe {out / RECIPE} --set init={out}"
        )
    extended = recipe.replace(epochs=epochs, cycle_from=recipe.epochs)
    for folder in sorted(out.glob("fold*")) if has_folds(recipe) else []:
        save_recipe(extended.replace(fold=load_recipe(folder / RECIPE).fold), folder / RECIPE)
    save_recipe(extended, out / RECIPE)
    return extended


def _moved(recipe: Recipe, changes: dict[str, str], out: Path) -> Recipe:
    """Write the new place of its data into a run and its folds, if the clips there are the same."""
    moved = recipe.replace(**changes)
    if not has_folds(recipe):
        open_splits(moved, out)
    for folder in sorted(path.parent for path in out.glob(f"fold*/{RECIPE}")):
        _moved(load_recipe(folder / RECIPE), changes, folder)
    save_recipe(moved, out / RECIPE)
    return moved


def _check_parts(recipe: Recipe, machine: Machine) -> None:
    if recipe.batch_size % machine.processes:
        raise ValueError(
            f"batch_size = {recipe.batch_size} is the batch of all {machine.processes} devices together, "
            f"which share it equally: expected a multiple of {machine.processes}"
        )


def check_recipe(recipe: Recipe, machine: Machine, given: Given = NOTHING) -> None:
    """Check what can be checked before any clip is read: the names, the parts together, and what the machine must do.

    Raises:
        FileNotFoundError, ValueError: for an unknown name, parts that do not fit together, a folder or a teacher that is not
            there, or features that cannot be made where the machine has them.

    >>> check_recipe(Recipe(backbone="test_resnet", frontend="tfe1"), Machine(device="cpu"))
    """
    check_folders(recipe)
    check_backbone(recipe)
    some = recipe.replace(frames=recipe.frames or 128, pretrained=False)  # 0 is not fitted yet
    first = some.replace(fold=1) if has_folds(recipe) else some
    data = build_split(first, "train", given)
    model = build_model(some, len(data.classes), given)
    if machine.features_on == "worker" and any(True for _ in model.features.parameters()):
        raise ValueError(
            f"features_on = 'worker': the features {recipe.features!r} have weights that learn, which only works in the model; "
            "expected 'device'"
        )
    check_loggers(machine.loggers.split(","))
    if recipe.init:
        load_start(model, recipe.init)
    if given.model is not None and recipe.frames:
        check_model(model, len(data.classes))
    if machine.teacher_cache and not recipe.teacher_views:
        raise ValueError(
            f"teacher_cache = {machine.teacher_cache!r}: each epoch is augmented anew, so no logits are met twice; "
            "expected teacher_views above 0 (--set teacher_views=4), or no cache"
        )
    if check_teacher(first, data) == "waveform" and machine.features_on == "worker":
        raise ValueError(
            f"features_on = 'worker': the teacher {recipe.teacher!r} gets waveforms at each step, and batches have none; "
            "expected 'device', or teacher_input = 'clean', which asks it once for each clip (--set teacher_input=clean)"
        )
