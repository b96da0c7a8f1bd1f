"""One training run from start to result, in a folder from which it can be resumed after any stop."""

from __future__ import annotations

import copy
import csv
import dataclasses
import io
import json
import logging
import os
import platform
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import timm
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

import specenhance
from specenhance.adapter import FrontendModel
from specenhance.data import AudioDataset
from specenhance.data.cache import CachedWaveforms
from specenhance.data.esc50 import FOLDS
from specenhance.files import write_text
from specenhance.plots import plot_confusion, plot_curves, plot_enhancement, save_figure
from specenhance.samples import waveform_of
from specenhance.training.batches import loader
from specenhance.training.build import build_model, build_split, measure_normalisation
from specenhance.training.callbacks import AtomicCheckpoints, Checkpoints, History, Progress
from specenhance.training.module import Classifier
from specenhance.training.ranks import ranks
from specenhance.training.recipe import Recipe, load_recipe, save_recipe
from specenhance.training.store import RECIPE, RESULT, save_model, save_pretrained
from specenhance.training.teach import load_teacher

__all__ = ["ACCELERATORS", "Machine", "Score", "evaluate", "picture", "predict", "resume", "train"]

ACCELERATORS = {"auto": "auto", "cpu": "cpu", "cuda": "gpu", "mps": "mps"}

MEMORY = "memory"  # Machine.cache: not a folder

Say = Callable[[str], None]


