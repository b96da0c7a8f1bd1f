"""One training run from start to result, in a folder from which it can be resumed after any stop."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import logging
import platform
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import timm
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

import specenhance
from specenhance.adapter import FrontendModel
from specenhance.data import AudioDataset
from specenhance.data.esc50 import FOLDS
from specenhance.files import write_text
from specenhance.plots import plot_confusion, plot_curves, plot_enhancement, save_figure
from specenhance.training.build import build_model, build_split, loader, measure_normalisation
from specenhance.training.callbacks import AtomicCheckpoints, Checkpoints, History, Progress
from specenhance.training.module import Classifier
from specenhance.training.recipe import Recipe, load_recipe, save_recipe
from specenhance.training.store import RECIPE, RESULT, save_model, save_pretrained
from specenhance.training.teach import load_teacher

__all__ = ["ACCELERATORS", "Score", "evaluate", "picture", "predict", "resume", "train"]

ACCELERATORS = {"auto": "auto", "cpu": "cpu", "cuda": "gpu", "mps": "mps"}

Say = Callable[[str], None]


def train(
    recipe: Recipe, out: Path, *, device: str = "auto", workers: int = 0, progress: bool = False, say: Say = print
) -> dict[str, Any]:
    """Train a recipe into a new run folder, test it, and write its result; ESC-50 with ``fold = 0`` runs all five folds.

    The folder gets ``recipe.toml``, ``metrics.csv``, ``tensorboard/``, ``checkpoints/``, ``model.safetensors``,
    ``result.json``, ``confusion_matrix.csv`` and ``.png``, ``curves.png`` and ``enhanced.png``, and for ``role = "teacher"``
    ``pretrained/``, the model as its own library stores it.

    Args:
        recipe: what to train.
        out: the run folder; it must not exist, or be empty.
        device: a key of :data:`ACCELERATORS`.
        workers: processes that read clips beside the training process.
        progress: show a progress bar.
        say: called with a line of news now and then.

    Returns:
        What ``result.json`` holds.

    Raises:
        FileExistsError: if ``out`` has something in it.
        FileNotFoundError, ValueError: as the data set, the model and the teacher do.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out}: already there; continue it with --resume {out}, or choose another --out")
    if device not in ACCELERATORS:
        raise ValueError(f"device = {device!r}: expected one of {', '.join(ACCELERATORS)}")
    first_fold = recipe.replace(fold=1) if _has_folds(recipe) else recipe
    classes = build_split(first_fold, "train").classes  # refuse what cannot be read before a folder is made for it
    build_model(first_fold.replace(pretrained=False), 2)
    load_teacher(first_fold, classes)
    save_recipe(recipe, out / RECIPE)
    return resume(out, device=device, workers=workers, progress=progress, say=say)


def resume(
    out: Path, *, device: str = "auto", workers: int = 0, progress: bool = False, say: Say = print
) -> dict[str, Any]:
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
        return _train_one(recipe, out, device=device, workers=workers, progress=progress, say=say)
    results = []
    for fold in FOLDS:
        folder = out / f"fold{fold}"
        say(f"fold {fold} of {len(FOLDS)}")
        if not (folder / RECIPE).is_file():
            save_recipe(recipe.replace(fold=fold), folder / RECIPE)
        results.append(resume(folder, device=device, workers=workers, progress=progress, say=say))
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


def _train_one(recipe: Recipe, out: Path, *, device: str, workers: int, progress: bool, say: Say) -> dict[str, Any]:
    data = {split: build_split(recipe, split) for split in ("train", "validation", "test")}
    classes = data["train"].classes
    if recipe.mean is None:
        measured = measure_normalisation(recipe, loader(data["train"], recipe, train=False))
        recipe = recipe.replace(mean=measured.mean, std=measured.std)
        save_recipe(recipe, out / RECIPE)
        say(f"normalisation measured on the training clips: mean {measured.mean:.4f}, std {measured.std:.4f}")

    last = out / "checkpoints" / "last.ckpt"
    L.seed_everything(recipe.seed, verbose=False)
    model = build_model(recipe.replace(pretrained=recipe.pretrained and not last.exists()), len(classes))
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
    trainer = _trainer(
        device,
        max_epochs=recipe.epochs,
        callbacks=[history, best, latest, *([Progress()] if progress else [])],
        enable_progress_bar=progress,
        logger=TensorBoardLogger(out, name="", version="tensorboard"),
        plugins=[AtomicCheckpoints()],
        num_sanity_val_steps=0,
    )
    if last.exists():
        say(f"continuing from {last}")
    trainer.fit(
        module,
        loader(data["train"], recipe, train=True, workers=workers),
        loader(data["validation"], recipe, train=False, workers=workers),
        ckpt_path=last if last.exists() else None,
        weights_only=True,
    )
    if trainer.interrupted:
        raise KeyboardInterrupt(f"stopped; continue with specenhance train --resume {out}")
    if recipe.select == "best":
        state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state)
    save_model(model, classes, out)
    if recipe.role == "teacher":
        save_pretrained(model, classes, out)

    accuracy, confusion = _test(trainer, module, data["test"], recipe, workers)
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
    trainer = _trainer(device, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    return _test(trainer, Classifier(model, recipe), data, recipe, workers)


@torch.no_grad()
def predict(model: FrontendModel, waveform: Tensor, top: int) -> list[tuple[int, float]]:
    """Give the most likely classes of one waveform ``(samples,)``: pairs of label and share, the likeliest first."""
    device = next(model.parameters()).device
    shares = model.eval()(waveform.to(device)[None])[0].softmax(0)
    best = shares.topk(min(top, len(shares)))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def picture(model: FrontendModel, waveform: Tensor, title: str = "") -> Any:
    """Draw what the model's front end does to one waveform ``(samples,)``: a matplotlib figure."""
    parameter = next(model.parameters())
    with torch.no_grad():
        spec = model.eval().spectrogram(waveform.to(parameter.device)[None])
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


def _test(trainer: L.Trainer, module: Classifier, data: AudioDataset, recipe: Recipe, workers: int) -> Score:
    module.confusion.reset()
    figures = trainer.test(module, loader(data, recipe, train=False, workers=workers), verbose=False)
    return Score(float(figures[0]["test_accuracy"]), module.confusion.compute().cpu())


def _trainer(device: str, **settings: Any) -> L.Trainer:
    # Lightning's hints speak to people who write loops, not to those who run ours.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for category in (UserWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category, module=r"lightning\.")
    return L.Trainer(accelerator=ACCELERATORS[device], devices=1, enable_model_summary=False, **settings)


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
