"""The model of a run folder: its recipe, class names and weights. Reading needs no Lightning and no pickle."""

from __future__ import annotations

import copy
import csv
import os
from pathlib import Path
from typing import NamedTuple

import timm
import torch

from specenhance._files import atomic_folder
from specenhance.models.adapter import FrontendModel
from specenhance.models.hub import CONFIG, WEIGHTS, write_model
from specenhance.training.given import GIVEN_MODEL
from specenhance.training.recipe import RECIPE, Recipe, load_recipe

__all__ = [
    "HISTORY",
    "RECIPE",
    "RESULT",
    "WEIGHTS",
    "Stored",
    "load_model",
    "load_stored",
    "read_history",
    "save_model",
    "save_pretrained",
    "stored_runs",
]

RESULT, PRETRAINED = "result.json", "pretrained"
HISTORY = "metrics.csv"


class Stored(NamedTuple):
    """A trained model, with the class names and the recipe that its use needs."""

    model: FrontendModel  # in evaluation mode; maps waveforms (B, samples) to logits (B, num_classes)
    classes: list[str]
    recipe: Recipe


def save_model(model: FrontendModel, classes: list[str], run: str | os.PathLike[str]) -> None:
    """Write a model, with its class names, into a run folder, as :meth:`FrontendModel.save_pretrained` does.

    Of a model that was given as an object, and cannot be made again from names, only the weights are written.
    """
    model.classes = classes
    if model.why_not_saved():
        write_model(model, Path(run) / WEIGHTS)
        return
    model.save_pretrained(run, model_card_kwargs={"repo_id": os.fspath(run)})


def save_pretrained(model: FrontendModel, classes: list[str], run: str | os.PathLike[str]) -> None:
    """Write a model's backbone into the folder ``pretrained`` of a run, in the format of the backbone's library.

    ``ast_teacher`` reads an AST there, and ``timm_teacher("local-dir:FOLDER")`` a model of timm.
    """
    folder = Path(run) / PRETRAINED
    backbone = copy.deepcopy(model.backbone)
    backbone.to(memory_format=torch.contiguous_format)  # safetensors takes no other format
    if hasattr(backbone, "save_pretrained"):
        backbone.save_pretrained(folder, classes)
        return
    with atomic_folder(folder) as temporary:
        timm.models.save_for_hf(
            backbone,
            str(temporary),
            model_config={"label_names": classes},
            safe_serialization=True,
            data_config={"mean": 0.0, "std": 1.0},  # its input is normalised already, and not as images are
        )


def load_stored(run: str | os.PathLike[str], device: str | torch.device = "cpu") -> Stored:
    """Read the model of a finished run, its class names and its recipe.

    Args:
        run: the run folder.
        device: device of the model.

    Raises:
        FileNotFoundError: if the folder is no run folder, or its training is not finished.
        ValueError: if the weights do not fit the recipe, or if their file has changed since it was written.
    """
    run = Path(run)
    if not (run / RECIPE).is_file():
        raise FileNotFoundError(
            f"{run}: no training run, it has no {RECIPE}; give the folder that 'specenhance train' wrote"
        )
    if not (run / WEIGHTS).is_file():
        folds = [folder.name for folder in _folds(run)]
        cure = f"give one of its folds, {', '.join(folds)}" if folds else f"finish it: specenhance train --resume {run}"
        raise FileNotFoundError(f"{run}: it has no {WEIGHTS}; {cure}")
    recipe = load_recipe(run / RECIPE)
    if not (run / CONFIG).is_file():
        if recipe.backbone.startswith(GIVEN_MODEL):
            raise FileNotFoundError(
                f"{run}: its model was given as an object and cannot be made again from names; make it in Python, and load its "
                f"weights by safetensors.torch.load_model(model, {str(run / WEIGHTS)!r})"
            )
        raise FileNotFoundError(f"{run}: it has no {CONFIG}; copy the run again, or train it again with this version")
    model = FrontendModel.from_pretrained(run)
    if model.classes is None:
        raise ValueError(f"{run / CONFIG} names no classes: it was not written by 'specenhance train'")
    classes = model.classes
    return Stored(model.eval().to(device), classes, recipe)


def load_model(run: str | os.PathLike[str], device: str | torch.device = "cpu") -> FrontendModel:
    """Read a model, in evaluation mode: of a finished run, from waveforms ``(B, samples)`` to logits; or what was saved.

    Args:
        run: a run folder, or a folder that :meth:`FrontendModel.save_pretrained` wrote.
        device: where to put the model.

    It raises as :func:`load_stored`.
    """
    if not (Path(run) / RECIPE).is_file() and (Path(run) / CONFIG).is_file():
        return FrontendModel.from_pretrained(run).to(device)
    return load_stored(run, device).model


def read_history(run: str | os.PathLike[str]) -> list[dict[str, float]]:
    """Read a run's figures: a row per epoch, with the figures that the epoch has."""
    with (Path(run) / HISTORY).open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def stored_runs(run: str | os.PathLike[str]) -> list[Path]:
    """List the folders that hold a model: the run folder, or the folders of its folds."""
    return _folds(Path(run)) or [Path(run)]


def _folds(run: Path) -> list[Path]:
    return sorted(path.parent for path in run.glob(f"fold*/{WEIGHTS}"))
