"""What a caller gives to a run as objects, in place of the names in its recipe: data sets and a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from specenhance.data import AudioDataset
from specenhance.data.ready import GIVEN, ready_splits
from specenhance.models.adapter import FrontendModel, with_frontend
from specenhance.training.recipe import Recipe

__all__ = ["GIVEN_MODEL", "NOTHING", "Given", "check_model", "complete", "given_parts"]

GIVEN_MODEL = "given:"
"""Start of the backbone's name in the recipe of a run whose model was given. The name of its class follows."""


class Given(NamedTuple):
    """The objects of a run.

    Attributes:
        data: the splits by name, or None to open those that the recipe names.
        model: the model, or None to make the one that the recipe names.
    """

    data: Mapping[str, AudioDataset] | None = None
    model: nn.Module | None = None


NOTHING = Given()


def given_parts(
    recipe: Recipe, data: Mapping[str, Any] | None, model: nn.Module | None, classes: Sequence[str] | None = None
) -> tuple[Recipe, Given]:
    """Check a caller's objects, and write what they are into the recipe.

    Args:
        recipe: the recipe.
        data: the splits, as :func:`specenhance.data.ready.ready_splits` takes them, at the recipe's sample rate.
        model: a :class:`FrontendModel`, with or without features, or any backbone ``(B, 1, T, F) -> (B, classes)``, which gets
            the recipe's front end and features.
        classes: names of the labels of ``data``, in order.

    Raises:
        TypeError, ValueError: as :func:`specenhance.data.ready.ready_splits`. ValueError also for a recipe of a run that was
            given objects, without these objects.
    """
    if data is None and recipe.data == GIVEN:
        raise ValueError("this run was trained on a data set that was given as an object; give it again, as data=")
    if model is None and recipe.backbone.startswith(GIVEN_MODEL):
        raise ValueError("the model of this run was given as an object; give it again, as model=")
    if model is not None:
        recipe = recipe.replace(**_described(model))
    parts = None
    if data is not None:
        parts = ready_splits(data, classes, recipe.sample_rate)
        recipe = recipe.replace(data=GIVEN, root="", csv="", fold=0)
    return recipe, Given(parts, model)


def complete(model: nn.Module, recipe: Recipe, features: nn.Module) -> FrontendModel:
    """Add to a given model what it lacks: the recipe's features, and to a bare backbone also the recipe's front end."""
    if not isinstance(model, FrontendModel):
        return with_frontend(
            model, recipe.frontend, features=features, layout=recipe.layout, fit=recipe.fit, **recipe.frontend_args
        )
    if model.features is not None:
        return model
    return with_frontend(model.backbone, model.frontend, features=features, layout=model.layout, fit=model.fit)


@torch.no_grad()
def check_model(model: FrontendModel, classes: int) -> None:
    """Check that a given model, with features of a fixed number of frames, gives a logit for each class.

    A backbone without the attribute ``num_classes`` gets it.

    Raises:
        ValueError: for a model that cannot take the spectrograms, or gives another number of logits.
    """
    training = model.training
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        logits = model.eval()(torch.zeros(2, model.features.samples, device=device))
    except RuntimeError as error:
        raise ValueError(f"the model does not take these sounds: {error}") from error
    finally:
        model.train(training)
    if tuple(getattr(logits, "shape", ())) != (2, classes):
        got = f"shape {tuple(logits.shape)}" if hasattr(logits, "shape") else type(logits).__name__
        raise ValueError(
            f"the model gives {got} for 2 sounds: expected logits of shape (2, {classes}), one for each class"
        )
    if not hasattr(model.backbone, "num_classes"):
        model.backbone.num_classes = classes


def _described(model: nn.Module) -> dict[str, Any]:
    """Give the fields of a recipe that a given model decides."""
    if not isinstance(model, FrontendModel):
        return {"backbone": f"{GIVEN_MODEL}{type(model).__name__}", "pretrained": False}
    fields: dict[str, Any] = {
        "backbone": f"{GIVEN_MODEL}{type(model.backbone).__name__}",
        "pretrained": False,
        "layout": model.layout,
        "fit": model.fit,
        "frontend": type(model.frontend).__name__,
        "frontend_args": {},
    }
    if hasattr(model.frontend, "made_with"):
        fields |= _named("frontend", "frontend_args", model.frontend.made_with)
    features = model.features
    if features is None:
        return fields
    if hasattr(features, "made_with"):
        fields |= _named("features", "feature_args", features.made_with)
        for name in ("frames", "sample_rate", "num_mel_bins", "mean", "std"):
            fields["feature_args"].pop(name, None)
    fields |= {"frames": features.frames, "sample_rate": features.sample_rate, "bins": len(features.frequencies)}
    return fields | {"mean": features.mean, "std": features.std}


def _named(name: str, arguments: str, made_with: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: made_with["name"],
        arguments: {key: made_with[key] for key in made_with if key not in ("name", "in_chans")},
    }
