"""Augmentations of spectrograms ``(B, C, T, F)``: batched on the device, each sample with its own draw.

They draw from PyTorch's global generator, so whoever seeds it makes them repeatable.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["add_noise", "mask_span", "shift_frames"]


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
