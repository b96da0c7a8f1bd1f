"""Sounds of any kind, in batches, through the parts of a model: what prediction, embedding and enhancement share.

A *sound* is a waveform ``(samples,)``, as a tensor or array of any type that sound is kept in, or the path of a sound file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from specenhance.audio import read_excerpt, read_samples
from specenhance.audio.samples import waveform_of
from specenhance.frontends.base import apply_frontend, out_channels

if TYPE_CHECKING:
    from specenhance.models.adapter import FrontendModel

__all__ = ["Sound", "computed", "embed", "pooling", "require_features", "waveform"]

Sound: TypeAlias = Tensor | np.ndarray | str | os.PathLike[str]
"""A waveform, or the path of a sound file."""


def embed(model: FrontendModel, sounds: Sound | Sequence[Sound], batch_size: int = 32) -> Tensor:
    """Give the backbone's pooled features, ``(num_features,)`` for a sound, ``(sounds, num_features)`` for a list.

    Args:
        model: from waveforms to logits, with one of timm's backbones.
        sounds: a sound, or a list of sounds; of each as much of the start as the model looks at.
        batch_size: sounds that are computed together.

    Raises:
        TypeError, ValueError, FileNotFoundError, AudioError: as :func:`specenhance.inference.predict_proba`.

    >>> import timm, specenhance
    >>> backbone = timm.create_model("test_resnet", in_chans=1, num_classes=3)
    >>> model = specenhance.with_frontend(backbone, "tfe1", features=specenhance.KaldiFbank(frames=98))
    >>> embed(model, [np.zeros(16000), np.ones(8000)]).shape
    torch.Size([2, 96])
    """
    require_features(model)
    if not isinstance(sounds, Sequence) or isinstance(sounds, str):
        return embed(model, [sounds], batch_size)[0]
    return torch.stack(list(computed(model, sounds, batch_size, pooling(model))))


def pooling(model: FrontendModel) -> Callable[[Tensor, Tensor | None], Tensor]:
    """Give a function from a spectrogram and its real frames to the backbone's pooled features ``(B, num_features)``.

    Args:
        model: with one of timm's backbones. It is set to evaluation mode.

    >>> import timm, specenhance
    >>> model = specenhance.with_frontend(timm.create_model("test_resnet", in_chans=1, num_classes=3), "tfe1")
    >>> pooling(model)(torch.zeros(2, 1, 96, 64), None).shape
    torch.Size([2, 96])
    """
    from specenhance.models.adapter import with_frontend

    # The same model from the enhanced spectrogram on.
    rest = with_frontend(
        model.backbone, "identity", in_chans=out_channels(model.frontend, 1), layout=model.layout, fit=model.fit
    )
    rest.eval()
    model.eval()

    def pooled(spec: Tensor, real: Tensor | None) -> Tensor:
        enhanced = apply_frontend(model.frontend, spec, real)
        return rest.forward_head(rest.forward_features(enhanced), pre_logits=True)

    return pooled


def waveform(model: FrontendModel, sound: Sound) -> Tensor:
    """Give the waveform ``(samples,)`` of a sound: of a file as much of the start as the model looks at.

    Raises:
        TypeError, ValueError, FileNotFoundError, AudioError: as :func:`specenhance.inference.predict_proba`.
    """
    if isinstance(sound, (str, os.PathLike)):
        longest = model.features.samples
        rate = model.features.sample_rate
        read = read_samples(sound, rate) if longest is None else read_excerpt(sound, rate, longest / rate)
        return torch.from_numpy(read)
    if isinstance(sound, Tensor):  # NumPy knows no bfloat16
        sound = (sound.float() if sound.is_floating_point() else sound).detach().cpu().numpy()
    return torch.tensor(waveform_of(sound))


@torch.no_grad()
def computed(
    model: FrontendModel, sounds: Sequence[Sound], batch_size: int, compute: Callable[[Tensor, Tensor | None], Tensor]
) -> Iterator[Tensor]:
    """Give what ``compute`` makes of the spectrogram of each sound and its real frames, on the CPU."""
    if batch_size < 1:
        raise ValueError(f"batch_size = {batch_size}: expected 1 or more")
    model.eval()
    device = next(model.parameters()).device
    for start in range(0, len(sounds), batch_size):
        waveforms = [waveform(model, sound) for sound in sounds[start : start + batch_size]]
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        batch = pad_sequence(waveforms, batch_first=True).to(device)
        lengths = lengths.to(device)
        yield from compute(model.spectrogram(batch, lengths), model.real_frames(batch, lengths)).cpu()


def require_features(model: FrontendModel) -> None:
    """Refuse a model that takes spectrograms.

    Raises:
        ValueError: for a model without features.
    """
    if getattr(model, "features", None) is None:
        raise ValueError("the model takes spectrograms; for sounds give it features, with_frontend(..., features=...)")
