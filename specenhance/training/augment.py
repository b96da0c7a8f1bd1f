"""Augmentations of spectrograms ``(B, C, T, F)``, waveforms and labels: batched on the device, each sample with its own draw.

They draw from PyTorch's global generator, so whoever seeds it makes them repeatable; :func:`place_in_noise` takes its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Mixed", "add_noise", "mask_span", "mix_waveforms", "place_in_noise", "shift_frames", "smooth_labels"]


def mask_span(spec: Tensor, width: int, dim: int, value: float = 0.0) -> Tensor:
    """Mask one span of each sample along one axis, as SpecAugment does.

    Args:
        spec: spectrograms ``(B, C, T, F)``.
        width: the span's length is drawn evenly from 0 to this, in frames or bins; at most the axis's length.
        dim: 2 (or -2) masks time frames, 3 (or -1) frequency bins.
        value: what the span is filled with; 0 is the mean of a normalised spectrogram.

    Returns:
        A new tensor; ``spec`` itself where ``width`` is 0.

    Raises:
        ValueError: for a negative width.

    Source: Park et al., "SpecAugment", arXiv:1904.08779.
    """
    if width < 0:
        raise ValueError(f"width={width}: expected a number of frames or bins >= 0")
    if width == 0:
        return spec
    B, length = spec.shape[0], spec.shape[dim]
    spans = torch.randint(0, min(width, length) + 1, (B, 1), device=spec.device)
    starts = (torch.rand(B, 1, device=spec.device) * (length - spans + 1)).long()
    place = torch.arange(length, device=spec.device)
    inside = (place >= starts) & (place < starts + spans)  # (B, length)
    shape = [B, 1, 1, 1]
    shape[dim] = length
    return spec.masked_fill(inside.view(shape), value)


def shift_frames(spec: Tensor, most: int) -> Tensor:
    """Roll each sample in time by a whole number of frames drawn evenly from ``-most`` to ``most``.

    Args:
        spec: spectrograms ``(B, C, T, F)``.
        most: frames >= 0.

    Raises:
        ValueError: for a negative ``most``.
    """
    if most < 0:
        raise ValueError(f"most={most}: expected a number of frames >= 0")
    if most == 0:
        return spec
    B, C, T, F = spec.shape
    shifts = torch.randint(-most, most + 1, (B, 1), device=spec.device)
    source = (torch.arange(T, device=spec.device) - shifts) % T  # (B, T)
    return spec.gather(2, source[:, None, :, None].expand(B, C, T, F))


FAINT, FAINTEST = -50.0, -100.0  # dBFS: a quiet room's recording, and about the last bit of 16


def place_in_noise(waveform: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """Put a waveform ``(N,)`` at a random place in white noise of ``samples`` samples, whose level is from -100 to -50 dBFS.

    A model that only knows clips that fill its window, or are padded at their end, does not know them in a stream.

    Args:
        waveform: one clip; one that is not shorter than ``samples`` is given back as it is.
        samples: the length of the result.
        generator: makes it repeatable.
    """
    spare = samples - len(waveform)
    if spare <= 0:
        return waveform
    level, at = torch.rand(2, generator=generator).tolist()
    decibels = FAINTEST + level * (FAINT - FAINTEST)
    noise = 10 ** (decibels / 20) * torch.randn(samples, generator=generator)
    start = int(at * (spare + 1))
    noise[start : start + len(waveform)] += waveform
    return noise


def add_noise(spec: Tensor, most: float) -> Tensor:
    """Add even noise from [0, a) to each sample, its amplitude a itself drawn evenly from [0, ``most``).

    Args:
        spec: spectrograms ``(B, C, T, F)``.
        most: the largest amplitude, in the spectrogram's own (normalised) units.

    Raises:
        ValueError: for a negative ``most``.
    """
    if most < 0:
        raise ValueError(f"most={most}: expected an amplitude >= 0")
    if most == 0:
        return spec
    amplitude = torch.rand(spec.shape[0], 1, 1, 1, device=spec.device, dtype=spec.dtype) * most
    return spec + amplitude * torch.rand_like(spec)


class Mixed(NamedTuple):
    """Waveforms ``(B, N)`` and their labels as shares ``(B, classes)`` after :func:`mix_waveforms`."""

    waveform: Tensor
    target: Tensor


def mix_waveforms(waveform: Tensor, length: Tensor, target: Tensor, share: float, alpha: float) -> Mixed:
    """Mix-up: add to some samples another one of the batch, and to their labels its labels.

    A sample x with labels y becomes ``l * x + (1 - l) * x2`` with labels ``l * y + (1 - l) * y2``, ``l ~ Beta(alpha, alpha)``,
    its partner drawn evenly from the batch (itself among them). Both waveforms are taken less their mean; the partner is
    cut to the sample's length, or padded with zeros.

    Args:
        waveform: ``(B, N)``, zeros after each sample's length.
        length: ``(B,)`` int64, in samples; it stays as it is.
        target: ``(B, classes)``, floating: shares, or multi-hot labels.
        share: the probability that a sample is mixed at all, in [0, 1].
        alpha: > 0.

    Returns:
        New tensors; those that were given where ``share`` is 0.

    Raises:
        ValueError: for a share or alpha out of its range, or labels that are no shares ``(B, classes)``.

    Source: Tokozume et al., arXiv:1711.10282; Zhang et al., arXiv:1710.09412; the details are those of Gong et al.,
    arXiv:2104.01778, which draws the partner from the whole data set.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share={share}: expected the part of the samples to mix, in [0, 1]")
    if not alpha > 0:
        raise ValueError(f"alpha={alpha}: expected a number > 0")
    if target.ndim != 2 or len(target) != len(waveform) or not target.is_floating_point():
        raise ValueError(
            f"labels {tuple(target.shape)} of {target.dtype}: expected shares ({len(waveform)}, classes); "
            "torch.nn.functional.one_hot(label, classes).float() makes them"
        )
    if share == 0:
        return Mixed(waveform, target)
    B, N = waveform.shape
    device = waveform.device
    chosen = torch.rand(B, 1, device=device) < share
    partner = torch.randint(B, (B,), device=device)
    drawn = torch.distributions.Beta(*torch.full((2,), float(alpha), device=device)).sample((B, 1))
    keep = torch.where(chosen, drawn, 1.0)  # l, 1 where nothing is mixed
    sounding = torch.arange(N, device=device) < length[:, None]
    centred = torch.where(sounding, waveform - waveform.sum(1, keepdim=True) / length.clamp(min=1)[:, None], 0)
    mixed = torch.where(sounding, keep * centred + (1 - keep) * centred[partner], 0)
    return Mixed(
        torch.where(chosen, mixed.to(waveform.dtype), waveform),
        (keep * target + (1 - keep) * target[partner]).to(target.dtype),
    )


def smooth_labels(target: Tensor, amount: float) -> Tensor:
    """Take a part of the shares ``(B, classes)`` and spread it evenly over all classes.

    Args:
        target: shares, or multi-hot labels.
        amount: the part, in [0, 1).

    Raises:
        ValueError: for an amount out of its range.

    Source: Szegedy et al., arXiv:1512.00567.
    """
    if not 0 <= amount < 1:
        raise ValueError(f"amount={amount}: expected a share in [0, 1)")
    return target * (1 - amount) + amount / target.shape[1]
