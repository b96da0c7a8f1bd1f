"""How much a mask changes: from clip to clip, over time, over frequency. One that is constant does the same to every sound."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from specenhance._names import shown
from specenhance.data import AudioDataset, Batch, collate
from specenhance.models.adapter import FrontendModel

__all__ = ["CONSTANT", "TO_TRY", "MaskChange", "constant_mask", "flat_mask", "mask_change", "real_frames"]

CONSTANT = 0.01
"""What changes by less than this part of its mean is called constant: by less than any augmentation changes a spectrogram."""

TO_TRY = (
    "a shorter chain (tfe1), another seed, or the backbone alone (identity): a constant mask has not been seen to help"
)
"""What to do about a constant mask."""


class MaskChange(NamedTuple):
    """How much a mask's factors change, as standard deviations in parts of the factor's mean.

    Attributes:
        clips: of a frame or a bin, between clips: of the two factors the one that changes more; NaN for one clip.
        time: of the factor over time, along it.
        frequency: of the factor over frequency, along it.
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
    """Measure how much a mask changes; of several channels the one that changes most counts.

    With s_i the standard deviation of a factor over clips at place i and m the factor's mean over clips and places, ``clips``
    is sqrt(mean of s_i^2) / m; along time or frequency, s is each clip's own standard deviation over its places.

    Args:
        e_t: the factor over time of each of N clips ``(N, C, T)``.
        e_f: the factor over frequency ``(N, C, F)``.
        real: 1 for a frame that is sound, 0 for one that is padding, ``(N, T)``; None if all are sound.

    Source: the factors of eq. (1) of Xing et al.
    """
    e_t, e_f = e_t.double(), e_f.double()
    weight = torch.ones_like(e_t[:, 0]) if real is None else real.to(e_t)
    (over_clips_t, along_t), (over_clips_f, along_f) = _changes(e_t, weight), _changes(e_f, torch.ones_like(e_f[:, 0]))
    clips = max(over_clips_t, over_clips_f) if len(e_t) > 1 else float("nan")
    return MaskChange(clips, along_t, along_f)


def _changes(factor: Tensor, weight: Tensor) -> tuple[float, float]:
    """Give the change of a factor ``(N, C, L)`` over clips and along its places, which have weights ``(N, L)``."""
    weight = weight[:, None].expand_as(factor)
    mean = (factor * weight).sum((0, 2)) / weight.sum((0, 2))
    found = []
    for dim in (0, 2):
        own = (factor * weight).sum(dim, keepdim=True) / weight.sum(dim, keepdim=True).clamp(min=1)
        variance = ((factor - own).square() * weight).sum((0, 2)) / weight.sum((0, 2))
        found.append((variance.sqrt() / mean).max().item())
    return found[0], found[1]


def real_frames(model: FrontendModel, batch: Batch) -> Tensor:
    """Say which frames of each clip are sound and not padding: ``(B, T)``, 1 or 0."""
    features = model.features
    counts = torch.tensor([features.num_frames(length) for length in batch.length.tolist()])
    return (torch.arange(features.frames) < counts[:, None]).double()


def constant_mask(model: FrontendModel, name: str, data: AudioDataset, clips: int = 100) -> str | None:
    """Give a line that warns of a mask that is the same for every clip, or None: for any other, and for a model without one.

    Args:
        model: from waveforms to logits.
        name: what the line calls the front end.
        data: a data set; so many of its clips are looked at, evenly spread.
        clips: how many.
    """
    chosen = range(0, len(data), -(-len(data) // clips) or 1)
    change = _change(model, [data[i] for i in chosen])
    if change is None or not change.constant:
        return None
    return (
        f"warning: the mask of {shown(name)} is constant: from clip to clip its factors change by {change.clips:.2%} of their "
        f"mean (below {CONSTANT:.0%} counts as constant), so it does the same to every sound. Try {TO_TRY}"
    )


def flat_mask(model: FrontendModel, name: str, waveform: Tensor) -> str | None:
    """Give a line that warns of a mask that is one number all over a waveform ``(samples,)``; or None."""
    change = _change(model, [(waveform, 0)])
    if change is None or not change.flat:
        return None
    return (
        f"warning: the mask of {shown(name)} is flat on this sound: over time it changes by {change.time:.2%} of its mean, "
        f"over frequency by {change.frequency:.2%} (below {CONSTANT:.0%} counts as flat), so it weighs all alike. "
        f"Try {TO_TRY}"
    )


@torch.no_grad()
def _change(model: FrontendModel, sounds: list[tuple[Tensor, int]]) -> MaskChange | None:
    if not hasattr(model.frontend, "factors") or not sounds:
        return None
    device = next(model.parameters()).device
    found = []
    for start in range(0, len(sounds), 16):
        batch = collate(sounds[start : start + 16])
        spec = model.eval().spectrogram(batch.waveform.to(device), batch.length)
        found.append((*(factor.cpu() for factor in model.frontend.factors(spec)), real_frames(model, batch)))
    return mask_change(*(torch.cat(parts) for parts in zip(*found, strict=True)))
