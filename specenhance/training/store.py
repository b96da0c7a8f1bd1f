"""Read and write the model of a run folder: its recipe, class names and weights. Reading needs no Lightning and no pickle."""

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
    """A trained model with its class names and its recipe.

    Attributes:
        model: the model, in evaluation mode. It maps waveforms ``(B, samples)`` to logits ``(B, classes)``.
        classes: the names of the classes, in order.
        recipe: the recipe that the model was trained by.
    """

    model: FrontendModel
    classes: list[str]
    recipe: Recipe


def save_model(model: FrontendModel, classes: list[str], run: str | os.PathLike[str]) -> None:
    """Write a model and its class names into a run folder, as :meth:`FrontendModel.save_pretrained` does.

    Of a model that was given as an object, and cannot be made again from names, only the weights are written.

    Args:
        model: the model. Its ``classes`` are set.
        classes: the names of the classes, in order.
        run: the run folder.

    >>> import tempfile
    >>> from specenhance.training.build import build_model
    >>> model = build_model(Recipe(backbone="test_resnet", frontend="tfe1"), num_classes=2)
    >>> with tempfile.TemporaryDirectory() as run:
    ...     save_model(model, ["no", "yes"], run)
    ...     (Path(run) / WEIGHTS).is_file()
    True
    """
    model.classes = classes
    if model.why_not_saved():
        write_model(model, Path(run) / WEIGHTS)
        return
    model.save_pretrained(run, model_card_kwargs={"repo_id": os.fspath(run)})


def save_pretrained(model: FrontendModel, classes: list[str], run: str | os.PathLike[str]) -> None:
    """Write a model's backbone into the folder ``pretrained`` of a run, in the format of the backbone's library.

    ``ast_teacher`` reads an AST from this folder. ``timm_teacher("local-dir:FOLDER")`` reads a model of timm from it.

    Args:
        model: the model.
        classes: the names of the classes, in order.
        run: the run folder.

    >>> import tempfile
    >>> from specenhance.training.build import build_model
    >>> model = build_model(Recipe(backbone="test_resnet"), num_classes=2)
    >>> with tempfile.TemporaryDirectory() as run:
    ...     save_pretrained(model, ["no", "yes"], run)
    ...     sorted(os.listdir(f"{run}/pretrained"))
    ['config.json', 'model.safetensors']
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
            data_config={"mean": 0.0, "std": 1.0},  # a spectrogram is already normalised, and not as an image is
        )


def load_stored(run: str | os.PathLike[str], device: str | torch.device = "cpu") -> Stored:
    """Read the model of a finished run, its class names and its recipe.

    Args:
        run: the run folder.
        device: device of the model.

    Raises:
        FileNotFoundError: if the folder is no run folder, or its training is not finished.
        ValueError: if the weights do not fit the recipe, or if their file has changed since it was written.

    >>> import tempfile
    >>> from specenhance.training import save_recipe
    >>> from specenhance.training.build import build_model
    >>> recipe = Recipe(backbone="test_resnet", frontend="tfe1")
    >>> with tempfile.TemporaryDirectory() as run:
    ...     save_recipe(recipe, f"{run}/{RECIPE}")
    ...     save_model(build_model(recipe, num_classes=2), ["no", "yes"], run)
    ...     load_stored(run).classes
    ['no', 'yes']
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
    """Read a model from a folder. It is in evaluation mode.

    The model of a run maps waveforms ``(B, samples)`` to logits ``(B, classes)``.

    Args:
        run: the folder of a finished run, or a folder that :meth:`FrontendModel.save_pretrained` wrote.
        device: device of the model.

    It raises as :func:`load_stored`.

    >>> import tempfile
    >>> from specenhance.training.build import build_model
    >>> model = build_model(Recipe(backbone="test_resnet", frontend="tfe1", frames=24), num_classes=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save_pretrained(folder)
    ...     load_model(folder)(torch.zeros(3, 16000)).shape
    torch.Size([3, 2])
    """
    if not (Path(run) / RECIPE).is_file() and (Path(run) / CONFIG).is_file():
        return FrontendModel.from_pretrained(run).to(device)
    return load_stored(run, device).model


def read_history(run: str | os.PathLike[str]) -> list[dict[str, float]]:
    """Read the figures of a run: one row for each epoch. A row has only the figures that the epoch has.

    Args:
        run: the run folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as run:
    ...     _ = (Path(run) / HISTORY).write_text("epoch,train_loss,val_loss\\n0,1.5,\\n")
    ...     read_history(run)
    [{'epoch': 0.0, 'train_loss': 1.5}]
    """
    with (Path(run) / HISTORY).open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def stored_runs(run: str | os.PathLike[str]) -> list[Path]:
    """List the folders of a run that hold a model: the run folder itself, or the folders of its folds.

    Args:
        run: the run folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as run:
    ...     for fold in ("fold1", "fold2"):
    ...         (Path(run) / fold).mkdir()
    ...         (Path(run) / fold / WEIGHTS).touch()
    ...     [folder.name for folder in stored_runs(run)]
    ['fold1', 'fold2']
    """
    return _folds(Path(run)) or [Path(run)]


def _folds(run: Path) -> list[Path]:
    return sorted(path.parent for path in run.glob(f"fold*/{WEIGHTS}"))
