"""A recipe: all settings that determine the result of a training run, as a pydantic model and as a TOML file."""

from __future__ import annotations

import contextlib
import difflib
import os
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from specenhance._choices import KdLoss, PaperData, Role, TeacherInput, TeacherMean
from specenhance._files import is_url, placed, whole_place, write_text
from specenhance._imports import HINT
from specenhance._missing import missing
from specenhance._toml import parse_toml, read_toml
from specenhance.data.ready import GIVEN
from specenhance.data.registry import data_folds, list_data, recipe_defaults, takes
from specenhance.distillation.names import FEATURES, SEPARATOR, names_of

__all__ = [
    "AUGMENTATIONS",
    "FITTED",
    "MADE",
    "PAPER",
    "Precision",
    "Recipe",
    "Role",
    "augmentation",
    "load_recipe",
    "paper_recipe",
    "recipe_for",
    "save_recipe",
]

Crop = Literal["start", "random"]
Fit = Literal["error", "resize"]
Schedule = Literal["onecycle", "step", "constant"]
Loss = Literal["cross_entropy", "binary_cross_entropy", "focal"]
BY_CLASS = ("binary_cross_entropy", "focal")  # losses that take each class by itself
ClassWeights = Literal["none", "balanced"]
Sampling = Literal["shuffle", "balanced"]
Select = Literal["best", "last"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

MADE = {"background": ("white", "pink", "mixed"), "rooms": ("simulated",)}
"""Kinds of noise and of rooms that are made. Any other value of these fields is a folder of recordings."""

AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "none": {"gain": 0.0, "background": "", "rooms": "", "filter_gain": 0.0, "mixstyle": 0.0},
    "light": {
        "gain": 6.0,
        "background": "mixed",
        "background_probability": 0.3,
        "snr_low": 10.0,
        "snr_high": 35.0,
        "rooms": "",
        "filter_gain": 0.0,
        "mixstyle": 0.0,
    },
    "robust": {
        "gain": 15.0,
        "background": "mixed",
        "background_probability": 0.7,
        "snr_low": -5.0,
        "snr_high": 35.0,
        "rooms": "simulated",
        "rooms_probability": 0.2,
        "filter_gain": 6.0,
        "mixstyle": 0.0,
    },
}
"""Named sets of augmentation: the fields that each sets."""

MULTI_LABEL = {"loss": "binary_cross_entropy", "label_smoothing": 0.0, "kd_loss": "binary"}
"""Defaults of fields with ``multi_label = true``."""

FITTED = ("frames", "epochs", "batch_size")
"""Fields that are fitted to the training clips if they are 0, see :mod:`specenhance.training.defaults`."""

RECIPE = "recipe.toml"
"""Name of the recipe's file in a run folder."""

PAPER = get_args(PaperData)
"""Data sets that the paper has recipes for."""

_TABLES = ("data_args", "frontend_args", "feature_args", "backbone_args")
_TUPLES = {
    "betas": "two numbers from 0 to below 1, such as 0.95,0.999",
    "teacher_weights": "a number above 0 for each teacher, such as 2,1",
}
_FLAGS = {"true": True, "false": False}


def _number(default: Any, about: str, least: float, most: float, why: str) -> Any:
    """Make the field of a number. A value out of its bounds is a mistake, takes too long, or does not fit into memory."""
    return Field(default, description=about, ge=least, le=most, json_schema_extra={"why": why})


