"""A recipe: everything that decides what a training run computes, as one dataclass and one TOML file."""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specenhance.missing import missing

try:
    import tomli_w
except ImportError as error:
    raise missing(error, "recipes need tomli-w", "tomli-w") from error

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from specenhance.features import NORMALISATION
from specenhance.files import write_text

__all__ = ["CHOICES", "DATA", "PAPER", "Recipe", "load_recipe", "paper_recipe", "recipe_for", "save_recipe"]

CHOICES = {
    "role": ("student", "teacher"),
    "optimizer": ("adamw", "adam"),
    "schedule": ("onecycle", "step", "constant"),
    "loss": ("cross_entropy", "binary_cross_entropy"),
    "select": ("best", "last"),
}

PAPER = {"esc50": "esc50", "speech_commands": "speech_commands_v2"}
"""Data sets of the paper's recipes, and what their files are called."""


@dataclass(frozen=True)
class Recipe:
    """What a run trains, on what, and how; :func:`recipe_for` gives the defaults of each data set.

    Raises:
        ValueError: for a value out of its range; the message names the field, the value and what was expected.
    """

    role: str = "student"  # "teacher": its backbone is also stored as its own library stores it
    # Data
    data: str = "synthetic"  # one of DATA
    root: str = ""  # the data set's folder; the built-in set has none
    csv: str = ""  # data = "folder": a CSV of path, label[, split]
    fold: int = 0  # data = "esc50": the fold that is tested, 1 to 5
    # Features
    features: str = "kaldi"  # one of specenhance.features.list_features()
    sample_rate: int = 16000  # Hz
    frames: int = 128  # T; shorter clips are padded, longer ones cut at the end
    bins: int = 128  # F
    mean: float | None = None  # normalisation: (x - mean) / (2 * std); None: measured on the training clips
    std: float | None = None
    # Model
    backbone: str = "tf_efficientnetv2_b2"  # any timm model, or "ast:" and what ast_teacher takes
    pretrained: bool = False
    frontend: str = "tfe4"  # any of specenhance.list_frontends()
    # Optimisation
    epochs: int = 30
    batch_size: int = 64
    optimizer: str = "adamw"  # or "adam"
    lr: float = 3e-3  # the highest
    weight_decay: float = 1e-2
    schedule: str = "onecycle"  # up, then down, over all steps; "step": times decay, now and then; "constant"
    decay: float = 0.85  # schedule = "step": the factor
    decay_from: int = 5  # epochs until the rate falls first
    decay_every: int = 5  # epochs from one fall to the next
    loss: str = "cross_entropy"  # or "binary_cross_entropy", on shares
    label_smoothing: float = 0.1
    select: str = "best"  # the weights that are kept: "best" on the validation clips, or "last"
    seed: int = 0
    # Augmentation, in training only
    time_mask: int = 0  # frames at most
    freq_mask: int = 0  # bins at most
    shift: int = 0  # frames at most, rolled either way
    noise: float = 0.0  # amplitude at most, in normalised units
    mixup: float = 0.0  # the share of the clips that are mixed with another
    mixup_alpha: float = 10.0  # of the Beta distribution of the part that a clip keeps
    # Distillation, where there is a teacher: kd_weight * loss + (1 - kd_weight) * KL(softened teacher || student)
    teacher: str = ""  # a run folder, or "ast:NAME_OR_PATH" of an AST that knows the same classes
    kd_weight: float = 0.5  # 1 trains on the labels alone
    kd_temperature: float = 5.0  # the teacher's

    def __post_init__(self) -> None:
        _expect(self, "data", self.data in DATA, f"one of {', '.join(DATA)}")
        _expect(
            self, "root", bool(self.root) != (self.data == "synthetic"), "a folder for every data set but 'synthetic'"
        )
        _expect(self, "csv", not self.csv or self.data == "folder", "a CSV only with data = 'folder'")
        _expect(
            self,
            "fold",
            self.fold in (range(6) if self.data == "esc50" else (0,)),
            "1 to 5 with data = 'esc50', else 0",
        )
        for name, known in CHOICES.items():
            _expect(self, name, getattr(self, name) in known, " or ".join(map(repr, known)))
        _expect(
            self,
            "frontend",
            self.role == "student" or self.frontend == "identity",
            "'identity' with role = 'teacher': a teacher is stored as its own library's model, which has no front end",
        )
        for name in ("sample_rate", "frames", "bins", "epochs", "batch_size", "decay_from", "decay_every"):
            _expect(self, name, getattr(self, name) >= 1, "a whole number >= 1")
        for name in ("weight_decay", "time_mask", "freq_mask", "shift", "noise", "seed"):
            _expect(self, name, getattr(self, name) >= 0, "a number >= 0")
        _expect(self, "lr", self.lr > 0, "a rate > 0")
        _expect(self, "std", self.std is None or self.std > 0, "a number > 0")
        _expect(self, "mean", (self.mean is None) == (self.std is None), "mean and std together, or neither")
        _expect(self, "label_smoothing", 0 <= self.label_smoothing < 1, "a share in [0, 1)")
        _expect(self, "decay", 0 < self.decay <= 1, "a factor in (0, 1]")
        for name in ("mixup", "kd_weight"):
            _expect(self, name, 0 <= getattr(self, name) <= 1, "a share in [0, 1]")
        for name in ("mixup_alpha", "kd_temperature"):
            _expect(self, name, getattr(self, name) > 0, "a number > 0")

    def replace(self, **changes: Any) -> Recipe:
        """Give a copy with some fields changed.

        Raises:
            ValueError: for an unknown field, or a value of the wrong type or out of range.
        """
        return dataclasses.replace(self, **{name: _typed(name, value) for name, value in changes.items()})


