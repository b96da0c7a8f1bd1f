"""The part of one process in a training run, from its first or next step to the tested model."""

from __future__ import annotations

import copy
import logging
import platform
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import timm
import torch
from torch import Tensor

import specenhance
from specenhance._memory import freed_memory_kept
from specenhance._stopping import StopSignals
from specenhance.analysis.accuracy import Score
from specenhance.analysis.multi_label import MultiLabelScore
from specenhance.data import AudioDataset
from specenhance.data.cache import CachedWaveforms
from specenhance.models.adapter import FrontendModel
from specenhance.models.weights import read_weights
from specenhance.training.balance import class_weights
from specenhance.training.batches import START, Loader, Place, loader
from specenhance.training.build import build_model, build_splits
from specenhance.training.checkpoints import BEST, AtomicCheckpoints, Keeper, last_checkpoint
from specenhance.training.given import NOTHING, Given, check_model
from specenhance.training.history import History, Progress
from specenhance.training.loggers import make_loggers
from specenhance.training.machine import MEMORY, Machine, make_trainer, precision_on
from specenhance.training.manifest import as_trained, load_manifest
from specenhance.training.module import Classifier
from specenhance.training.recipe import Recipe
from specenhance.training.start import load_start
from specenhance.training.store import HISTORY
from specenhance.training.tagger import Tagger
from specenhance.training.teach import load_teaching

__all__ = ["Trained", "batches_of", "cached", "module_for", "open_splits", "test", "train_rank"]

_log = logging.getLogger(__name__)


class Trained(NamedTuple):
    """The result of a finished training.

    Attributes:
        model: the model with the weights that are kept.
        classes: the names of its classes.
        result: the content of ``result.json``.
        score: the score on the test clips.
        validation: the validation clips.
    """

    model: FrontendModel
    classes: list[str]
    result: dict[str, Any]
    score: Score | MultiLabelScore
    validation: AudioDataset


def open_splits(recipe: Recipe, out: Path, given: Given = NOTHING) -> dict[str, AudioDataset]:
    """Open the splits on which a run is trained. It raises as :func:`specenhance.training.manifest.as_trained`."""
    manifest = load_manifest(out)
    parts = build_splits(recipe, given)
    return parts if manifest is None else as_trained(manifest, recipe, parts, out)


def cached(data: AudioDataset, machine: Machine) -> AudioDataset:
    """Return a data set that keeps its decoded sounds in the machine's cache, if it has one."""
    if not machine.cache:
        return data
    return CachedWaveforms(data, None if machine.cache == MEMORY else machine.cache)


