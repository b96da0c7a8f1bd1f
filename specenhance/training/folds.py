"""A data set with folds: a run for each fold, in a folder of its own, and the mean of their results."""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from specenhance._files import write_text
from specenhance.training.recipe import RECIPE, Recipe, load_recipe, save_recipe
from specenhance.training.store import RESULT

__all__ = ["has_folds", "train_folds"]

_log = logging.getLogger(__name__)


def has_folds(recipe: Recipe) -> bool:
    """Say whether a recipe trains each fold of its data set in turn."""
    return recipe.fold_count > 0 and recipe.fold == 0


def train_folds(recipe: Recipe, out: Path, train_fold: Callable[[Recipe, Path], dict[str, Any]]) -> dict[str, Any]:
    """Train each fold by ``train_fold(recipe, folder)``, which returns its result, and write the mean of the results."""
    results = []
    folds = recipe.fold_count
    for fold in range(1, folds + 1):
        folder = out / f"fold{fold}"
        _log.info(f"fold {fold} of {folds}")
        if not (folder / RECIPE).is_file():
            save_recipe(recipe.replace(fold=fold), folder / RECIPE)
        results.append(train_fold(load_recipe(folder / RECIPE), folder))
    tested = [name for name in results[0] if name.startswith("test_")]
    first = tested[0]  # the accuracy, or the mean average precision
    values = [result[first] for result in results]
    result = {
        **{name: statistics.mean(result[name] for result in results) for name in tested},
        "fold_accuracies" if first == "test_accuracy" else f"fold_{first.removeprefix('test_')}s": values,
        "fold_standard_deviation": statistics.stdev(values),
        "seconds": round(sum(result["seconds"] for result in results), 1),
        "parameters": results[0]["parameters"],
        "recipe": recipe.model_dump(mode="json"),
    }
    write_text(out / RESULT, json.dumps(result, indent=2) + "\n")
    _log.info(f"mean {first.replace('_', ' ')} of {folds} folds: {result[first]:.2%}")
    return result
