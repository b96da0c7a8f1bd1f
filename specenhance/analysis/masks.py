"""Measure how much a mask changes from clip to clip, over time and over frequency. Warn of a mask that does not change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from specenhance._names import shown
from specenhance.data import AudioDataset, Batch, collate
from specenhance.frontends.base import factors_of
from specenhance.models.adapter import FrontendModel

__all__ = ["CONSTANT", "TO_TRY", "MaskChange", "constant_mask", "flat_mask", "mask_change", "real_frames"]

CONSTANT = 0.01
"""A mask that changes by less than this part of its mean is called constant. Any augmentation changes a spectrogram by more."""

TO_TRY = (
    "standardised means (tfe4s), a shorter chain (tfe1), or only the backbone (identity): a constant mask has not been seen to "
    "help"
)
"""What to do about a constant mask."""


class MaskChange(NamedTuple):
    """How much a mask's factors change: standard deviations, divided by the factor's mean.

    Attributes:
        clips: change between clips at one frame or one bin, of the factor that changes more; NaN for a single clip.
        time: change of the factor over time, along time.
        frequency: change of the factor over frequency, along frequency.

    >>> MaskChange(clips=0.002, time=0.3, frequency=0.1).constant
    True
    """

    clips: float
    time: float
    frequency: float

    @property
    def constant(self) -> bool:
        """Whether the mask is the same for every clip."""
        return self.clips < CONSTANT

    @property
    def flat(self) -> bool:
        """Whether the mask is the same number at all times and frequencies."""
        return max(self.time, self.frequency) < CONSTANT


def mask_change(e_t: Tensor, e_f: Tensor, real: Tensor | None = None) -> MaskChange:
    """Measure how much a mask changes. Of several channels, the maximum is given.

    Let s_i be the standard deviation of a factor over clips at place i, a frame or a bin. Let m be the factor's mean over clips
    and places. Then ``clips`` is sqrt(mean of s_i^2) / m. Along time or frequency, each clip has an s: its standard deviation
    over places.

    Args:
        e_t: factor over time of each of N clips ``(N, C, T)``.
        e_f: factor over frequency of each clip ``(N, C, F)``.
        real: 1 for a frame of sound, 0 for a frame of padding ``(N, T)``; None if all frames are sound.

    Source: the factors of eq. (1) of Xing et al.

    >>> mask_change(torch.tensor([[[0.25]], [[0.75]]]), torch.ones(2, 1, 3))
    MaskChange(clips=0.5, time=0.0, frequency=0.0)
    """
    e_t, e_f = e_t.double(), e_f.double()
    weight = torch.ones_like(e_t[:, 0]) if real is None else real.to(e_t)
    (over_clips_t, along_t), (over_clips_f, along_f) = _changes(e_t, weight), _changes(e_f, torch.ones_like(e_f[:, 0]))
    clips = max(over_clips_t, over_clips_f) if len(e_t) > 1 else float("nan")
    return MaskChange(clips, along_t, along_f)


def _changes(factor: Tensor, weight: Tensor) -> tuple[float, float]:
    """Give the change of a factor ``(N, C, L)`` over clips and along its places. The places have weights ``(N, L)``."""
    weight = weight[:, None].expand_as(factor)
    mean = (factor * weight).sum((0, 2)) / weight.sum((0, 2))
    found = []
    for dim in (0, 2):
        own = (factor * weight).sum(dim, keepdim=True) / weight.sum(dim, keepdim=True).clamp(min=1)
        variance = ((factor - own).square() * weight).sum((0, 2)) / weight.sum((0, 2))
        found.append((variance.sqrt() / mean).max().item())
    return found[0], found[1]


def real_frames(model: FrontendModel, batch: Batch) -> Tensor:
    """Mark each frame of the clips, ``(B, T)``: 1 for sound, 0 for padding.

    Args:
        model: a model with features of a fixed number of frames.
        batch: the clips.

    >>> from specenhance import KaldiFbank, with_frontend
    >>> import timm
    >>> backbone = timm.create_model("test_resnet", in_chans=1)
    >>> model = with_frontend(backbone, "tfe1", features=KaldiFbank(frames=5))
    >>> real_frames(model, collate([(torch.zeros(800), 0)])).tolist()
    [[1.0, 1.0, 1.0, 0.0, 0.0]]
    """
    return model.features.real_frames(batch.waveform, batch.length).double()


def constant_mask(model: FrontendModel, name: str, data: AudioDataset, clips: int = 100) -> str | None:
    """Give a warning, in one line, if the mask is the same for every clip.

    Args:
        model: from waveforms to logits.
        name: name of the front end in the line.
        data: a data set.
        clips: maximum number of clips that are used. They are evenly spread over the data set.

    Returns:
        The line. None for a mask that changes, and for a model without a mask.

    >>> from specenhance import KaldiFbank, with_frontend
    >>> from specenhance.data import SyntheticSounds
    >>> import timm
    >>> backbone = timm.create_model("test_resnet", in_chans=1)
    >>> model = with_frontend(backbone, "identity", features=KaldiFbank(frames=5))
    >>> constant_mask(model, "identity", SyntheticSounds("test"), clips=2) is None
    True
    """
    chosen = range(0, len(data), -(-len(data) // clips) or 1)
    change = _change(model, [data[i] for i in chosen])
    if change is None or not change.constant:
        return None
    return (
        f"warning: the mask of {shown(name)} is constant: from clip to clip its factors change by {change.clips:.2%} of their "
        f"mean (below {CONSTANT:.0%} counts as constant), so it does the same to every sound. Try {TO_TRY}. "
        "A file for devices need not compute it: specenhance export --fixed-mask"
    )


def flat_mask(model: FrontendModel, name: str, waveform: Tensor) -> str | None:
    """Give a warning, in one line, if the mask is one number at all times and frequencies of a sound.

    Args:
        model: from waveforms to logits.
        name: name of the front end in the line.
        waveform: the sound ``(samples,)``.

    Returns:
        The line. None for a mask that changes, and for a model without a mask.

    >>> from specenhance import KaldiFbank, with_frontend
    >>> import timm
    >>> backbone = timm.create_model("test_resnet", in_chans=1)
    >>> model = with_frontend(backbone, "identity", features=KaldiFbank(frames=5))
    >>> flat_mask(model, "identity", torch.zeros(800)) is None
    True
    """
    change = _change(model, [(waveform, 0)])
    if change is None or not change.flat:
        return None
    return (
        f"warning: the mask of {shown(name)} is flat on this sound: over time it changes by {change.time:.2%} of its mean, "
        f"over frequency by {change.frequency:.2%} (below {CONSTANT:.0%} counts as flat), so it weighs all alike. "
        f"Try {TO_TRY}"
    )


@torch.no_grad()
def _change(model: FrontendModel, sounds: Sequence[tuple[Tensor, int | Tensor]]) -> MaskChange | None:
    if not hasattr(model.frontend, "factors") or not sounds:
        return None
    device = next(model.parameters()).device
    found = []
    for start in range(0, len(sounds), 16):
        batch = collate(sounds[start : start + 16])
        waveform = batch.waveform.to(device)
        spec = model.eval().spectrogram(waveform, batch.length)
        factors = factors_of(model.frontend, spec, model.real_frames(waveform, batch.length))
        assert factors is not None
        found.append((*(factor.cpu() for factor in factors), real_frames(model, batch)))
    return mask_change(*(torch.cat(parts) for parts in zip(*found, strict=True)))