@freed_memory_kept()
def train_rank(
    recipe: Recipe, out: Path, machine: Machine, given: Given = NOTHING, stop: StopSignals | None = None
) -> Trained | None:
    """Train and test. Only the process of rank 0 writes, logs and returns the result.

    Raises:
        DivergedError: if the loss is no longer finite.
        Stopped: if a signal has asked for a stop.
    """
    if stop is None:  # a process of another rank than 0
        stop = StopSignals()
        stop.gentle = True
        stop.install()
    data = {split: cached(part, machine) for split, part in open_splits(recipe, out, given).items()}
    classes = data["train"].classes
    checkpoints = out / "checkpoints"
    last, start = last_checkpoint(checkpoints)
    L.seed_everything(recipe.seed, verbose=False)
    model = build_model(recipe.replace(pretrained=recipe.pretrained and last is None), len(classes), given)
    if recipe.init and last is None:
        _log.info(load_start(model, recipe.init))
    if given.model is not None:
        check_model(model, len(classes))
        if reason := model.why_not_saved():
            _log.warning(
                f"the run folder will only hold the model's weights, because it cannot be made again: {reason}"
            )
    # It makes a step of a small CNN on a CPU a third shorter, and tensor cores need it. PyTorch's stubs do not know it.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = {
        "total": sum(p.numel() for p in model.parameters()),
        "frontend": sum(p.numel() for p in model.frontend.parameters()),
    }
    teaching = load_teaching(recipe, out, classes, machine.teacher_cache)
    batches = batches_of(data["train"], recipe, machine, model, train=True, start=start, taught=teaching.logits)
    _log.info(
        f"{recipe.frontend} + {recipe.backbone}: {parameters['total']:,} parameters ({parameters['frontend']:,} in the front "
        f"end); {len(data['train']):,} clips train, {len(data['validation']):,} validate, {len(data['test']):,} test; "
        f"{recipe.epochs} epochs of {len(batches)} steps, {recipe.epochs * len(batches):,} steps in all"
    )
    weights = class_weights(data["train"]) if recipe.class_weights == "balanced" else None
    module = module_for(recipe)(model, recipe, teaching, weights)
    history = History(
        out / HISTORY,
        module.columns,
        module.running,
        lambda row: _log.info(
            f"epoch {row['epoch'] + 1:3d}/{recipe.epochs}  loss {row['train_loss']:.3f}  "
            + (f"accuracy {row['train_accuracy']:.1%}  " if "train_accuracy" in row else "")
            + f"validation {'mAP ' if recipe.multi_label else ''}{row[recipe.kept_by]:.1%}"
        ),
    )
    keeper = Keeper(checkpoints, stop, f"specenhance train --resume {out}", recipe.patience, recipe.kept_by)
    bar = [Progress()] if machine.progress and machine.rank == 0 else []
    trainer = make_trainer(
        machine,
        max_epochs=recipe.epochs,
        precision=precision_on(machine, recipe.precision),
        gradient_clip_val=recipe.clip_norm or None,
        accumulate_grad_batches=recipe.accumulate,
        callbacks=[history, keeper, *bar],
        enable_progress_bar=bool(bar),
        logger=make_loggers(machine.loggers.split(","), recipe, out) if machine.rank == 0 else False,
        plugins=[AtomicCheckpoints()],
        num_sanity_val_steps=0,
    )
    if last is not None:
        within = f", {start.batch} of {len(batches)} steps done" if start.batch else ""
        _log.info(f"continuing from {last} in epoch {min(start.epoch + 1, recipe.epochs)}{within}")
    with closing(batches), closing(batches_of(data["validation"], recipe, machine, model, train=False)) as validation:
        trainer.fit(module, batches, validation, ckpt_path=last, weights_only=True)
    module.finish()
    if recipe.select == "best":
        model.load_state_dict(_load_best(checkpoints / BEST))
    if isinstance(module, Tagger):
        test(trainer, module, data["validation"], recipe, machine)
        module.tune()
    score = test(trainer, module, data["test"], recipe, machine)
    if machine.rank:
        return None
    assert keeper.best is not None
    result = {
        **{f"test_{name}": value for name, value in score.figures().items()},
        f"validation_{score.headline}": keeper.best[0] if recipe.select == "best" else history.rows[-1][recipe.kept_by],
        "seconds": round(history.seconds, 1),
        "parameters": parameters,
        "classes": classes,
        "recipe": recipe.model_dump(mode="json"),
        "versions": {
            "specenhance": specenhance.__version__,
            "torch": torch.__version__,
            "timm": timm.__version__,
            "lightning": L.__version__,
            "python": platform.python_version(),
        },
    }
    return Trained(model, classes, result, score, data["validation"])


def module_for(recipe: Recipe) -> type[Classifier]:
    """Return the class of module that trains and tests a recipe's model.

    >>> module_for(Recipe()).__name__
    'Classifier'
    """
    return Tagger if recipe.multi_label else Classifier


def test(
    trainer: L.Trainer, module: Classifier, data: AudioDataset, recipe: Recipe, machine: Machine
) -> Score | MultiLabelScore:
    """Score a module on a set of clips."""
    module.start_test()
    with closing(batches_of(data, recipe, machine, module.model, train=False)) as batches:
        figures = trainer.test(module, batches, verbose=False)
    return module.score(figures[0])


def batches_of(
    data: AudioDataset,
    recipe: Recipe,
    machine: Machine,
    model: FrontendModel,
    *,
    train: bool,
    start: Place = START,
    taught: Tensor | None = None,
) -> Loader:
    """Make batches of a split for a model on a machine."""
    features = model.features
    samples = getattr(features, "samples", None)
    return loader(
        data,
        recipe,
        train=train,
        workers=machine.workers,
        devices=machine.processes,
        rank=machine.rank,
        start=start,
        seconds=None if samples is None else samples / recipe.sample_rate,
        # A copy, because the model's own features go to the device with the model.
        features=copy.deepcopy(features).cpu() if machine.features_on == "worker" else None,
        taught=taught,
    )


def _load_best(path: Path) -> dict[str, Tensor]:
    cure = "train anew, or keep the last epoch's by select = \"last\" in the run's recipe.toml"
    return read_weights(path, cure)