@dataclass(frozen=True)
class Machine:
    """What a run computes on, and how; apart from rounding, and the draws of mix-up where the clips are read, none of it
    changes what comes out.

    Raises:
        ValueError: for a value out of its range.
    """

    device: str = "auto"  # a key of ACCELERATORS
    devices: int = 1  # that share each batch, on this machine; a process each
    strategy: str = "auto"  # Lightning's name of how they share it; "auto" is "ddp" where there are several
    workers: int = 0  # processes that read clips, beside each of those
    features_on: str = "device"  # spectrograms are made by the model, or "worker": where the clips are read
    cache: str = ""  # decoded waveforms are kept in "memory" or in a folder of this name
    progress: bool = False  # show a bar

    def __post_init__(self) -> None:
        for name, known in (
            ("device", tuple(ACCELERATORS)),
            ("strategy", ("auto", "ddp")),
            ("features_on", ("device", "worker")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} = {getattr(self, name)!r}: expected one of {', '.join(known)}")
        if self.devices < 1:
            raise ValueError(f"devices = {self.devices}: expected 1 or more")

    @property
    def rank(self) -> int:
        """Which of the processes this one is."""
        return int(os.environ["LOCAL_RANK"]) if self.devices > 1 else 0


def train(recipe: Recipe, out: Path, *, say: Say = print, **machine: Any) -> dict[str, Any]:
    """Train a recipe into a new run folder, test it, and write its result; ESC-50 with ``fold = 0`` runs all five folds.

    The folder gets ``recipe.toml``, ``metrics.csv``, ``tensorboard/``, ``checkpoints/``, ``model.safetensors``,
    ``result.json``, ``confusion_matrix.csv`` and ``.png``, ``curves.png`` and ``enhanced.png``, and for ``role = "teacher"``
    ``pretrained/``, the model as its own library stores it.

    Args:
        recipe: what to train.
        out: the run folder; it must not exist, or be empty.
        say: called with a line of news now and then.
        **machine: fields of :class:`Machine`.

    Returns:
        What ``result.json`` holds.

    Raises:
        FileExistsError: if ``out`` has something in it.
        FileNotFoundError, ValueError: as the data set, the model and the teacher do.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out}: already there; continue it with --resume {out}, or choose another --out")
    _check_shares(recipe, Machine(**machine))
    first_fold = recipe.replace(fold=1) if _has_folds(recipe) else recipe
    classes = build_split(first_fold, "train").classes  # refuse what cannot be read before a folder is made for it
    model = build_model(first_fold.replace(pretrained=False), 2)
    _check_features(model, recipe, Machine(**machine))
    load_teacher(first_fold, classes)
    save_recipe(recipe, out / RECIPE)
    return resume(out, say=say, **machine)


def resume(out: Path, *, say: Say = print, **machine: Any) -> dict[str, Any]:
    """Continue a run where its last finished epoch left it; a run that has its result is only reported.

    On the CPU the result is the one that an uninterrupted run would have had. Arguments as :func:`train`.

    Raises:
        FileNotFoundError: if ``out`` is no run folder.
    """
    if not (out / RECIPE).is_file():
        raise FileNotFoundError(
            f"{out}: no training run, it has no {RECIPE}; start one with specenhance train --out {out}"
        )
    if (out / RESULT).is_file():
        say(f"{out}: finished already")
        return json.loads((out / RESULT).read_text(encoding="utf-8"))
    recipe = load_recipe(out / RECIPE)
    if not _has_folds(recipe):
        return _train_one(recipe, out, Machine(**machine), say)
    results = []
    for fold in FOLDS:
        folder = out / f"fold{fold}"
        say(f"fold {fold} of {len(FOLDS)}")
        if not (folder / RECIPE).is_file():
            save_recipe(recipe.replace(fold=fold), folder / RECIPE)
        results.append(resume(folder, say=say, **machine))
    accuracies = [result["test_accuracy"] for result in results]
    result = {
        "test_accuracy": statistics.mean(accuracies),
        "fold_accuracies": accuracies,
        "fold_standard_deviation": statistics.stdev(accuracies),
        "seconds": round(sum(result["seconds"] for result in results), 1),
        "parameters": results[0]["parameters"],
        "recipe": dataclasses.asdict(recipe),
    }
    write_text(out / RESULT, json.dumps(result, indent=2) + "\n")
    say(f"mean test accuracy of {len(FOLDS)} folds: {result['test_accuracy']:.2%}")
    return result


def _has_folds(recipe: Recipe) -> bool:
    return recipe.data == "esc50" and recipe.fold == 0


def _check_shares(recipe: Recipe, machine: Machine) -> None:
    if recipe.batch_size % machine.devices:
        raise ValueError(
            f"batch_size = {recipe.batch_size} is the batch of all {machine.devices} devices together, who share it evenly: "
            f"expected a multiple of {machine.devices}"
        )


def _check_features(model: FrontendModel, recipe: Recipe, machine: Machine) -> None:
    if machine.features_on == "worker" and any(True for _ in model.features.parameters()):
        raise ValueError(
            f"features_on = 'worker': the features {recipe.features!r} learn, which they can only in the model; "
            "expected 'device'"
        )


def _train_one(recipe: Recipe, out: Path, machine: Machine, say: Say) -> dict[str, Any]:
    _check_shares(recipe, machine)
    if recipe.mean is None:
        data = _open(recipe, "train", machine)
        measured = measure_normalisation(recipe, loader(data, recipe, train=False))
        recipe = recipe.replace(mean=measured.mean, std=measured.std)
        save_recipe(recipe, out / RECIPE)
        say(f"normalisation measured on the training clips: mean {measured.mean:.4f}, std {measured.std:.4f}")
    if machine.devices > 1 and machine.cache not in ("", MEMORY):
        for split in ("train", "validation", "test"):  # here, so that the processes do not do it all at once
            _open(recipe, split, machine)
    with ranks(machine.devices, _train_rank, recipe, out, machine):
        return _train_rank(recipe, out, machine, say)


def _train_rank(recipe: Recipe, out: Path, machine: Machine, say: Say = lambda line: None) -> dict[str, Any]:
    """Do the part of one process; that of rank 0 alone writes and speaks."""
    data = {split: _open(recipe, split, machine) for split in ("train", "validation", "test")}
    classes = data["train"].classes
    last = out / "checkpoints" / "last.ckpt"
    L.seed_everything(recipe.seed, verbose=False)
    model = build_model(recipe.replace(pretrained=recipe.pretrained and not last.exists()), len(classes))
    # A third off a small CNN's step on a CPU, and what tensor cores want. PyTorch's stubs do not know it.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = _count(model)
    say(
        f"{recipe.frontend} + {recipe.backbone}: {parameters['total']:,} parameters ({parameters['frontend']:,} in the front "
        f"end); {len(data['train']):,} clips train, {len(data['validation']):,} validate, {len(data['test']):,} test"
    )
    module = Classifier(model, recipe, load_teacher(recipe, classes))
    history = History(
        out / "metrics.csv",
        lambda row: say(
            f"epoch {row['epoch'] + 1:3d}/{recipe.epochs}  loss {row['train_loss']:.3f}  "
            f"accuracy {row['train_accuracy']:.1%}  validation {row['val_accuracy']:.1%}"
        ),
    )
    best = Checkpoints(
        last.parent, "best", monitor="val_accuracy", mode="max", save_top_k=1, enable_version_counter=False
    )
    latest = Checkpoints(last.parent, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    bar = [Progress()] if machine.progress and machine.rank == 0 else []
    trainer = _trainer(
        machine,
        max_epochs=recipe.epochs,
        callbacks=[history, best, latest, *bar],
        enable_progress_bar=bool(bar),
        logger=TensorBoardLogger(out, name="", version="tensorboard"),
        plugins=[AtomicCheckpoints()],
        num_sanity_val_steps=0,
    )
    if last.exists():
        say(f"continuing from {last}")
    trainer.fit(
        module,
        _loader(data["train"], recipe, machine, model, train=True),
        _loader(data["validation"], recipe, machine, model, train=False),
        ckpt_path=last if last.exists() else None,
        weights_only=True,
    )
    if trainer.interrupted:
        raise KeyboardInterrupt(f"stopped; continue with specenhance train --resume {out}")
    if recipe.select == "best":
        state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state)
    accuracy, confusion = _test(trainer, module, data["test"], recipe, machine)
    if machine.rank:
        return {}
    save_model(model, classes, out)
    if recipe.role == "teacher":
        save_pretrained(model, classes, out)
    result = {
        "test_accuracy": accuracy,
        "validation_accuracy": max(row["val_accuracy"] for row in history.rows)
        if recipe.select == "best"
        else history.rows[-1]["val_accuracy"],
        "seconds": round(history.seconds, 1),
        "parameters": parameters,
        "recipe": dataclasses.asdict(recipe),
        "versions": {
            "specenhance": specenhance.__version__,
            "torch": torch.__version__,
            "timm": timm.__version__,
            "lightning": L.__version__,
            "python": platform.python_version(),
        },
    }
    _write_confusion(confusion, classes, out)
    save_figure(plot_curves(history.rows), out / "curves.png")
    waveform, label = data["test"][0]
    save_figure(picture(model, waveform, title=f"{classes[label]} (first test clip)"), out / "enhanced.png")
    write_text(out / RESULT, json.dumps(result, indent=2) + "\n")  # last: it says that the run is finished
    say(f"test accuracy {accuracy:.2%}, in {out}")
    return result


class Score(NamedTuple):
    """How a model does on a set of clips."""

    accuracy: float  # share of clips
    confusion: Tensor  # counts (true, predicted)


def evaluate(model: FrontendModel, recipe: Recipe, split: str, *, device: str = "auto", workers: int = 0) -> Score:
    """Score a model on one split of the recipe's data.

    Raises as :func:`specenhance.training.build.build_split`.
    """
    data = build_split(recipe, split)
    if len(data.classes) != model.num_classes:
        raise ValueError(
            f"{recipe.root}: {len(data.classes)} classes, but the model was trained on {model.num_classes}"
        )
    machine = Machine(device=device, workers=workers)
    trainer = _trainer(machine, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    return _test(trainer, Classifier(model, recipe), data, recipe, machine)


@torch.no_grad()
def predict(model: FrontendModel, waveform: Tensor | np.ndarray, top: int) -> list[tuple[int, float]]:
    """Give the likeliest classes of one waveform ``(samples,)``: pairs of label and probability, the likeliest first.

    Floats are in [-1, 1]; integers are scaled by their type.

    Raises:
        TypeError, ValueError: as :func:`specenhance.samples.waveform_of`.
    """
    probabilities = model.eval()(_batch_of(model, waveform))[0].softmax(0)
    best = probabilities.topk(min(top, len(probabilities)))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def _batch_of(model: FrontendModel, waveform: Tensor | np.ndarray) -> Tensor:
    """Put one waveform of any type of samples on the model's device, as a batch."""
    if isinstance(waveform, Tensor):  # NumPy knows no bfloat16
        waveform = (waveform.float() if waveform.is_floating_point() else waveform).detach().cpu().numpy()
    return torch.tensor(waveform_of(waveform)).to(next(model.parameters()).device)[None]


def picture(model: FrontendModel, waveform: Tensor | np.ndarray, title: str = "") -> Any:
    """Draw what the model's front end does to one waveform ``(samples,)``: a matplotlib figure. Raises as :func:`predict`."""
    with torch.no_grad():
        spec = model.eval().spectrogram(_batch_of(model, waveform))
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


def _test(trainer: L.Trainer, module: Classifier, data: AudioDataset, recipe: Recipe, machine: Machine) -> Score:
    module.confusion.reset()
    figures = trainer.test(module, _loader(data, recipe, machine, module.model, train=False), verbose=False)
    return Score(float(figures[0]["test_accuracy"]), module.confusion.compute().cpu())


def _open(recipe: Recipe, split: str, machine: Machine) -> AudioDataset:
    data = build_split(recipe, split)
    if not machine.cache:
        return data
    return CachedWaveforms(data, None if machine.cache == MEMORY else machine.cache)


def _loader(data: AudioDataset, recipe: Recipe, machine: Machine, model: FrontendModel, *, train: bool) -> DataLoader:
    return loader(
        data,
        recipe,
        train=train,
        workers=machine.workers,
        devices=machine.devices,
        rank=machine.rank,
        # A copy: the model's own goes to the device with it.
        features=copy.deepcopy(model.features).cpu() if machine.features_on == "worker" else None,
    )


def _trainer(machine: Machine, **settings: Any) -> L.Trainer:
    # Lightning's hints speak to people who write loops, not to those who run ours.
    for part in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(part).setLevel(logging.WARNING)
    for category in (UserWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category, module=r"lightning\.")
    several = machine.devices > 1
    return L.Trainer(
        accelerator=ACCELERATORS[machine.device],
        devices=machine.devices,
        strategy="ddp" if several else machine.strategy,
        sync_batchnorm=several
        and torch.cuda.is_available()
        and machine.device != "cpu",  # PyTorch has none for the CPU
        use_distributed_sampler=False,  # ours knows which clips a rank has
        enable_model_summary=False,
        **settings,
    )


def _count(model: FrontendModel) -> dict[str, int]:
    return {
        "total": sum(p.numel() for p in model.parameters()),
        "frontend": sum(p.numel() for p in model.frontend.parameters()),
    }


def _write_confusion(confusion: Tensor, classes: list[str], out: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true \\ predicted", *classes])
    writer.writerows([name, *row] for name, row in zip(classes, confusion.tolist(), strict=True))
    write_text(out / "confusion_matrix.csv", text.getvalue())
    save_figure(plot_confusion(confusion, classes), out / "confusion_matrix.png")
