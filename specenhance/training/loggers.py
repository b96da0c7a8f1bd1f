"""Where a run's figures are logged besides its folder: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from specenhance._files import write_text
from specenhance._missing import missing
from specenhance.training.recipe import Recipe

__all__ = ["LOGGERS", "check_loggers", "make_loggers"]

IDS = "loggers.json"
"""Name of the file in a run folder that has the name of the run in each logger, so that a resumed run goes on there."""

PROJECT = "specenhance"


def _tensorboard(recipe: Recipe, out: Path, ids: dict[str, str]) -> Logger:
    return TensorBoardLogger(out, name="", version="tensorboard")


def _wandb(recipe: Recipe, out: Path, ids: dict[str, str]) -> Logger:
    from lightning.pytorch.loggers import WandbLogger

    name = ids.setdefault("wandb", secrets.token_hex(4))
    return WandbLogger(
        project=PROJECT, name=out.name, save_dir=out, version=name, config=recipe.model_dump(mode="json")
    )


def _mlflow(recipe: Recipe, out: Path, ids: dict[str, str]) -> Logger:
    from lightning.pytorch.loggers import MLFlowLogger

    # Given, because Lightning reads the variable when it is imported.
    place = os.environ.get("MLFLOW_TRACKING_URI") or f"file:{(out / 'mlruns').resolve()}"
    logger = MLFlowLogger(PROJECT, run_name=out.name, tracking_uri=place, run_id=ids.get("mlflow"))
    if "mlflow" not in ids:
        fields = recipe.model_dump(mode="json")
        logger.log_hyperparams({name: str(value)[:500] for name, value in fields.items()})
    ids["mlflow"] = str(logger.run_id)
    return logger


LOGGERS: dict[str, Callable[[Recipe, Path, dict[str, str]], Logger]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
"""Loggers by name. Each is made of the recipe, the run folder, and the names of the run that loggers keep."""


def check_loggers(names: Sequence[str]) -> None:
    """Check that loggers are known and that their packages are there.

    Raises:
        ValueError: for an unknown name.
        ImportError: for a missing package.

    >>> check_loggers(["tensorboard"])
    """
    for name in names:
        if name not in LOGGERS:
            raise ValueError(f"loggers = {name!r}: expected one or more of {', '.join(LOGGERS)}")
        try:
            __import__(name)
        except ImportError as error:
            raise missing(error, f"logging to {name} needs its package", name) from error


def make_loggers(names: Sequence[str], recipe: Recipe, out: Path) -> list[Logger]:
    """Make the loggers of a run. A resumed run goes on where its figures are.

    Weights & Biases and MLflow read their own variables, such as ``WANDB_MODE`` and ``MLFLOW_TRACKING_URI``. Without
    a tracking URI, MLflow's files are in the run folder.

    Args:
        names: names of :data:`LOGGERS`.
        recipe: the recipe, whose fields are logged.
        out: the run folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     [type(one).__name__ for one in make_loggers(["tensorboard"], Recipe(), Path(out))]
    ['TensorBoardLogger']
    """
    path = out / IDS
    ids: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    before: dict[str, Any] = dict(ids)
    made = [LOGGERS[name](recipe, out, ids) for name in names]
    if ids != before:
        write_text(path, json.dumps(ids, indent=1) + "\n")
    return made