def _normalisation(name: str) -> dict[str, float]:
    return dict(zip(("mean", "std"), NORMALISATION[name], strict=True))


# What each data set changes in Recipe's own defaults. ESC-50 has no validation clips of its own, and to choose weights by
# the tested fold would flatter them: the last ones are kept. A normalisation that is not here is measured.
DATA: dict[str, dict[str, Any]] = {
    "esc50": _normalisation("esc50")
    | {"frames": 512, "epochs": 60, "batch_size": 32, "select": "last"}
    | {"time_mask": 96, "freq_mask": 24, "shift": 10, "noise": 0.05},
    "speech_commands": _normalisation("speech_commands")
    | {"frames": 128, "epochs": 20, "time_mask": 16, "freq_mask": 16, "shift": 10},
    "folder": {"frames": 512, "time_mask": 48, "freq_mask": 16, "shift": 10},
    "synthetic": {"frames": 96, "epochs": 10, "time_mask": 8, "freq_mask": 8, "shift": 4},
}


def recipe_for(data: str, **changes: Any) -> Recipe:
    """Give the default recipe of a data set, with some fields changed.

    For ``role="teacher"`` it is the paper's, where it has one for the data set.

    Args:
        data: one of :data:`DATA`.
        **changes: fields of :class:`Recipe`; numbers may come as text.

    Raises:
        ValueError: for an unknown data set or field, or a value of the wrong type or out of range.
    """
    if changes.get("role") == "teacher":
        if data in PAPER:
            return paper_recipe(data, **changes)
        changes = {"frontend": "identity", **changes}
    return _recipe(data, changes)


def paper_recipe(data: str, **changes: Any) -> Recipe:
    """Give the paper's recipe of a data set of :data:`PAPER`, with some fields changed.

    Args:
        data: one of :data:`PAPER`.
        **changes: fields of :class:`Recipe`; ``role="teacher"`` gives the teacher's.

    Raises:
        ValueError: as :func:`recipe_for`.

    Source: Xing et al., Table I; the files in ``specenhance/training/recipes``.
    """
    end = "_teacher" if changes.get("role") == "teacher" else ""
    return load_recipe(Path(__file__).with_name("recipes") / f"{PAPER[data]}{end}.toml", **changes)


def load_recipe(path: str | os.PathLike[str], **changes: Any) -> Recipe:
    """Read a recipe from a TOML file; what the file leaves out is its data set's default.

    Args:
        path: the file.
        **changes: fields that differ from the file's.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for malformed TOML, or what :func:`recipe_for` refuses, with the path.
    """
    try:
        fields = tomllib.loads(Path(path).read_text(encoding="utf-8")) | changes
        data = fields.pop("data", None)
        if not isinstance(data, str):
            raise ValueError(f'expected a line such as data = "esc50", one of {", ".join(DATA)}')
        return _recipe(data, fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _recipe(data: str, fields: dict[str, Any]) -> Recipe:
    if data not in DATA:
        raise ValueError(f"data = {data!r}: expected one of {', '.join(DATA)}")
    typed = {name: _typed(name, value) for name, value in (DATA[data] | fields).items()}
    return Recipe(data=data, **typed)


def save_recipe(recipe: Recipe, path: str | os.PathLike[str]) -> None:
    """Write a recipe as TOML, whole; fields that are None are left out."""
    fields = {name: value for name, value in dataclasses.asdict(recipe).items() if value is not None}
    write_text(path, tomli_w.dumps(fields))


def _expect(recipe: Recipe, name: str, holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name} = {getattr(recipe, name)!r}: expected {expected}")


def _typed(name: str, value: Any) -> Any:
    """Bring a field's value, perhaps text from a command line, to the field's type."""
    fields = {field.name: field.type for field in dataclasses.fields(Recipe)}
    if name not in fields:
        near = difflib.get_close_matches(name, fields, n=3, cutoff=0.6)
        raise ValueError(
            f"unknown field {name!r}: {f'did you mean {near}? ' if near else ''}known: {', '.join(fields)}"
        )
    kind = str(fields[name]).removesuffix(" | None")  # annotations are text here
    if value is None and kind != fields[name]:
        return None
    try:
        if kind == "bool":
            return {"true": True, "false": False}[str(value).lower()]
        if kind == "int":
            if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
                raise ValueError
            return int(value)
        if kind == "float":
            if isinstance(value, bool):
                raise ValueError
            return float(value)
    except (KeyError, ValueError, TypeError):
        raise ValueError(f"{name} = {value!r}: expected a value of type {kind}") from None
    return str(value)
