"""A recipe: everything that decides what a training run computes, as one dataclass and one TOML file."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from specenhance.files import write_text
from specenhance.missing import missing
from specenhance.published import NORMALISATION

__all__ = [
    "BOUNDS",
    "CHOICES",
    "DATA",
    "FITTED",
    "PAPER",
    "Recipe",
    "load_recipe",
    "paper_recipe",
    "recipe_for",
    "save_recipe",
]

CHOICES = {
    "role": ("student", "teacher"),
    "optimizer": ("adamw", "adam"),
    "schedule": ("onecycle", "step", "constant"),
    "loss": ("cross_entropy", "binary_cross_entropy"),
    "select": ("best", "last"),
    "crop": ("start", "random"),
    "fit": ("error", "resize"),
}

FITTED = ("frames", "epochs", "batch_size")
"""Fields that are fitted to the training clips where they are 0; see :mod:`specenhance.training.fit`."""

# The smallest and the largest value of each number, and why no more: what lies beyond is a slip of the pen, or would run
# until memory or patience ends.
BOUNDS: dict[str, tuple[float, float, str]] = {
    "sample_rate": (1000, 1_000_000, "Hz"),
    "frames": (0, 100_000, "frames, 0 to fit the training clips"),
    "bins": (4, 1024, "mel bins"),
    "epochs": (0, 100_000, "epochs, 0 to fit the training clips"),
    "batch_size": (0, 65_536, "clips, 0 to fit their number"),
    "decay_from": (1, 100_000, "epochs"),
    "decay_every": (1, 100_000, "epochs"),
    "cycle_from": (0, 100_000, "epochs"),
    "seed": (0, 2**31 - 1, "for PyTorch's generators"),
    "time_mask": (0, 100_000, "frames"),
    "freq_mask": (0, 1024, "bins"),
    "shift": (0, 100_000, "frames"),
    "lr": (1e-12, 100, "beyond it training only diverges"),
    "weight_decay": (0, 10, "beyond it all weights vanish"),
    "noise": (0, 100, "in units of two standard deviations"),
    "mean": (-1e4, 1e4, "of log energies"),
    "std": (1e-6, 1e4, "of log energies"),
    "decay": (1e-6, 1, "a factor"),
    "label_smoothing": (0, 0.999, "a part of the label's probability"),
    "mixup": (0, 1, "a probability"),
    "mixup_alpha": (1e-3, 1e4, "of a Beta distribution"),
    "kd_weight": (0, 1, "the labels' part of the loss"),
    "kd_temperature": (1e-3, 1e4, "a factor by which logits are divided"),
    "clip_seconds": (1e-3, 86_400, "seconds"),
}

RECIPE = "recipe.toml"
"""The name of a recipe's file in a run folder."""

PAPER = {"esc50": "esc50", "speech_commands": "speech_commands_v2"}
"""Data sets of the paper's recipes, and what their files are called."""


def _field(default: Any, about: str) -> Any:
    return dataclasses.field(default=default, metadata={"about": about})