class Recipe(BaseModel):
    """All settings of a training run. :func:`recipe_for` gives the defaults of each data set. Numbers may be given as text.

    Raises:
        ValueError: for an unknown field, and for a value of the wrong type or out of its range. The message has the field,
            the value and what was expected.

    >>> recipe = Recipe(data="synthetic", epochs=3)
    >>> recipe.replace(lr="1e-4").lr
    0.0001
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    role: Role = Field(
        "student",
        description='What the model is for: "student" or "teacher". A teacher\'s backbone is also stored in the format of its '
        "library.",
    )
    # Data
    data: str = Field("synthetic", description="Name of the data set, one of specenhance.data.list_data().")
    root: str = Field("", description="Folder of the data set, or the URL of shards. The built-in data set has none.")
    csv: str = Field("", description='CSV file with the columns path, label and optionally split. For data = "folder".')
    data_args: dict[str, Any] = Field(
        {}, description="Further arguments of the data set, such as window of annotations."
    )
    multi_label: bool = Field(
        False,
        description="Whether a clip has any number of classes: labels such as a;b in the CSV, or one column of 0 and 1 for "
        "each class.",
    )
    fold: int = Field(
        0,
        description="Fold that is tested, for a data set with folds, such as ESC-50, or with folds. 0 trains with each fold "
        "in turn.",
    )
    folds: int = _number(
        0,
        "Number of folds into which all clips are divided, no group in two. One is tested, the next validates, all others "
        "train. 0 takes the splits of the data set.",
        0,
        1000,
        "folds, 0 for the data set's own splits",
    )
    group: str = Field(
        "",
        description='What must not be in two folds: "speaker", "recording", a column of the CSV, or "clip". Empty takes the '
        "only kind that the data set has. For folds.",
    )
    clips_per_class: int = _number(
        0,
        "Maximum number of training clips of each class, chosen by the seed. 0 takes all.",
        0,
        10_000_000,
        "clips, 0 for all",
    )
    skip_bad: bool = Field(
        False, description="Whether to train without files that cannot be read. Otherwise they are an error."
    )
    allow_truncated: bool = Field(
        False, description="Whether to use incomplete sound files, as far as they can be read."
    )
    # Features
    features: str = Field("kaldi", description="Name of the features, one of specenhance.features.list_features().")
    feature_args: dict[str, Any] = Field({}, description="Further arguments of the features, such as frame_shift.")
    sample_rate: int = _number(16000, "Sample rate, in Hz.", 1000, 1_000_000, "Hz")
    frames: int = _number(
        128,
        "Number of time frames T. Shorter clips are padded, longer ones are cut. 0 is fitted to the training clips.",
        0,
        100_000,
        "frames, 0 to fit the training clips",
    )
    crop: Crop = Field(
        "start",
        description='Part of a clip that is used in training: its "start", or a "random" part. A shorter clip gets a random '
        "place.",
    )
    clip_seconds: float | None = _number(
        None, "Usual length of a training clip, in seconds. None is measured.", 1e-3, 86_400, "seconds"
    )
    bins: int = _number(128, "Number of mel bins F.", 4, 1024, "mel bins")
    mean: float | None = _number(
        None,
        "Mean of the normalisation (x - mean) / (2 * std). None is measured on the training clips.",
        -1e4,
        1e4,
        "of log energies",
    )
    std: float | None = _number(
        None,
        "Standard deviation of the normalisation. None is measured on the training clips.",
        1e-6,
        1e4,
        "of log energies",
    )
    # Model
    backbone: str = Field(
        "tf_efficientnetv2_b2",
        description='Name of a timm model, or "ast:NAME_OR_PATH" of an Audio Spectrogram Transformer.',
    )
    backbone_args: dict[str, Any] = Field(
        {}, description="Further arguments of timm.create_model, such as drop_path_rate."
    )
    pretrained: bool = Field(False, description="Whether to start from published weights.")
    frontend: str = Field("tfe4", description="Name of the front end, one of specenhance.list_frontends().")
    frontend_args: dict[str, Any] = Field({}, description="Further arguments of the front end, such as kernel_size.")
    layout: Literal["time_freq", "freq_time"] = Field(
        "time_freq", description='Axes that the backbone reads as rows and columns: "time_freq" or "freq_time".'
    )
    fit: Fit = Field(
        "error",
        description='What to do with a size that the backbone cannot take: "error", or "resize" to interpolate spectrograms.',
    )
    init: str = Field(
        "",
        description="Run folder, or .safetensors file of a model of this library, whose weights training starts from. A head "
        "for other classes starts anew.",
    )
    # Optimisation
    epochs: int = _number(
        30,
        "Number of passes over the training clips. 0 is fitted to their number.",
        0,
        100_000,
        "epochs, 0 to fit the training clips",
    )
    batch_size: int = _number(
        64,
        "Number of clips in each step. 0 is fitted to the number of training clips.",
        0,
        65_536,
        "clips, 0 to fit their number",
    )
    optimizer: str = Field("adamw", description="Name of the optimizer, one of timm.optim.list_optimizers().")
    lr: float = _number(3e-3, "Maximum learning rate.", 1e-12, 100, "beyond it training only diverges")
    betas: tuple[float, float] | None = Field(
        None, description="Betas of an Adam optimizer. None is the optimizer's own default."
    )
    weight_decay: float = _number(1e-2, "Weight decay of the optimizer.", 0, 10, "beyond it all weights vanish")
    accumulate: int = _number(
        1, "Number of batches whose gradients are added before each step of the optimizer.", 1, 65_536, "batches"
    )
    ema: float = _number(
        0.0,
        "Decay of an exponential moving average of the weights, such as 0.999, which is validated and kept. 0 has none.",
        0,
        0.999999,
        "a decay below 1",
    )
    clip_norm: float = _number(0.0, "Maximum norm of the gradients. With 0 they are not clipped.", 0, 1e6, "a norm")
    precision: Precision = Field(
        "32-true",
        description='Precision on a GPU: "32-true", or the faster "bf16-mixed" or "16-mixed". A CPU computes in float32.',
    )
    schedule: Schedule = Field(
        "onecycle",
        description='Learning rate over time: "onecycle" rises and then falls, "step" falls by decay, or "constant".',
    )
    cycle_from: int = _number(
        0,
        'Epoch at which the cycle starts, if a finished run was extended. For schedule = "onecycle".',
        0,
        100_000,
        "epochs",
    )
    decay: float = _number(
        0.85, 'Factor of the learning rate at each fall. For schedule = "step".', 1e-6, 1, "a factor"
    )
    decay_from: int = _number(5, 'Number of epochs before the first fall. For schedule = "step".', 1, 100_000, "epochs")
    decay_every: int = _number(
        5, 'Number of epochs from one fall to the next. For schedule = "step".', 1, 100_000, "epochs"
    )
    loss: Loss = Field(
        "cross_entropy",
        description='Loss on the labels: "cross_entropy", or of each class by itself "binary_cross_entropy" or "focal".',
    )
    focal_gamma: float = _number(
        2.0, 'Power by which loss = "focal" weighs down what the model already knows.', 0, 20, "a power"
    )
    focal_alpha: float = _number(
        0.25,
        'Weight of classes that a clip has, less than 1. For loss = "focal".',
        1e-6,
        1 - 1e-6,
        "the others have the rest",
    )
    label_smoothing: float = _number(
        0.1,
        "Part of a label's probability that is divided equally among all classes.",
        0,
        0.999,
        "a part of the label's probability",
    )
    class_weights: ClassWeights = Field(
        "none",
        description='Weight of each class in the loss: "none", or "balanced", inversely to its number of training clips.',
    )
    sampling: Sampling = Field(
        "shuffle",
        description='Training clips of an epoch: "shuffle" takes each once, "balanced" draws as many, with all classes '
        "equally often.",
    )
    patience: int = _number(
        0,
        "Number of epochs without a better one on the validation clips after which training ends early. 0 never does.",
        0,
        100_000,
        "epochs, 0 to train all",
    )
    select: Select = Field(
        "best",
        description='Weights that are kept: "best" accuracy on the validation clips (the lower loss among equals), or "last". '
        "With multi_label it is the best mean average precision.",
    )
    seed: int = _number(
        0, "Seed of the weights, the order of clips and the augmentation.", 0, 2**31 - 1, "for PyTorch's generators"
    )
    # Augmentation, in training only
    time_mask: int = _number(0, "Maximum length of the masked time span, in frames.", 0, 100_000, "frames")
    freq_mask: int = _number(0, "Maximum width of the masked frequency band, in bins.", 0, 1024, "bins")
    shift: int = _number(0, "Maximum shift in time, in frames, in both directions.", 0, 100_000, "frames")
    noise: float = _number(
        0.0, "Maximum amplitude of the added noise, in normalised units.", 0, 100, "in units of two standard deviations"
    )
    mixup: float = _number(0.0, "Probability that a clip is mixed with another one.", 0, 1, "a probability")
    mixup_alpha: float = _number(
        10.0,
        "Parameter of the Beta distribution of the part that a clip keeps in a mixture.",
        1e-3,
        1e4,
        "of a Beta distribution",
    )
    cutmix: float = _number(
        0.0,
        "Probability that a span of a clip is replaced by that of another one (CutMix in time).",
        0,
        1,
        "a probability",
    )
    cutmix_alpha: float = _number(
        1.0,
        "Parameter of the Beta distribution of the part that a clip keeps when it is cut.",
        1e-3,
        1e4,
        "of a Beta distribution",
    )
    gain: float = _number(0.0, "Maximum change of a clip's level, in dB, in both directions.", 0, 60, "dB")
    background: str = Field(
        "",
        description='Noise behind the clips: "white", "pink", "mixed" (each clip one of the two), or a folder of recordings.',
    )
    background_probability: float = _number(0.7, "Probability that a clip gets noise.", 0, 1, "a probability")
    snr_low: float = _number(-5.0, "Minimum signal-to-noise ratio of a clip with noise, in dB.", -60, 120, "dB")
    snr_high: float = _number(35.0, "Maximum signal-to-noise ratio of a clip with noise, in dB.", -60, 120, "dB")
    rooms: str = Field(
        "", description='Rooms around the clips: "simulated", or a folder of recorded impulse responses.'
    )
    rooms_probability: float = _number(0.5, "Probability that a clip is put into a room.", 0, 1, "a probability")
    filter_gain: float = _number(
        0.0, "Maximum gain of a random filter over frequency, in dB (FilterAugment).", 0, 60, "dB"
    )
    mixstyle: float = _number(
        0.0,
        "Probability that a clip gets a part of another one's frequency response (Freq-MixStyle).",
        0,
        1,
        "a probability",
    )
    mixstyle_alpha: float = _number(
        0.4, "Parameter of the Beta distribution of the part that it keeps.", 1e-3, 1e4, "of a Beta distribution"
    )
    # Distillation, if there is a teacher: kd_weight * loss + (1 - kd_weight) * comparison with the teacher
    teacher: str = Field(
        "",
        description='Run folder of a teacher, or a name such as "ast:NAME_OR_PATH" or "embedding:FILE.npz". It must know the '
        'same classes, or get a head for them. Several teachers have " + " between them.',
    )
    teacher_mean: TeacherMean = Field(
        "probabilities",
        description='What is averaged of several teachers: their "logits" or their "probabilities".',
    )
    teacher_weights: tuple[float, ...] | None = Field(
        None, description="Weight of each of several teachers in the mean. None weighs them equally."
    )
    teacher_input: TeacherInput = Field(
        "augmented",
        description='What the teacher gets: "augmented" for the student\'s own input at each step, or "clean" for each clip '
        "once, without augmentation. A teacher that knows clips by their files always gets clean ones.",
    )
    kd_loss: KdLoss = Field(
        "paper",
        description='Comparison with the teacher: "paper" softens only the teacher, "hinton" both, "binary" takes each class '
        'by itself, "decoupled" weighs label and other classes, "feature_mse" and "feature_cosine" compare features.',
    )
    kd_alpha: float = _number(
        1.0, 'Weight of the label\'s class. For kd_loss = "decoupled".', 0, 1e4, "a factor of a part of the loss"
    )
    kd_beta: float = _number(
        8.0, 'Weight of the other classes. For kd_loss = "decoupled".', 0, 1e4, "a factor of a part of the loss"
    )
    teacher_views: int = _number(
        0,
        "Number of augmented views of each clip. Training then repeats the batches of the first so many epochs, so that the "
        "teacher's logits can be kept (--teacher-cache). 0 draws new ones in each epoch.",
        0,
        100_000,
        "a number of epochs",
    )
    kd_weight: float = _number(
        0.5, "Weight of the loss on the labels. 1 trains only on the labels.", 0, 1, "the labels' part of the loss"
    )
    kd_weight_end: float | None = _number(
        None,
        "kd_weight at the last step, to which it changes linearly. None keeps it.",
        0,
        1,
        "the labels' part of the loss",
    )
    kd_temperature: float = _number(
        5.0, "Temperature by which the teacher's logits are divided.", 1e-3, 1e4, "a factor by which logits are divided"
    )
    kd_temperature_end: float | None = _number(
        None,
        "kd_temperature at the last step, to which it changes linearly. None keeps it.",
        1e-3,
        1e4,
        "a factor by which logits are divided",
    )

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ValueError("; ".join(map(_told, error.errors()))) from None

    @field_validator("*", mode="before")
    @classmethod
    def _as_text_has_it(cls, value: Any, info: Any) -> Any:
        """Convert values that come as text or as a path."""
        kind = cls.model_fields[info.field_name].annotation
        if kind is bool:
            value = _FLAGS.get(str(value).lower(), value)
            if not isinstance(value, bool):
                raise ValueError(f"{info.field_name} = {value!r}: expected true or false")
        elif isinstance(value, bool):  # pydantic takes it for a number
            return str(value)
        elif isinstance(value, os.PathLike):
            return os.fspath(value)
        elif info.field_name in _TUPLES and isinstance(value, str):
            return value.strip("[]() ").split(",") if value else None
        return value

    @property
    def fold_count(self) -> int:
        """The number of folds, those of the recipe or those of the data set; 0 without folds."""
        return self.folds or data_folds(self.data)

    @property
    def kept_by(self) -> str:
        """The figure of an epoch on the validation clips by which its weights are kept, a column of the history."""
        return "val_mean_ap" if self.multi_label else "val_accuracy"

    @property
    def teachers(self) -> list[str]:
        """The names of the teachers that the loss needs. Empty if only the labels count, from the first step to the last."""
        return [] if self.kd_weight == 1 and self.kd_weight_end in (None, 1) else names_of(self.teacher)

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        known = list_data()
        self._expect("data", self.data in (*known, GIVEN), f"one of {', '.join(known)} ({HINT})")
        bare = ", ".join(repr(name) for name in known if not takes(name, "root"))
        self._expect("root", bool(self.root) == takes(self.data, "root"), f"a folder for every data set but {bare}")
        tables = " or ".join(repr(name) for name in known if takes(name, "csv"))
        self._expect("csv", not self.csv or takes(self.data, "csv"), f"a CSV only with data = {tables}")
        folds = self.fold_count
        folded = " or ".join(f"1 to {data_folds(name)} with data = {name!r}" for name in known if data_folds(name))
        folded = f"1 to {self.folds}, the folds" if self.folds else folded
        self._expect("fold", 0 <= self.fold <= folds, f"{folded}, else 0")
        self._expect(
            "folds", self.folds != 1 and self.folds != 2, "3 or more: one tests, one validates, the others train"
        )
        self._expect("group", not self.group or self.folds > 0, "a number of folds with it")
        self._expect(
            "frontend",
            self.role == "student" or self.frontend == "identity",
            "'identity' with role = 'teacher': a teacher is stored as its own library's model, which has no front end",
        )
        self._expect(
            "loss",
            not self.multi_label or self.loss in BY_CLASS,
            f"{' or '.join(map(repr, BY_CLASS))} with multi_label = true, because classes do not exclude one another",
        )
        self._expect(
            "kd_loss",
            not (self.multi_label and names_of(self.teacher)) or self.kd_loss in ("binary", *FEATURES),
            "'binary' with multi_label = true, or a loss of features",
        )
        self._expect("mean", (self.mean is None) == (self.std is None), "mean and std together, or neither")
        self._expect(
            "init", not (self.init and self.pretrained), "none with pretrained = true: weights start from one of them"
        )
        self._expect("cycle_from", self.cycle_from < max(1, self.epochs), f"less than epochs = {self.epochs}")
        self._expect("snr_low", self.snr_low <= self.snr_high, f"at most snr_high = {self.snr_high}")
        self._expect("betas", all(0 <= beta < 1 for beta in self.betas or ()), "two numbers from 0 to below 1")
        names, weights = names_of(self.teacher), self.teacher_weights
        self._expect("teacher", all(names), f"a name on each side of {SEPARATOR!r}")
        self._expect("teacher_weights", all(weight > 0 for weight in weights or ()), _TUPLES["teacher_weights"])
        self._expect(
            "teacher_weights",
            weights is None or not names or len(weights) == len(names),
            f"one for each of the {len(names)} teachers",
        )
        self._expect(
            "kd_loss",
            self.kd_loss not in FEATURES or len(names) < 2,
            "a loss of logits with several teachers, such as 'paper'",
        )
        self._expect(
            "kd_temperature_end",
            self.kd_temperature_end is None or self.kd_loss not in FEATURES,
            f"none with kd_loss = {self.kd_loss!r}, which has no temperature",
        )
        return self

    def _expect(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name} = {getattr(self, name)!r}: expected {expected}")

    def replace(self, **changes: Any) -> Recipe:
        """Return a copy with some fields changed.

        Args:
            **changes: fields with their new values. ``TABLE.KEY`` changes one entry of a table such as ``frontend_args``.

        Raises:
            ValueError: for an unknown field, and for a value of the wrong type or out of its range.

        >>> Recipe().replace(**{"epochs": 3, "frontend_args.kernel_size": 9}).frontend_args
        {'kernel_size': 9}
        """
        return Recipe(**_merged(self.model_dump(), changes))

    def moved_to(self, root: Path | None = None, csv: Path | None = None) -> Recipe:
        """Return a copy for data that has moved.

        Args:
            root: the data set's new folder. None if it has not moved.
            csv: the data set's new table. None if it has not moved.

        Raises:
            FileNotFoundError: if the data does not exist.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Recipe(data="folder", root="sounds").moved_to(root=Path(folder)).root == folder
        True
        """
        places = {name: whole_place(path) for name, path in (("root", root), ("csv", csv)) if path is not None}
        moved = self.replace(**places)
        for name in ("root", "csv"):
            path = getattr(moved, name)
            if path and not is_url(path) and not os.path.exists(path):
                raise FileNotFoundError(f"{path}: not there any more; give the new place of the data by --{name}")
        return moved

    def differences(self, asked: Recipe) -> list[str]:
        """List the fields in which this recipe of a run differs from another recipe.

        Args:
            asked: the other recipe. Fields that it leaves to the data are not compared, because the run has filled them in.

        >>> Recipe(epochs=3, frames=96).differences(Recipe(epochs=5, frames=0))
        ['epochs']
        """
        left = {name for name in FITTED if not getattr(asked, name)}
        left |= {name for name in ("mean", "std", "clip_seconds") if getattr(asked, name) is None}
        names = [name for name in type(self).model_fields if name not in left]
        return [name for name in names if getattr(self, name) != getattr(asked, name)]


def _told(error: Any) -> str:
    """Write an error of pydantic as the field, the value, and what was expected."""
    kind, value = error["type"], error["input"]
    if kind == "value_error":
        return str(error["ctx"]["error"])
    name = str(error["loc"][0])
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(name, Recipe.model_fields, n=3, cutoff=0.6)
        return (
            f"unknown field {name!r}: {f'did you mean {near}? ' if near else ''}known: {', '.join(Recipe.model_fields)}"
        )
    field = Recipe.model_fields[name]
    kinds = get_args(field.annotation) or (field.annotation,)
    bounds = {key: getattr(limit, key) for limit in field.metadata for key in ("ge", "le") if hasattr(limit, key)}
    if kind == "literal_error":
        expected = " or ".join(map(repr, get_args(field.annotation)))
    elif kind in ("greater_than_equal", "less_than_equal"):
        extra: Any = field.json_schema_extra
        expected = f"a number from {bounds['ge']:g} to {bounds['le']:g} ({extra['why']})"
        value = kinds[0](value)
    elif name in _TUPLES:
        expected = _TUPLES[name]
    elif name in _TABLES:
        expected = f"a table, such as --set {name}.KEY=VALUE"
    else:
        expected = {int: "a whole number", float: "a number, and a finite one"}.get(kinds[0], "text")
    return f"{name} = {value!r}: expected {expected}"


def _merged(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return fields with changes. ``TABLE.KEY`` changes an entry of a table, and its text is read as TOML if it is valid.

    ``TABLE.KEY.KEY`` changes an entry of a table in the table.
    """
    merged = dict(fields)
    for name, value in changes.items():
        table, *keys = name.split(".")
        if not keys or table not in _TABLES:
            merged[name] = value
            continue
        if isinstance(value, str):
            with contextlib.suppress(ValueError):  # such as text without quotes
                value = parse_toml(f"value = {value}")["value"]
        merged[table] = _with_entry(merged.get(table, {}), keys, value)
    return merged


