"""Recipes, training runs, and the models of finished runs. PyTorch and Lightning are loaded only when they are needed."""

from importlib import import_module
from typing import TYPE_CHECKING

from specenhance.training.recipe import Recipe, load_recipe, recipe_for, save_recipe

if TYPE_CHECKING:
    from specenhance.training.run import resume, train
    from specenhance.training.store import Stored, load_model, load_stored, save_model

__all__ = [
    "Recipe",
    "Stored",
    "load_model",
    "load_recipe",
    "load_stored",
    "recipe_for",
    "resume",
    "save_model",
    "save_recipe",
    "train",
]

_LATER = dict.fromkeys(("Stored", "load_model", "load_stored", "save_model"), "store") | {
    "train": "run",
    "resume": "run",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"specenhance.training.{_LATER[name]}"), name)
