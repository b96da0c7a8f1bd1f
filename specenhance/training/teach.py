"""Load the teacher of a recipe. It must know the student's classes."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from specenhance.distillation.registry import create_teacher, is_teacher_name
from specenhance.distillation.teachers import FrozenTeacher
from specenhance.models.adapter import with_frontend
from specenhance.training.recipe import Recipe
from specenhance.training.store import RECIPE, load_stored

__all__ = ["load_teacher"]

SAME = ("features", "sample_rate", "bins")  # fields that must be the same for teacher and student


def load_teacher(recipe: Recipe, classes: list[str]) -> FrozenTeacher | None:
    """Load the teacher of a recipe. It takes the student's spectrograms ``(B, 1, T, F)``.

    If the teacher is a run of five folds, the model of the recipe's fold is loaded.

    Args:
        recipe: the recipe of the student.
        classes: the names of the student's classes, in order.

    Returns:
        The teacher, or None if the recipe's loss needs none.

    Raises:
        FileNotFoundError: for a run that does not exist or is not finished.
        ValueError: for a teacher of other classes or other features, or one that was trained on the test clips of the
            recipe's fold.

    >>> load_teacher(Recipe(teacher=""), ["no", "yes"]) is None
    True
    """
    if not recipe.teacher or recipe.kd_weight == 1:
        return None
    if is_teacher_name(recipe.teacher):
        return FrozenTeacher(create_teacher(recipe.teacher, classes, frames=recipe.frames, bins=recipe.bins))
    run = Path(recipe.teacher)
    fold = run / f"fold{recipe.fold}"
    model, known, taught_by = load_stored(fold if recipe.fold and (fold / RECIPE).is_file() else run)
    if known != classes:
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
    without_features = with_frontend(model.backbone, model.frontend, layout=model.layout, fit=model.fit)
    return FrozenTeacher(without_features, transform=_transform(recipe, taught_by))


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