def _with_entry(table: dict[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    first, *rest = keys
    if not rest:
        return {**table, first: value}
    inner = table.get(first, {})
    return {**table, first: _with_entry(inner if isinstance(inner, dict) else {}, rest, value)}


def recipe_for(data: str, **changes: Any) -> Recipe:
    """Return the default recipe of a data set, with some fields changed.

    For ``role="teacher"`` it is the recipe of the paper, if the paper has one for the data set.

    Args:
        data: name of the data set, one of :func:`specenhance.data.list_data`.
        **changes: fields of :class:`Recipe`. Numbers may be given as text.

    Raises:
        ValueError: for an unknown data set or field, and for a value of the wrong type or out of its range.

    >>> recipe_for("synthetic", epochs=3).frames
    96
    """
    if changes.get("role") == "teacher":
        if data in PAPER:
            return paper_recipe(data, **changes)
        changes = {"frontend": "identity", **changes}
    return _recipe(data, changes)


def augmentation(name: str) -> dict[str, Any]:
    """Return the recipe fields of a named set of augmentation.

    ``"none"`` changes nothing. ``"light"`` changes the level a little and adds soft noise. ``"robust"`` is for models that are
    used on devices and in the field: other levels, noise up to above the sound's own level, rooms, and frequency responses.

    Raises:
        ValueError: for another name.

    >>> augmentation("light")["gain"]
    6.0
    """
    if name not in AUGMENTATIONS:
        raise ValueError(f"augment = {name!r}: expected one of {', '.join(AUGMENTATIONS)}")
    return dict(AUGMENTATIONS[name])


def paper_recipe(data: str, **changes: Any) -> Recipe:
    """Return the paper's recipe of a data set of :data:`PAPER`, with some fields changed.

    Args:
        data: name of the data set, one of :data:`PAPER`.
        **changes: fields of :class:`Recipe`. ``role="teacher"`` returns the recipe of the teacher.

    Raises:
        ValueError: as :func:`recipe_for`.

    Source: Xing et al., Table I. The recipes are files in ``specenhance/training/recipes``.

    >>> paper_recipe("esc50", root="ESC-50-master").frames
    512
    """
    end = "_teacher" if changes.get("role") == "teacher" else ""
    return load_recipe(Path(__file__).with_name("recipes") / f"{data}{end}.toml", **changes)


def load_recipe(path: str | os.PathLike[str], **changes: Any) -> Recipe:
    """Read a recipe from a TOML file. A field that the file leaves out has the default of the data set.

    A relative path in the file is relative to the file's folder, see :func:`in_place`.

    Args:
        path: the file.
        **changes: fields with other values than in the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for malformed TOML, and as :func:`recipe_for`. The message starts with the path.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "recipe.toml"
    ...     _ = path.write_text('data = "synthetic"\\nfrontend = "tfe2"')
    ...     load_recipe(path, epochs=3).frontend
    'tfe2'
    """
    try:
        found = read_toml(path, "recipe; expected a TOML file of recipe fields, such as a run's recipe.toml")
        folder = Path(path).absolute().parent
        found = in_place(found, folder)
        fields = _merged(found, changes)
        data = fields.pop("data", None)
        if not isinstance(data, str):
            raise ValueError(f'expected a line such as data = "esc50", one of {", ".join(list_data())}')
        return _recipe(data, fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def in_place(fields: dict[str, Any], folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Make the paths of recipe fields whole: ``root`` and ``csv``, and what else names a file or folder that exists.

    That is each ``teacher``, ``background``, ``rooms`` or ``init``, and a backbone with a prefix, such as ``local-dir:FOLDER``.

    Args:
        fields: Fields of a recipe. Other fields stay as they are.
        folder: What a relative path is relative to.

    >>> in_place({"root": "sounds", "backbone": "resnet18"}, "/data")
    {'root': '/data/sounds', 'backbone': 'resnet18'}
    """
    found = dict(fields)
    for name in ("root", "csv", "teacher", "background", "rooms", "backbone", "init"):
        value = found.get(name)
        if not isinstance(value, str) or not value:
            continue
        if name in ("root", "csv"):
            found[name] = whole_place(value, folder)
        elif name == "teacher":
            found[name] = SEPARATOR.join(placed(part, folder) for part in names_of(value))
        elif name != "backbone" or ":" in value:
            found[name] = placed(value, folder)
    return found


def _dumps(fields: dict[str, Any]) -> str:
    try:
        import tomli_w  # imported here, because loading a model does not need it
    except ImportError as error:
        raise missing(error, "writing recipes needs tomli-w", "tomli-w") from error
    return tomli_w.dumps(fields)


def _recipe(data: str, fields: dict[str, Any]) -> Recipe:
    # The recipe of a run has every field: to read it, nobody needs the data, which may be far away.
    root = "" if fields.keys() >= {"frames", "loss", "multi_label"} else str(fields.get("root", ""))
    defaults = recipe_defaults(data, root) if data in (*list_data(), GIVEN) else {}
    if str(fields.get("multi_label", defaults.get("multi_label", ""))).lower() == "true":
        defaults = MULTI_LABEL | defaults
    return Recipe(data=data, **_merged(defaults, fields))


def save_recipe(recipe: Recipe, path: str | os.PathLike[str]) -> None:
    """Write a recipe to a TOML file, whole or not at all.

    Fields that are None are left out. Folders and the table become absolute paths.

    Args:
        recipe: the recipe.
        path: the file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_recipe(Recipe(epochs=3), f"{folder}/recipe.toml")
    ...     load_recipe(f"{folder}/recipe.toml") == Recipe(epochs=3)
    True
    """
    fields = {name: value for name, value in recipe.model_dump(mode="json").items() if value not in (None, {})}
    fields = dict(sorted(fields.items(), key=lambda item: isinstance(item[1], dict)))  # TOML has tables last
    places = ("root", "csv", *(name for name, made in MADE.items() if fields[name] not in made))
    fields |= {name: whole_place(fields[name]) for name in places if fields[name]}
    write_text(path, _dumps(fields))


def explain(recipe: Recipe) -> str:
    """Return a recipe as TOML with a description of every field. :func:`load_recipe` reads it.

    Args:
        recipe: the recipe.

    >>> print(explain(Recipe()).splitlines()[0])
    role = "student"  # What the model is for: ...
    """
    lines, tables = [], []
    for name, field in Recipe.model_fields.items():
        value = getattr(recipe, name)
        if name in _TABLES:
            entries = _dumps({name: value}).strip() if value else f"# [{name}]"
            tables.append(f"{entries}  # {field.description}" if not value else f"# {field.description}\n{entries}")
        elif value is None:
            lines.append(f"# {name} = ...  # {field.description}")
        else:
            text = _dumps({name: recipe.model_dump(mode="json")[name]})
            lines.append(
                f"{' '.join(text.split()) if isinstance(value, tuple) else text.strip()}  # {field.description}"
            )
    return "\n".join([*lines, *tables]) + "\n"
