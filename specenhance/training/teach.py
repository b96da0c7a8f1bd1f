"""The teachers of a run: loaded, fitted to the training clips where they need that, and asked live or once for each clip."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specenhance.data import AudioDataset, Batch
from specenhance.data.groups import groups_of, kind_of
from specenhance.distillation.cache import CachedTeacher
from specenhance.distillation.ensemble import mean_logits
from specenhance.distillation.feature import PooledFeatures
from specenhance.distillation.head import Head, Headed, fit_head
from specenhance.distillation.names import FEATURES
from specenhance.distillation.registry import create_teacher, is_teacher_name
from specenhance.distillation.teachers import FrozenTeacher
from specenhance.models.adapter import with_frontend
from specenhance.models.weights import read_weights, write_weights
from specenhance.training.batches import loader
from specenhance.training.build import build_features
from specenhance.training.recipe import Recipe
from specenhance.training.store import RECIPE, load_stored

__all__ = ["LESSONS", "Live", "Teaching", "check_teacher", "load_teacher", "load_teaching", "prepare_teacher"]

LESSONS = "teacher.safetensors"  # of a run folder: a fitted head, and the logits of the training clips
HEAD, LOGITS = "head.", "logits"
SAME = ("features", "sample_rate", "bins")  # fields that must be the same for teacher and student

# Fields that do not change what a teacher gets or gives.
OF_THE_STUDENT = {
    *("role", "backbone", "backbone_args", "pretrained", "frontend", "frontend_args", "layout", "fit"),
    *("epochs", "optimizer", "lr", "betas", "weight_decay", "clip_norm", "precision", "select"),
    *("schedule", "cycle_from", "decay", "decay_from", "decay_every", "loss", "label_smoothing"),
    *("teacher_mean", "teacher_weights", "kd_weight", "kd_weight_end", "kd_temperature", "kd_temperature_end"),
    *("kd_alpha", "kd_beta"),
}

_log = logging.getLogger(__name__)


class Live(NamedTuple):
    """A teacher that is asked at each step.

    Attributes:
        teacher: the teacher. It gives logits ``(B, classes)``, or features ``(B, D)`` if the loss compares those.
        hears: what it gets: ``"spectrogram"`` or ``"waveform"``.
        weight: its weight among all teachers.
    """

    teacher: FrozenTeacher
    hears: str = "spectrogram"
    weight: float = 1.0


class Teaching(NamedTuple):
    """How a run is taught.

    Attributes:
        live: the teachers that are asked at each step.
        logits: the logits of each training clip ``(N, classes)``, the mean of all teachers that are asked once. Features
            ``(N, D)`` if the loss compares those. None if there is no such teacher.
        weight: the weight of these teachers together.
    """

    live: tuple[Live, ...] = ()
    logits: Tensor | None = None
    weight: float = 0.0

    @property
    def teaches(self) -> bool:
        """Whether there is a teacher."""
        return bool(self.live) or self.logits is not None


def load_teacher(recipe: Recipe, classes: list[str]) -> Any:
    """Load the teacher of a recipe that names one. It takes the student's spectrograms ``(B, 1, T, F)``, or what it ``hears``.

    If the teacher is a run of five folds, the model of the recipe's fold is loaded. If the recipe's loss compares features, the
    teacher gives those, and a run may know other classes.

    Args:
        recipe: the recipe of the student.
        classes: the names of the student's classes, in order.

    Returns:
        A :class:`~specenhance.distillation.teachers.FrozenTeacher`, or an embedding that needs a head. None if the recipe's
        loss needs no teacher.

    Raises:
        FileNotFoundError: for a run that does not exist or is not finished.
        ValueError: for a teacher of other classes or other features, one that was trained on the test clips of the
            recipe's fold, or one whose features are not known.

    >>> load_teacher(Recipe(teacher=""), ["no", "yes"]) is None
    True
    """
    if not recipe.teachers:
        return None
    by_features = recipe.kd_loss in FEATURES
    if is_teacher_name(recipe.teacher):
        teacher = create_teacher(
            recipe.teacher, classes, frames=recipe.frames, bins=recipe.bins, sample_rate=recipe.sample_rate
        )
        if _needs_head(teacher):  # its values are features
            return teacher
        return FrozenTeacher(_by_features(teacher) if by_features else teacher)
    run = Path(recipe.teacher)
    fold = run / f"fold{recipe.fold}"
    model, known, taught_by = load_stored(fold if recipe.fold and (fold / RECIPE).is_file() else run)
    if known != classes and not by_features:
        raise ValueError(
            f"teacher = {recipe.teacher!r} knows {len(known)} classes ({', '.join(known[:3])}, ...), the data has "
            f"{len(classes)} ({', '.join(classes[:3])}, ...): expected the same; train a teacher on this data set"
        )
    if recipe.fold and taught_by.data == recipe.data and taught_by.fold != recipe.fold:
        raise ValueError(
            f"teacher = {recipe.teacher!r} was trained on the clips of fold {recipe.fold}, which test the student; "
            f"train one with fold = {recipe.fold}, or with fold = 0, which makes one for each"
        )
    for name in SAME:
        ours, theirs = getattr(recipe, name), getattr(taught_by, name)
        if ours != theirs:
            raise ValueError(
                f"teacher = {recipe.teacher!r} was trained with {name} = {theirs!r}, the student has {ours!r}"
            )
    without_features: nn.Module = with_frontend(model.backbone, model.frontend, layout=model.layout, fit=model.fit)
    if by_features:
        without_features = PooledFeatures(without_features)
    return FrozenTeacher(without_features, transform=_transform(recipe, taught_by))


def _by_features(teacher: Any) -> Any:
    features = PooledFeatures(teacher)
    if hasattr(teacher, "hears"):
        features.hears = teacher.hears
    return features


def _each(recipe: Recipe) -> list[tuple[Recipe, str, float]]:
    """Give for each teacher: the recipe with this teacher only, the prefix of its tensors in :data:`LESSONS`, its weight."""
    names = recipe.teachers
    weights = recipe.teacher_weights or (1.0,) * len(names)
    return [
        (recipe.replace(teacher=name, teacher_weights=None), "" if len(names) == 1 else f"{number}.", weight)
        for number, (name, weight) in enumerate(zip(names, weights, strict=True))
    ]


def check_teacher(recipe: Recipe, data: AudioDataset) -> str:
    """Check that the recipe's teachers are there, and that they can teach the training clips. Nothing is computed.

    Returns:
        What the teachers get at each step: ``"waveform"`` if one of them does, else ``"spectrogram"``. Empty if they get
        nothing.

    Args:
        recipe: the recipe.
        data: the training clips.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_teacher`, and for clips of which an embedding has no values.

    >>> check_teacher(Recipe(), AudioDataset(["no", "yes"], [0, 1]))
    ''
    """
    heard = set()
    for one, _, _ in _each(recipe):
        teacher = load_teacher(one, data.classes)
        if _hears(teacher) == "clip":
            _values(teacher, one, data)
        if not _clean(one, teacher):
            heard.add(_hears(teacher))
    return "waveform" if "waveform" in heard else "".join(heard)


def prepare_teacher(recipe: Recipe, out: Path, data: AudioDataset, device: torch.device | str = "cpu") -> None:
    """Fit the heads of the recipe's teachers, and compute the logits of clean clips, where the recipe needs that.

    What is found is kept in the run folder's ``teacher.safetensors``. What is there already is left as it is.

    Args:
        recipe: the recipe, with its normalisation measured.
        out: the run folder.
        data: the training clips.
        device: where a teacher that is a PyTorch model computes.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_teacher`, and for clips of which an embedding has no values.
    """
    if (out / LESSONS).is_file():
        return
    found: dict[str, Tensor] = {}
    for one, prefix, _ in _each(recipe):
        found |= {prefix + name: value for name, value in _prepared(one, data, torch.device(device)).items()}
    if found:
        write_weights(out / LESSONS, found)


def _prepared(recipe: Recipe, data: AudioDataset, device: torch.device) -> dict[str, Tensor]:
    """Fit the head of a teacher, and compute its logits of clean clips, where the recipe needs that."""
    teacher = load_teacher(recipe, data.classes)
    with_head = _needs_head(teacher) and recipe.kd_loss not in FEATURES
    if not (with_head or _clean(recipe, teacher)):
        return {}
    found: dict[str, Tensor] = {}
    outputs = _outputs(teacher, recipe, data, device)
    if with_head:
        head = fit_head(outputs.numpy(), data.labels, len(data.classes), groups_of(data, kind_of(data, recipe.group)))
        outputs = head(outputs)
        found |= {HEAD + name: value for name, value in head.state_dict().items()}
        held = (
            "" if head.held_out is None else f"; it gets {head.held_out:.1%} of training clips right that were held out"
        )
        _log.info(f"teacher: a head on {head.mean.numel()} values was fitted{held}")
    if _clean(recipe, teacher):
        what = "features" if recipe.kd_loss in FEATURES else "logits"
        _log.info(
            f"teacher: its {what} are those of {len(data):,} clean clips; it does not get the student's augmentation"
        )
        found[LOGITS] = outputs
    return found


def load_teaching(recipe: Recipe, out: Path, classes: list[str], cache: str = "") -> Teaching:
    """Load how a run is taught, after :func:`prepare_teacher`.

    Args:
        recipe: the recipe.
        out: the run folder.
        classes: the names of the student's classes, in order.
        cache: folder in which the logits of live teachers are kept. Empty keeps none.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_teacher`, and for a damaged ``teacher.safetensors`` or cache.

    >>> load_teaching(Recipe(), Path("run"), ["no", "yes"]).teaches
    False
    """
    if not recipe.teachers:
        return Teaching()
    found: dict[str, Tensor] = {}
    if (out / LESSONS).is_file():
        found = read_weights(out / LESSONS, f"remove it, and it is made again: specenhance train --resume {out}")
    live: list[Live] = []
    known: list[Tensor] = []
    weights: list[float] = []
    for one, prefix, weight in _each(recipe):
        if prefix + LOGITS in found:
            known.append(found[prefix + LOGITS])
            weights.append(weight)
            continue
        teacher = load_teacher(one, classes)
        hears = _hears(teacher)
        if _needs_head(teacher) and recipe.kd_loss in FEATURES:
            teacher = FrozenTeacher(teacher)
        elif _needs_head(teacher):
            start = prefix + HEAD
            state = {name.removeprefix(start): value for name, value in found.items() if name.startswith(start)}
            head = Head(state["mean"].numel(), len(classes))
            head.load_state_dict(state)
            teacher = FrozenTeacher(Headed(teacher, head))
        if cache:
            teacher = CachedTeacher(
                teacher.teacher, _cache_file(one, cache), transform=teacher.transform, identity=one.teacher
            )
        live.append(Live(teacher, hears, weight))
    mean = mean_logits(known, weights, recipe.teacher_mean, recipe.kd_loss) if known else None
    return Teaching(tuple(live), mean, sum(weights))


def _cache_file(recipe: Recipe, cache: str) -> Path:
    """Name the file of a teacher's logits by all that its input depends on."""
    facts = {name: value for name, value in recipe.model_dump(mode="json").items() if name not in OF_THE_STUDENT}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return Path(cache) / f"{digest}.sqlite"


def _hears(teacher: Any) -> str:
    return getattr(teacher.teacher if isinstance(teacher, FrozenTeacher) else teacher, "hears", "spectrogram")


def _needs_head(teacher: Any) -> bool:
    return bool(getattr(teacher, "needs_head", False))


def _clean(recipe: Recipe, teacher: Any) -> bool:
    """Whether the teacher is asked once for each clean clip: if the recipe says so, or if the teacher knows only those."""
    return recipe.teacher_input == "clean" or _hears(teacher) == "clip"


@torch.no_grad()
def _outputs(teacher: Any, recipe: Recipe, data: AudioDataset, device: torch.device) -> Tensor:
    """Compute the teacher's output of each clip ``(N, D)``, float32, from the part of the clip that is evaluated."""
    hears = _hears(teacher)
    if hears == "clip":
        return torch.from_numpy(_values(teacher, recipe, data))
    features = build_features(recipe)
    samples = getattr(features, "samples", None)
    seconds = None if samples is None else samples / recipe.sample_rate
    if isinstance(teacher, nn.Module):
        teacher, features = teacher.to(device), features.to(device)
    outputs = []
    with closing(loader(data, recipe, train=False, seconds=seconds)) as batches:
        batch: Batch
        for batch in batches:
            if hears == "waveform":
                outputs.append(teacher(batch.waveform).cpu())
            else:
                outputs.append(teacher(features(batch.waveform.to(device), batch.length.to(device))).cpu())
    return torch.cat(outputs).float()


def _values(teacher: Any, recipe: Recipe, data: AudioDataset) -> npt.NDArray[np.float32]:
    if data.spans:
        raise ValueError(
            f"teacher = {recipe.teacher!r} knows clips by their files, and these clips are parts of files; cut them into files "
            "of their own, or choose a teacher that hears"
        )
    if not data.paths:
        raise ValueError(f"teacher = {recipe.teacher!r} knows clips by their files, and this data set has no files")
    return np.asarray(teacher.values(data.paths), dtype=np.float32)


class _Adapted(nn.Module):
    """Convert a student's spectrogram to the teacher's normalisation and length."""

    def __init__(self, student: Recipe, teacher: Recipe) -> None:
        super().__init__()
        self.mean, self.std = student.mean or 0.0, student.std or 0.5
        self.new_mean, self.new_std = teacher.mean or 0.0, teacher.std or 0.5
        self.frames = teacher.frames

    def forward(self, spec: Tensor) -> Tensor:
        values = (spec * (2 * self.std) + self.mean - self.new_mean) / (2 * self.new_std)
        missing = self.frames - spec.shape[2]  # F.pad cuts the end if it is negative
        return F.pad(values, (0, 0, 0, missing), value=-self.new_mean / (2 * self.new_std))  # 0 before normalisation


def _transform(student: Recipe, teacher: Recipe) -> nn.Module | None:
    if (student.mean, student.std, student.frames) == (teacher.mean, teacher.std, teacher.frames):
        return None  # the same spectrogram
    return _Adapted(student, teacher)