@dataclass(frozen=True)
class Recipe:
    """What a run trains, on what, and how; :func:`recipe_for` gives the defaults of each data set.

    Raises:
        ValueError: for a value out of its range; the message names the field, the value and what was expected.
    """

    role: str = _field("student", '"student", or "teacher": its backbone is also stored as its own library stores it')
    # Data
    data: str = _field("synthetic", "one of DATA")
    root: str = _field("", "the data set's folder; the built-in set has none")
    csv: str = _field("", 'data = "folder": a CSV of path, label[, split]')
    fold: int = _field(0, 'data = "esc50": the fold that is tested, 1 to 5')
    skip_bad: bool = _field(False, "train without files that cannot be read; otherwise they are an error")
    allow_truncated: bool = _field(False, "take what there is of files that are not whole")
    # Features
    features: str = _field("kaldi", "one of specenhance.features.list_features()")
    sample_rate: int = _field(16000, "Hz")
    frames: int = _field(128, "T; shorter clips are padded, longer ones cut; 0: fitted to the training clips")
    crop: str = _field(
        "start", 'in training: "start" of each clip, or "random": any part of a longer one, any place for a shorter one'
    )
    clip_seconds: float | None = _field(None, "the usual length of a training clip; None: measured")
    bins: int = _field(128, "F, mel bins")
    mean: float | None = _field(None, "normalisation: (x - mean) / (2 * std); None: measured on the training clips")
    std: float | None = _field(None, "see mean")
    # Model
    backbone: str = _field("tf_efficientnetv2_b2", 'any timm model, or "ast:" and what ast_teacher takes')
    pretrained: bool = _field(False, "start from published weights")
    frontend: str = _field("tfe4", "any of specenhance.list_frontends()")
    fit: str = _field(
        "error", 'a size that the backbone cannot take; "resize": spectrograms are interpolated to the backbone\'s own'
    )
    # Optimisation
    epochs: int = _field(30, "0: fitted to the number of training clips")
    batch_size: int = _field(64, "0: fitted to the number of training clips")
    optimizer: str = _field("adamw", 'or "adam"')
    lr: float = _field(3e-3, "the rate at its highest")
    weight_decay: float = _field(1e-2, "of the optimizer")
    schedule: str = _field("onecycle", 'up, then down, over all steps; "step": times decay, now and then; "constant"')
    cycle_from: int = _field(
        0, 'schedule = "onecycle": the epoch at which the cycle starts, where a finished run was extended'
    )
    decay: float = _field(0.85, 'schedule = "step": the factor')
    decay_from: int = _field(5, "epochs until the rate falls first")
    decay_every: int = _field(5, "epochs from one fall to the next")
    loss: str = _field("cross_entropy", 'or "binary_cross_entropy", on probabilities')
    label_smoothing: float = _field(0.1, "the part of a label's probability that is spread over all classes")
    select: str = _field(
        "best", 'the weights that are kept: "best" on the validation clips (ties: the lower loss), or "last"'
    )
    seed: int = _field(0, "of weights, order and augmentation")
    # Augmentation, in training only
    time_mask: int = _field(0, "maximum, in frames")
    freq_mask: int = _field(0, "maximum, in bins")
    shift: int = _field(0, "maximum, in frames, rolled either way")
    noise: float = _field(0.0, "maximum amplitude, in normalised units")
    mixup: float = _field(0.0, "the probability that a clip is mixed with another")
    mixup_alpha: float = _field(10.0, "of the Beta distribution of the part that a clip keeps")
    # Distillation, where there is a teacher: kd_weight * loss + (1 - kd_weight) * KL(softened teacher || student)
    teacher: str = _field("", 'a run folder, or "ast:NAME_OR_PATH" of an AST that knows the same classes')
    kd_weight: float = _field(0.5, "1 trains on the labels alone")
    kd_temperature: float = _field(5.0, "the teacher's")

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
        _expect(self, "mean", (self.mean is None) == (self.std is None), "mean and std together, or neither")
        for name, (least, most, why) in BOUNDS.items():
            value = getattr(self, name)
            _expect(self, name, value is None or least <= value <= most, f"a number from {least:g} to {most:g} ({why})")
        _expect(self, "cycle_from", self.cycle_from < max(1, self.epochs), f"less than epochs = {self.epochs}")

    def replace(self, **changes: Any) -> Recipe:
        """Give a copy with some fields changed.

        Raises:
            ValueError: for an unknown field, or a value of the wrong type or out of range.
        """
        return dataclasses.replace(self, **{name: _typed(name, value) for name, value in changes.items()})

    def moved_to(self, root: Path | None = None, csv: Path | None = None) -> Recipe:
        """Give a copy that finds its data where it lies now.

        Args:
            root: the data set's folder; None where it has not moved.
            csv: its table; likewise.

        Raises:
            FileNotFoundError: where the data is not there.
        """
        places = {name: os.path.abspath(path) for name, path in (("root", root), ("csv", csv)) if path is not None}
        moved = self.replace(**places)
        for name in ("root", "csv"):
            path = getattr(moved, name)
            if path and not os.path.exists(path):
                raise FileNotFoundError(f"{path}: not there any more; say where the data lies now by --{name}")
        return moved

    def differences(self, asked: Recipe) -> list[str]:
        """Name the fields in which this recipe of a run is not the one that was asked for.

        What ``asked`` leaves to the data, the run has filled in.
        """
        left = {name for name in FITTED if not getattr(asked, name)}
        left |= {name for name in ("mean", "std", "clip_seconds") if getattr(asked, name) is None}
        names = [field.name for field in dataclasses.fields(self) if field.name not in left]
        return [name for name in names if getattr(self, name) != getattr(asked, name)]


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
    "folder": dict.fromkeys(FITTED, 0) | {"crop": "random", "time_mask": 16, "freq_mask": 16, "shift": 10},
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

    A relative ``root``, ``csv`` or ``teacher`` in the file is relative to the file's folder.

    Args:
        path: the file.
        **changes: fields that differ from the file's.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for malformed TOML, or what :func:`recipe_for` refuses, with the path.
    """
    try:
        found = tomllib.loads(_text(path))
        folder = Path(path).absolute().parent
        for name in ("root", "csv", "teacher"):
            # A teacher may be a name on a hub, too.
            if (
                isinstance(found.get(name), str)
                and found[name]
                and (name != "teacher" or (folder / found[name]).is_dir())
            ):
                found[name] = os.path.normpath(folder / found[name])
        fields = found | changes
        data = fields.pop("data", None)
        if not isinstance(data, str):
            raise ValueError(f'expected a line such as data = "esc50", one of {", ".join(DATA)}')
        return _recipe(data, fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _dumps(fields: dict[str, Any]) -> str:
    try:
        import tomli_w  # who only loads a model writes none
    except ImportError as error:
        raise missing(error, "writing recipes needs tomli-w", "tomli-w") from error
    return tomli_w.dumps(fields)


def _text(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")  # -sig: some editors put a byte-order mark first
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: no such recipe; expected a TOML file of recipe fields, such as a run's recipe.toml"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"no text in UTF-8 ({error}); save it as UTF-8") from error


def _recipe(data: str, fields: dict[str, Any]) -> Recipe:
    if data not in DATA:
        raise ValueError(f"data = {data!r}: expected one of {', '.join(DATA)}")
    typed = {name: _typed(name, value) for name, value in (DATA[data] | fields).items()}
    return Recipe(data=data, **typed)


def save_recipe(recipe: Recipe, path: str | os.PathLike[str]) -> None:
    """Write a recipe as TOML, whole: fields that are None are left out, a relative ``root`` or ``csv`` becomes absolute."""
    fields = {name: value for name, value in dataclasses.asdict(recipe).items() if value is not None}
    fields |= {name: os.path.abspath(fields[name]) for name in ("root", "csv") if fields[name]}
    write_text(path, _dumps(fields))


def explain(recipe: Recipe) -> str:
    """Write a recipe as TOML in which every field is explained: what a file for :func:`load_recipe` may hold."""
    lines = []
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        about = field.metadata["about"]
        if value is None:
            lines.append(f"# {field.name} = ...  # {about}")
        else:
            lines.append(f"{_dumps({field.name: value}).strip()}  # {about}")
    return "\n".join(lines) + "\n"


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
    if value is True or value is False:
        value = value if kind == "bool" else str(value)
    try:
        if kind == "bool":
            return {"true": True, "false": False}[str(value).lower()]
        if kind == "int":
            number = float(value)
            if not number.is_integer():
                raise ValueError
            return int(number) if isinstance(value, float) else int(value)
        if kind == "float":
            number = float(value)
            if not math.isfinite(number):
                raise ValueError
            return number
    except (KeyError, ValueError, TypeError, OverflowError):
        expected = {"bool": "true or false", "int": "a whole number", "float": "a number, and a finite one"}[kind]
        raise ValueError(f"{name} = {value!r}: expected {expected}") from None
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(f"{name} = {value!r}: expected text")
    return str(value)
