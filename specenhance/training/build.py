"""Make what a recipe names: the splits of its data set, its features and its model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader

from specenhance.data import AudioDataset, open_data
from specenhance.data.check import check_sounds
from specenhance.data.classes import with_classes
from specenhance.data.few import few
from specenhance.data.groups import fold_split
from specenhance.data.layout import SPLITS
from specenhance.data.registry import data_folds
from specenhance.distillation.teachers import timm_teacher
from specenhance.features import create_features
from specenhance.frontends.base import out_channels
from specenhance.frontends.registry import create_frontend
from specenhance.models.adapter import FrontendModel, with_frontend
from specenhance.training.given import GIVEN_MODEL, NOTHING, Given, complete
from specenhance.training.recipe import Recipe

__all__ = [
    "AST_PREFIX",
    "build_features",
    "build_model",
    "build_split",
    "build_splits",
    "check_backbone",
    "measure_normalisation",
    "open_split",
]

AST_PREFIX = "ast:"  # before the name of an Audio Spectrogram Transformer


def build_split(recipe: Recipe, split: str, given: Given = NOTHING) -> AudioDataset:
    """Open one split of the recipe's data set, or take the given one: ``"train"``, ``"validation"`` or ``"test"``.

    With ``folds`` in the recipe, all clips of the data set are divided anew, no group in two folds. Otherwise the split is the
    data set's own. ESC-50 has five folds and no validation clips: the recipe's fold is both its validation and its test split.

    Raises:
        FileNotFoundError, ValueError: as the data set does, for files that are missing or do not fit its layout.
    """
    data = _divided(recipe, split, _own_splits(recipe, given)) if recipe.folds else _own_split(recipe, split, given)
    return _thinned(recipe, split, data)


def _own_splits(recipe: Recipe, given: Given) -> list[AudioDataset]:
    """Open all clips of a data set that is to be divided anew."""
    whole = recipe.replace(folds=0, group="", fold=min(1, data_folds(recipe.data)))
    return [_own_split(whole, split, given) for split in SPLITS]


def _divided(recipe: Recipe, split: str, parts: list[AudioDataset]) -> AudioDataset:
    return fold_split(parts, recipe.group, recipe.folds, recipe.fold, split)


def _thinned(recipe: Recipe, split: str, data: AudioDataset) -> AudioDataset:
    thin = recipe.clips_per_class and split == "train"
    return few(data, recipe.clips_per_class, recipe.seed) if thin else data


def _own_split(recipe: Recipe, split: str, given: Given) -> AudioDataset:
    if given.data is not None:
        return _with_labels(given.data[split], recipe)
    data = open_data(
        recipe.data,
        split,
        root=recipe.root,
        csv=recipe.csv or None,
        fold=recipe.fold,
        seed=recipe.seed,
        sample_rate=recipe.sample_rate,
        multi_label=recipe.multi_label,
        arguments=recipe.data_args,
    )
    data.allow_truncated = recipe.allow_truncated
    return _with_labels(data, recipe)


def _with_labels(data: AudioDataset, recipe: Recipe) -> AudioDataset:
    """Give a data set whose labels are of the recipe's kind: of one class, or of any number."""
    if data.multi_label == recipe.multi_label:
        return data
    if data.multi_label:
        raise ValueError(
            "multi_label = False: the clips of this data set have any number of classes; expected true (--set multi_label=true)"
        )
    data = copy.copy(data)
    data.labels = [(label,) for label in data.labels]
    return data


def build_splits(recipe: Recipe, given: Given = NOTHING) -> dict[str, AudioDataset]:
    """Open the three splits of the recipe's data set. It raises as :func:`build_split`."""
    if not recipe.folds:
        return {split: build_split(recipe, split, given) for split in SPLITS}
    parts = _own_splits(recipe, given)  # once: a folder of many files is slow to list
    return {split: _thinned(recipe, split, _divided(recipe, split, parts)) for split in SPLITS}


def open_split(recipe: Recipe, split: str, classes: Sequence[str]) -> AudioDataset:
    """Open a split for a model of ``classes``. The labels get the model's numbers.

    With ``skip_bad`` in the recipe, files that cannot be read are left out.

    Raises:
        FileNotFoundError, ValueError: as the data set does, and for classes that are not the model's.
    """
    data = with_classes(build_split(recipe, split), classes, "the model")
    return data.subset(check_sounds(data, thorough=True).good) if recipe.skip_bad and data.paths else data


def build_model(recipe: Recipe, num_classes: int, given: Given = NOTHING) -> FrontendModel:
    """Make the recipe's model, or complete the given one.

    It maps waveforms ``(B, samples)`` at the recipe's rate to logits ``(B, num_classes)``.

    Raises:
        ValueError: for an unknown backbone, front end or features. The message lists the known names.
    """
    if given.model is not None:
        model = complete(given.model, recipe, build_features(recipe))
    else:
        model = with_frontend(
            _backbone(recipe, num_classes),
            recipe.frontend,
            features=build_features(recipe),
            layout=recipe.layout,
            fit=recipe.fit,
            **recipe.frontend_args,
        )
    if recipe.multi_label:
        model.thresholds = [0.5] * num_classes  # until they are tuned
    return model


