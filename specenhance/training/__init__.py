"""Recipes, training runs, and the models that they leave; Lightning is loaded only when a run is started."""

from specenhance.training.recipe import DATA, Recipe, load_recipe, recipe_for, save_recipe
from specenhance.training.store import Stored, load_model, load_stored, save_model

__all__ = [
    "DATA",
    "Recipe",
    "Stored",
    "load_model",
    "load_recipe",
    "load_stored",
    "recipe_for",
    "save_model",
    "save_recipe",
]
