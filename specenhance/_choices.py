"""The choices that the library checks and the command line offers, each written once. They load no other library."""

from __future__ import annotations

from typing import Any, Literal, get_args

__all__ = [
    "Augment",
    "Device",
    "FeaturesOn",
    "Input",
    "KdLoss",
    "PaperData",
    "Role",
    "Scale",
    "Split",
    "TeacherInput",
    "TeacherMean",
    "require",
]

Device = Literal["auto", "cpu", "cuda", "mps"]
"""Where to compute."""

Role = Literal["student", "teacher"]
"""What a run's model is for."""

TeacherInput = Literal["augmented", "clean"]
"""What a teacher gets: the student's own augmented input at each step, or each clean clip once."""

TeacherMean = Literal["logits", "probabilities"]
"""What is averaged of several teachers: their logits, or their probabilities."""

KdLoss = Literal["paper", "hinton", "binary", "decoupled", "feature_mse", "feature_cosine"]
"""How a student is compared with its teacher: by their logits, or by the features before their last layers."""

FeaturesOn = Literal["device", "worker"]
"""Where spectrograms are made: by the model on its device, or in the processes that read clips."""

Augment = Literal["none", "light", "robust"]
"""A named set of augmentation."""

Split = Literal["train", "validation", "test"]
"""A part of a data set."""

PaperData = Literal["esc50", "speech_commands"]
"""A data set of the paper."""

Scale = Literal["paper", "small"]
"""How large the models of a table are, and how long their runs."""

Input = Literal["waveform", "spectrogram"]
"""What an exported model takes."""


def require(name: str, value: object, choice: Any) -> None:
    """Refuse a value that is not one of a choice.

    Args:
        name: what the value is, for the message.
        value: the value.
        choice: a ``Literal`` type.

    Raises:
        ValueError: with the name, the value and what was expected.
    """
    known = get_args(choice)
    if value not in known:
        raise ValueError(f"{name} = {value!r}: expected one of {', '.join(map(str, known))}")
