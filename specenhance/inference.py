"""A trained model used on sounds: predictions, embeddings, enhanced spectrograms. PyTorch only, no Lightning.

A *sound* is a waveform ``(samples,)``, as a tensor or array of any type that sound is kept in, or the path of a sound file.
Every function takes one sound, or a list of sounds of any lengths, which it computes in batches.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from specenhance._choices import Device
from specenhance.audio import read_blocks
from specenhance.audio.samples import waveform_of
from specenhance.audio.windows import classify, likeliest
from specenhance.data import read_audio
from specenhance.frontends.base import apply_frontend, out_channels
from specenhance.models.adapter import FrontendModel, with_frontend

__all__ = ["Listening", "Sound", "as_batch", "chosen_device", "embed", "enhance", "predict", "predict_proba"]

Sound: TypeAlias = Tensor | np.ndarray | str | os.PathLike[str]


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
    _require_features(model)
    if not isinstance(sounds, Sequence) or isinstance(sounds, str):
        return predict_proba(model, [sounds], batch_size)[0]
    found: list[Tensor | None] = [None] * len(sounds)
    longest = model.features.samples
    for i, sound in enumerate(sounds):
        if isinstance(sound, (str, os.PathLike)) and longest is not None:
            blocks = read_blocks(sound, model.features.sample_rate)
            found[i] = torch.from_numpy(classify(Listening(model), blocks, longest, longest).probabilities).float()
    others = [i for i, probabilities in enumerate(found) if probabilities is None]
    for i, logits in zip(
        others, _computed(model, [sounds[i] for i in others], batch_size, model.classify), strict=True
    ):
        found[i] = model.probabilities(logits)
    return torch.stack([probabilities for probabilities in found if probabilities is not None])


def embed(model: FrontendModel, sounds: Sound | Sequence[Sound], batch_size: int = 32) -> Tensor:
    """Give the backbone's pooled features, ``(num_features,)`` for a sound, ``(sounds, num_features)`` for a list.

    Args:
        model: from waveforms to logits, with one of timm's backbones.
        sounds: a sound, or a list of sounds; of each as much of the start as the model looks at.
        batch_size: sounds that are computed together.

    Raises:
        TypeError, ValueError, FileNotFoundError, AudioError: as :func:`predict_proba`.
    """
    _require_features(model)
    if not isinstance(sounds, Sequence) or isinstance(sounds, str):
        return embed(model, [sounds], batch_size)[0]

    # The same model from the enhanced spectrogram on.
    rest = with_frontend(
        model.backbone, "identity", in_chans=out_channels(model.frontend, 1), layout=model.layout, fit=model.fit
    )
    rest.eval()

    def pooled(spec: Tensor, real: Tensor | None) -> Tensor:
        enhanced = apply_frontend(model.frontend, spec, real)
        return rest.forward_head(rest.forward_features(enhanced), pre_logits=True)

    return torch.stack(list(_computed(model, sounds, batch_size, pooled)))


def enhance(model: FrontendModel, sounds: Sound | Sequence[Sound], batch_size: int = 32) -> Tensor:
    """Give the enhanced spectrogram, ``(C, T, F)`` for a sound, ``(sounds, C, T, F)`` for a list.

    Raises as :func:`predict_proba`.
    """
    _require_features(model)
    if not isinstance(sounds, Sequence) or isinstance(sounds, str):
        return enhance(model, [sounds], batch_size)[0]
    return torch.stack(list(_computed(model, sounds, batch_size, partial(apply_frontend, model.frontend))))


def as_batch(model: FrontendModel, waveform: Tensor | np.ndarray) -> Tensor:
    """Put one waveform ``(samples,)``, of any type that sound is kept in, on the model's device as a batch of one.

    Raises:
        TypeError, ValueError: as :func:`specenhance.audio.samples.waveform_of`.
    """
    return _waveform(model, waveform).to(next(model.parameters()).device)[None]


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
        _require_features(model)
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


def chosen_device(device: Device) -> str:
    """Give PyTorch's name of the device that a choice means: with ``"auto"`` a GPU (CUDA, else Apple's) if there is one.

    Any other choice is its own name. Whether this machine has it is not asked.

    >>> chosen_device("cpu"), chosen_device("auto") in ("cuda", "mps", "cpu")
    ('cpu', True)
    """
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def _waveform(model: FrontendModel, sound: Sound) -> Tensor:
    if isinstance(sound, (str, os.PathLike)):
        longest = model.features.samples
        rate = model.features.sample_rate
        return read_audio(Path(sound), rate, seconds=None if longest is None else longest / rate)
    if isinstance(sound, Tensor):  # NumPy knows no bfloat16
        sound = (sound.float() if sound.is_floating_point() else sound).detach().cpu().numpy()
    return torch.tensor(waveform_of(sound))


@torch.no_grad()
def _computed(
    model: FrontendModel, sounds: Sequence[Sound], batch_size: int, compute: Callable[[Tensor, Tensor | None], Tensor]
) -> Iterator[Tensor]:
    """Give what ``compute`` makes of the spectrogram of each sound and its real frames, on the CPU."""
    if batch_size < 1:
        raise ValueError(f"batch_size = {batch_size}: expected 1 or more")
    model.eval()
    device = next(model.parameters()).device
    for start in range(0, len(sounds), batch_size):
        waveforms = [_waveform(model, sound) for sound in sounds[start : start + batch_size]]
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        batch = pad_sequence(waveforms, batch_first=True).to(device)
        lengths = lengths.to(device)
        yield from compute(model.spectrogram(batch, lengths), model.real_frames(batch, lengths)).cpu()


def _require_features(model: FrontendModel) -> None:
    if getattr(model, "features", None) is None:
        raise ValueError("the model takes spectrograms; for sounds give it features, with_frontend(..., features=...)")