def build_features(recipe: Recipe) -> Any:
    """Make the recipe's features. They map waveforms ``(B, samples)`` to spectrograms ``(B, 1, T, F)``.

    A normalisation that is not measured yet does not change the values.

    Raises:
        ValueError: for unknown features. The message lists the known names.
    """
    return create_features(
        recipe.features,
        frames=recipe.frames,
        sample_rate=recipe.sample_rate,
        num_mel_bins=recipe.bins,
        mean=0.0 if recipe.mean is None else recipe.mean,
        std=0.5 if recipe.std is None else recipe.std,
        **recipe.feature_args,
    )


def check_backbone(recipe: Recipe) -> None:
    """Refuse a backbone that cannot take the recipe's spectrograms, before any clip is read.

    The backbone is made and run on the meta device, which has shapes but computes nothing. A recipe whose ``frames`` are not
    known yet (0) is not checked.

    Raises:
        ValueError: with the settings that were tried and work.
    """
    if not recipe.frames or recipe.backbone.startswith((AST_PREFIX, GIVEN_MODEL)):  # an AST is made for any size
        return
    refusal = _refusal(recipe)
    if refusal is None or _refusal(recipe.replace(fit="resize")) is not None:
        return  # it fits, or something else is wrong than the size
    cause = refusal.__cause__ or refusal
    reason = (
        str(cause) if isinstance(cause, AssertionError) else ""
    )  # of timm; other errors are about shapes inside the backbone
    cure = "--set fit=resize has them interpolated to its own size"
    for step in (2, 4, 8, 14, 16, 32):
        size = {name: -(-getattr(recipe, name) // step) * step for name in ("frames", "bins")}
        if _refusal(recipe.replace(**size)) is None:
            settings = [f"--set {name}={n}" for name, n in size.items() if n != getattr(recipe, name)]
            cure += f", or give it a size that it takes: {' '.join(settings)}"
            break
    raise ValueError(
        f"backbone = {recipe.backbone!r} does not take spectrograms of {recipe.frames} frames x {recipe.bins} bins"
        f"{f' ({reason})' if reason else ''}; {cure}"
    )


def _refusal(recipe: Recipe) -> Exception | None:
    """Return the error that the recipe's backbone raises for the recipe's spectrograms, or None."""
    try:
        with torch.device("meta"), torch.no_grad():
            backbone = _backbone(recipe.replace(pretrained=False), 2)
            model = with_frontend(backbone, "identity", layout=recipe.layout, fit=recipe.fit).eval()
            model(torch.empty(2, 1, recipe.frames, recipe.bins))
    except Exception as error:  # timm raises many kinds
        return error
    return None


class Normalisation(NamedTuple):
    """Mean and standard deviation of a spectrogram's values."""

    mean: float
    std: float


@torch.no_grad()
def measure_normalisation(recipe: Recipe, batches: DataLoader) -> Normalisation:
    """Measure the mean and standard deviation of the recipe's features over the clips of a split, with their padding.

    Raises:
        ValueError: if all values are equal, as for silent clips.
    """
    features = build_features(recipe.replace(mean=None, std=None))
    count, total, squares = 0, 0.0, 0.0
    for batch in batches:
        spec = features(batch.waveform, batch.length).double()
        count, total, squares = count + spec.numel(), total + spec.sum().item(), squares + spec.square().sum().item()
    mean = total / count
    std = max(squares / count - mean**2, 0.0) ** 0.5
    if std < 1e-6:
        raise ValueError(
            f"every training spectrogram is flat (mean {mean:.4f}): are the clips in {recipe.root!r} silent?"
        )
    return Normalisation(round(mean, 6), round(std, 6))


def _backbone(recipe: Recipe, num_classes: int) -> nn.Module:
    size: dict[str, Any] = {"frames": recipe.frames, "bins": recipe.bins, "pretrained": recipe.pretrained}
    chans = _frontend_channels(recipe)
    if recipe.backbone.startswith(AST_PREFIX):
        from specenhance.models.ast import ast_teacher  # needs transformers, which not every user has

        return ast_teacher(recipe.backbone.removeprefix(AST_PREFIX), num_classes, **size, **recipe.backbone_args)
    if recipe.fit == "resize":
        size |= {"frames": None, "bins": None}
    try:
        return timm_teacher(recipe.backbone, num_classes, **{"in_chans": chans, **size, **recipe.backbone_args})
    except TypeError as error:  # timm's, of an argument that the model does not take
        if not recipe.backbone_args:
            raise
        raise ValueError(f"backbone_args = {recipe.backbone_args!r}: {error}") from error


def _frontend_channels(recipe: Recipe) -> int:
    """Return the number of channels that the backbone is made for: those of the front end's result."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):  # its weights are not kept
        frontend = create_frontend(recipe.frontend, bins=recipe.bins, **recipe.frontend_args)
    return out_channels(frontend, 1)
