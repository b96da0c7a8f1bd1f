"""A trained model used on sounds: predictions, embeddings, enhanced spectrograms. PyTorch only, no Lightning.

A *sound* is a waveform ``(samples,)``, as a tensor or array of any type that sound is kept in, or the path of a sound file.
Every function takes one sound, or a list of sounds of any lengths, which it computes in batches.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from specenhance._choices import Device
from specenhance.audio import read_blocks
from specenhance.audio.windows import classify, likeliest
from specenhance.frontends.base import apply_frontend
from specenhance.models.adapter import FrontendModel
from specenhance.models.sounds import Sound, computed, embed, pooling, require_features
from specenhance.models.sounds import waveform as waveform_of_sound

__all__ = [
    "Embedding",
    "Listening",
    "Sound",
    "as_batch",
    "chosen_device",
    "embed",
    "enhance",
    "predict",
    "predict_proba",
]


def predict(
    model: FrontendModel, sounds: Sound | Sequence[Sound], top: int = 1
) -> list[tuple[int, float]] | list[list[tuple[int, float]]]:
    """Give the likeliest classes of a sound: pairs of label and probability, the likeliest first.

    Args:
        model: from waveforms to logits. ``model.classes[label]`` is a label's name, where the model knows its classes.
        sounds: a sound, or a list of sounds, for which the result is a list of such lists.
        top: how many classes.

    Raises:
        TypeError, ValueError, OSError: as :func:`predict_proba`.

    >>> import timm, torch, specenhance
    >>> backbone = timm.create_model("test_resnet", in_chans=1, num_classes=3)
    >>> model = specenhance.with_frontend(backbone, "tfe1", features=specenhance.KaldiFbank(frames=96))
    >>> [(label, probability)] = predict(model, torch.zeros(16000))
    >>> label in (0, 1, 2), 0 <= probability <= 1
    (True, True)
    """
    probabilities = predict_proba(model, sounds).numpy()
    if probabilities.ndim == 1:
        return likeliest(probabilities, top)
    return [likeliest(row, top) for row in probabilities]


def predict_proba(model: FrontendModel, sounds: Sound | Sequence[Sound], batch_size: int = 32) -> Tensor:
    """Give the probability of each class, ``(classes,)`` for a sound, ``(sounds, classes)`` for a list.

    A waveform is classified by as much of its start as the model looks at. A file that is longer is classified in windows, as
    :func:`specenhance.audio.windows.classify` does, in constant memory.

    Args:
        model: from waveforms to logits.
        sounds: a sound, or a list of sounds.
        batch_size: sounds that are computed together.

    Raises:
        TypeError, ValueError: for a model that takes spectrograms; for a waveform, as
            :func:`specenhance.audio.samples.waveform_of`.
        FileNotFoundError, AudioError: for a file that cannot be read.
    """
    require_features(model)
    if not isinstance(sounds, Sequence) or isinstance(sounds, str):
        return predict_proba(model, [sounds], batch_size)[0]
    found: list[Tensor | None] = [None] * len(sounds)
    longest = model.features.samples
    for i, sound in enumerate(sounds):
        if isinstance(sound, (str, os.PathLike)) and longest is not None:
            blocks = read_blocks(sound, model.features.sample_rate)
            found[i] = torch.from_numpy(classify(Listening(model), blocks, longest, longest).probabilities).float()
    others = [i for i, probabilities in enumerate(found) if probabilities is None]
    for i, logits in zip(others, computed(model, [sounds[i] for i in others], batch_size, model.classify), strict=True):
        found[i] = model.probabilities(logits)
    return torch.stack([probabilities for probabilities in found if probabilities is not None])


def enhance(model: FrontendModel, sounds: Sound | Sequence[Sound], batch_size: int = 32) -> Tensor:
    """Give the enhanced spectrogram, ``(C, T, F)`` for a sound, ``(sounds, C, T, F)`` for a list.

    Raises as :func:`predict_proba`.
    """
    require_features(model)
    if not isinstance(sounds, Sequence) or isinstance(sounds, str):
        return enhance(model, [sounds], batch_size)[0]
    return torch.stack(list(computed(model, sounds, batch_size, partial(apply_frontend, model.frontend))))


def as_batch(model: FrontendModel, waveform: Tensor | np.ndarray) -> Tensor:
    """Put one waveform ``(samples,)``, of any type that sound is kept in, on the model's device as a batch of one.

    Raises:
        TypeError, ValueError: as :func:`specenhance.audio.samples.waveform_of`.
    """
    return waveform_of_sound(model, waveform).to(next(model.parameters()).device)[None]


class Listening:
    """A model as :func:`specenhance.audio.windows.classify` and :func:`specenhance.audio.listen.listen` ask for it.

    It has the same attributes as :class:`specenhance.deploy.runtime.OnnxModel`.

    Args:
        model: from waveforms ``(B, samples)`` to logits. It is set to evaluation mode.
        clip_seconds: usual length of a training clip, in seconds. The default is all that the model looks at.

    Attributes:
        classes: names of the classes, in order. None if the model does not know them.
        thresholds: probability from which on each class of a multi-label model counts as found. None if it is not multi-label.
        sample_rate: sample rate of the waveforms, in Hz.
        samples: number of samples that the model looks at together.
        clip_samples: number of samples of a usual training clip, at most ``samples``: the window for a longer sound.

    >>> import timm, specenhance
    >>> backbone = timm.create_model("test_resnet", in_chans=1, num_classes=3)
    >>> model = specenhance.with_frontend(backbone, "tfe1", features=specenhance.KaldiFbank(frames=98))
    >>> listening = Listening(model, clip_seconds=0.5)
    >>> listening.samples, listening.clip_samples
    (15920, 8000)
    >>> listening.probabilities(np.zeros(8000, "float32")).shape
    (3,)
    """

    def __init__(self, model: FrontendModel, clip_seconds: float | None = None) -> None:
        require_features(model)
        self.model = model.eval()
        self.classes, self.thresholds = model.classes, model.thresholds
        self.sample_rate: int = model.features.sample_rate
        self.samples: int = model.features.samples
        usual = self.samples if clip_seconds is None else round(clip_seconds * self.sample_rate)
        self.clip_samples = min(max(1, usual), self.samples)

    @torch.no_grad()
    def probabilities(self, waveform: np.ndarray) -> np.ndarray:
        """Give the probability of each class, ``(classes,)``, of one waveform ``(samples,)``."""
        return self.model.probabilities(self.model(as_batch(self.model, waveform)))[0].cpu().numpy()

    @torch.no_grad()
    def batch_probabilities(self, batch: np.ndarray) -> np.ndarray:
        """Give the probabilities ``(B, classes)`` of several waveforms of one length, float32 ``(B, samples)``."""
        waveforms = torch.from_numpy(batch).to(next(self.model.parameters()).device)
        return self.model.probabilities(self.model(waveforms)).cpu().numpy()


class Embedding(Listening):
    """A model as :class:`Listening`, whose rows are the backbone's pooled features.

    Args:
        model: from waveforms ``(B, samples)`` to logits, with one of timm's backbones. It is set to evaluation mode.
        clip_seconds: as for :class:`Listening`.

    >>> import timm, specenhance
    >>> backbone = timm.create_model("test_resnet", in_chans=1, num_classes=3)
    >>> model = specenhance.with_frontend(backbone, "tfe1", features=specenhance.KaldiFbank(frames=98))
    >>> Embedding(model).batch_embeddings(np.zeros((2, 8000), "float32")).shape
    (2, 96)
    """

    def __init__(self, model: FrontendModel, clip_seconds: float | None = None) -> None:
        super().__init__(model, clip_seconds)
        self._pooled = pooling(model)

    @torch.no_grad()
    def batch_embeddings(self, batch: np.ndarray) -> np.ndarray:
        """Give the pooled features ``(B, num_features)`` of several waveforms of one length, float32 ``(B, samples)``."""
        waveforms = torch.from_numpy(batch).to(next(self.model.parameters()).device)
        spec, real = self.model.spectrogram(waveforms), self.model.real_frames(waveforms)
        return self._pooled(spec, real).float().cpu().numpy()


def chosen_device(device: Device) -> str:
    """Give PyTorch's name of the device that a choice means: with ``"auto"`` a GPU (CUDA, else Apple's) if there is one.

    Any other choice is its own name. Whether this machine has it is not asked.

    >>> chosen_device("cpu"), chosen_device("auto") in ("cuda", "mps", "cpu")
    ('cpu', True)
    """
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
