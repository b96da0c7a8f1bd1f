"""Augment spectrograms ``(B, C, T, F)``, waveforms and labels. The functions work on batches, with one random draw per sample.

The random numbers come from PyTorch's global generator, so its seed repeats them. :func:`place_in_noise` takes a generator.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Mixed",
    "add_noise",
    "cut_waveforms",
    "draw_shifts",
    "filter_bins",
    "mask_span",
    "mix_styles",
    "mix_waveforms",
    "place_in_noise",
    "roll_frames",
    "shift_frames",
    "smooth_labels",
]


def mask_span(spec: Tensor, width: int, dim: int, value: float = 0.0) -> Tensor:
    """Mask one span of each sample along one axis, as SpecAugment does.

    Args:
        spec: spectrograms ``(B, C, T, F)``.
        width: maximum length of the span, in frames or bins. The length is drawn uniformly from 0 to it, or to the length of
            the axis if that is smaller.
        dim: 2 (or -2) masks time frames, 3 (or -1) frequency bins.
        value: the value that fills the span. 0 is the mean of a normalised spectrogram.

    Returns:
        A new tensor, or ``spec`` itself if ``width`` is 0.

    Raises:
        ValueError: for a negative width.

    Source: Park et al., "SpecAugment", arXiv:1904.08779.

    >>> masked = mask_span(torch.ones(1, 1, 10, 4), width=3, dim=2)
    >>> masked.shape, int((masked == 0).all(dim=3).sum()) in (0, 1, 2, 3)
    (torch.Size([1, 1, 10, 4]), True)
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


def shift_frames(spec: Tensor, maximum: int) -> Tensor:
    """Roll each sample in time by a number of frames that is drawn uniformly from ``-maximum`` to ``maximum``.

    Args:
        spec: spectrograms ``(B, C, T, F)``.
        maximum: maximum number of frames, 0 or more.

    Raises:
        ValueError: for a negative ``maximum``.

    >>> _ = torch.manual_seed(0)
    >>> shift_frames(torch.arange(5.0).view(1, 1, 5, 1), 2).flatten()
    tensor([3., 4., 0., 1., 2.])
    """
    shifts = draw_shifts(spec, maximum)
    return spec if shifts is None else roll_frames(spec, shifts)


def draw_shifts(spec: Tensor, maximum: int) -> Tensor | None:
    """Draw the shift of each sample, ``(B, 1)`` int64, for :func:`shift_frames`. Return None if ``maximum`` is 0.

    Raises:
        ValueError: for a negative ``maximum``.
    """
    if maximum < 0:
        raise ValueError(f"maximum={maximum}: expected a number of frames >= 0")
    if maximum == 0:
        return None
    return torch.randint(-maximum, maximum + 1, (spec.shape[0], 1), device=spec.device)


def roll_frames(spec: Tensor, shifts: Tensor) -> Tensor:
    """Roll each sample ``(B, C, T, F)`` in time by its number of frames ``(B, 1)``.

    >>> roll_frames(torch.arange(3.0).view(1, 1, 3, 1), torch.tensor([[1]])).flatten().tolist()
    [2.0, 0.0, 1.0]
    """
    B, C, T, F = spec.shape
    source = (torch.arange(T, device=spec.device) - shifts) % T  # (B, T)
    return spec.gather(2, source[:, None, :, None].expand(B, C, T, F))


FAINT, FAINTEST = -50.0, -100.0  # dBFS: the noise of a quiet room, and about that of 16-bit rounding


def place_in_noise(waveform: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """Put a waveform ``(N,)`` at a random place in white noise. The level of the noise is random, from -100 to -50 dBFS.

    In a stream, a sound may lie at any place of a window. Without this, a model learns only sounds at the start of a window.

    Args:
        waveform: one clip. A clip that is not shorter than ``samples`` is returned unchanged.
        samples: length of the result, in samples.
        generator: source of the random numbers.

    >>> place_in_noise(torch.ones(3), 6, torch.Generator().manual_seed(0)).abs().round()
    tensor([0., 0., 0., 1., 1., 1.])
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


def add_noise(spec: Tensor, maximum: float) -> Tensor:
    """Add noise to each sample. The noise is uniform in [0, a), its amplitude a is uniform in [0, ``maximum``).

    Args:
        spec: spectrograms ``(B, C, T, F)``.
        maximum: maximum amplitude, in the units of the normalised spectrogram.

    Raises:
        ValueError: for a negative ``maximum``.

    >>> noisy = add_noise(torch.zeros(2, 1, 10, 4), 0.5)
    >>> bool((noisy >= 0).all() and (noisy < 0.5).all())
    True
    """
    if maximum < 0:
        raise ValueError(f"maximum={maximum}: expected an amplitude >= 0")
    if maximum == 0:
        return spec
    amplitude = torch.rand(spec.shape[0], 1, 1, 1, device=spec.device, dtype=spec.dtype) * maximum
    return spec + amplitude * torch.rand_like(spec)


def mix_styles(spec: Tensor, probability: float, alpha: float, eps: float = 1e-6) -> Tensor:
    """Give some samples a mixture of their own frequency response and that of another sample of the batch (Freq-MixStyle).

    Mean m and deviation s of each bin over channels and time stand for the response of a device. A sample x becomes
    ``(x - m) / s * (l * s + (1 - l) * s2) + l * m + (1 - l) * m2``, where m2 and s2 are those of its partner, and
    ``l ~ Beta(alpha, alpha)``.

    Args:
        spec: spectrograms ``(B, C, T, F)``.
        probability: the probability that a sample is changed.
        alpha: parameter of the Beta distribution, greater than 0.
        eps: a number that is added to the variance.

    Returns:
        A new tensor, or ``spec`` itself if ``probability`` is 0.

    >>> mix_styles(torch.randn(4, 1, 10, 8), 0.5, 0.4).shape
    torch.Size([4, 1, 10, 8])

    Source: Kim et al., arXiv:2206.12513, and Schmid et al., DCASE 2022; MixStyle is Zhou et al., arXiv:2104.02008.
    """
    if probability == 0:
        return spec
    B = len(spec)
    device = spec.device
    chosen = torch.rand(B, 1, 1, 1, device=device) < probability
    partner = torch.randperm(B, device=device)
    keep = torch.distributions.Beta(*torch.full((2,), float(alpha), device=device)).sample((B, 1, 1, 1)).to(spec.dtype)
    mean = spec.mean((1, 2), keepdim=True)
    deviation = (spec.var((1, 2), correction=0, keepdim=True) + eps).sqrt()
    new_mean = keep * mean + (1 - keep) * mean[partner]
    new_deviation = keep * deviation + (1 - keep) * deviation[partner]
    return torch.where(chosen, (spec - mean) / deviation * new_deviation + new_mean, spec)


BANDS = (2, 5)  # minimum and maximum number of the bands of a filter


def filter_bins(spec: Tensor, maximum: float, scale: float = 1.0) -> Tensor:
    """Filter each sample by a random curve over frequency (FilterAugment, linear).

    Two to five bands have random edges. The gain at each edge is uniform from ``-maximum`` to ``maximum`` in dB. Between edges
    it changes linearly in dB.

    Args:
        spec: spectrograms ``(B, C, T, F)`` of log energies.
        maximum: maximum gain, in dB, 0 or more.
        scale: the units of the spectrogram in one unit of the natural logarithm of energy: ``1 / (2 * std)`` if it is
            normalised.

    Returns:
        A new tensor, or ``spec`` itself if ``maximum`` is 0.

    >>> moved = filter_bins(torch.zeros(8, 1, 10, 32), 6.0)
    >>> bool(moved.abs().max() <= 6 * math.log(10) / 10 + 1e-6)
    True

    Source: Nam et al., "FilterAugment: An Acoustic Environmental Data Augmentation Method", ICASSP 2022, arXiv:2110.03282.
    """
    if maximum == 0:
        return spec
    B, F = len(spec), spec.shape[3]
    device = spec.device
    most = BANDS[1]
    bands = torch.randint(BANDS[0], most + 1, (B, 1), device=device)
    inner = torch.rand(B, most - 1, device=device).sort(1).values
    place = torch.arange(1, most, device=device)
    # Edges beyond a sample's own number of bands lie at the upper end.
    inner = torch.where(place < bands, inner, 1.0).sort(1).values
    edges = torch.cat([torch.zeros(B, 1, device=device), inner, torch.ones(B, 1, device=device)], 1)  # (B, most + 1)
    gains = (2 * torch.rand(B, most + 1, device=device) - 1) * maximum
    x = torch.linspace(0, 1, F, device=device).expand(B, F).contiguous()
    upper = torch.searchsorted(edges.contiguous(), x).clamp(1, most)
    left, right = edges.gather(1, upper - 1), edges.gather(1, upper)
    part = ((x - left) / (right - left).clamp(min=1e-6)).clamp(0, 1)
    curve = gains.gather(1, upper - 1) * (1 - part) + gains.gather(1, upper) * part  # dB
    return spec + (curve * (math.log(10) / 10 * scale)).to(spec.dtype)[:, None, None, :]


class Mixed(NamedTuple):
    """The result of :func:`mix_waveforms` and :func:`cut_waveforms`.

    Attributes:
        waveform: waveforms ``(B, N)``.
        target: their labels as probabilities ``(B, classes)``.
    """

    waveform: Tensor
    target: Tensor


def mix_waveforms(waveform: Tensor, length: Tensor, target: Tensor, probability: float, alpha: float) -> Mixed:
    """Mix some samples of a batch with other samples of it, and their labels likewise (mix-up).

    A sample x with labels y becomes ``l * x + (1 - l) * x2`` with labels ``l * y + (1 - l) * y2``, ``l ~ Beta(alpha, alpha)``.
    Its partner x2 is drawn uniformly from the batch, and may be x itself. The mean of each waveform is subtracted first. The
    partner is cut, or padded with zeros, to the length of x.

    Args:
        waveform: ``(B, N)``, zeros after each sample's length.
        length: ``(B,)`` int64, in samples. It is not changed.
        target: ``(B, classes)``, floating: probabilities, or multi-hot labels.
        probability: the probability that a sample is mixed, in [0, 1].
        alpha: parameter of the Beta distribution, greater than 0.

    Returns:
        New tensors, or the given ones if ``probability`` is 0.

    Raises:
        ValueError: for a probability or alpha out of its range, or labels that are not probabilities ``(B, classes)``.

    Source: Tokozume et al., arXiv:1711.10282; Zhang et al., arXiv:1710.09412; the details are those of Gong et al.,
    arXiv:2104.01778, which draws the partner from the whole data set.

    >>> sounds, length = torch.tensor([[1.0, -1.0], [3.0, -3.0]]), torch.tensor([2, 2])
    >>> mixed = mix_waveforms(sounds, length, torch.eye(2), probability=1.0, alpha=10.0)
    >>> torch.allclose(mixed.target.sum(1), torch.ones(2))
    True
    """
    _check_mixing(waveform, target, probability, alpha)
    if probability == 0:
        return Mixed(waveform, target)
    B, N = waveform.shape
    device = waveform.device
    chosen, partner, drawn = _draw_mixing(B, probability, alpha, device)
    keep = torch.where(chosen, drawn, 1.0)  # l of the docstring; 1 for a sample that is not mixed
    sounding = torch.arange(N, device=device) < length[:, None]
    centred = torch.where(sounding, waveform - waveform.sum(1, keepdim=True) / length.clamp(min=1)[:, None], 0)
    mixed = torch.where(sounding, keep * centred + (1 - keep) * centred[partner], 0)
    return Mixed(
        torch.where(chosen, mixed.to(waveform.dtype), waveform),
        (keep * target + (1 - keep) * target[partner]).to(target.dtype),
    )


def cut_waveforms(waveform: Tensor, length: Tensor, target: Tensor, probability: float, alpha: float) -> Mixed:
    """Replace a span of some samples of a batch by that of other samples, and mix their labels likewise (CutMix).

    A sample keeps the part l of its length, ``l ~ Beta(alpha, alpha)``, and gets a span of the length ``1 - l`` from its
    partner, at a place that is drawn uniformly. Its labels y become ``l * y + (1 - l) * y2``. The partner is drawn uniformly
    from the batch and may be the sample itself. Where the partner has ended, the span is silent.

    Args:
        waveform: ``(B, N)``, zeros after each sample's length.
        length: ``(B,)`` int64, in samples. It is not changed.
        target: ``(B, classes)``, floating: probabilities, or multi-hot labels.
        probability: the probability that a sample is cut, in [0, 1].
        alpha: parameter of the Beta distribution, greater than 0.

    Returns:
        New tensors, or the given ones if ``probability`` is 0.

    Raises:
        ValueError: as :func:`mix_waveforms`.

    Source: Yun et al., "CutMix", arXiv:1905.04899, equations (1) and (2), here with a span of time for the box.

    >>> sounds, length = torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0]]), torch.tensor([4, 4])
    >>> cut = cut_waveforms(sounds, length, torch.eye(2), probability=1.0, alpha=1.0)
    >>> torch.allclose(cut.target.sum(1), torch.ones(2))
    True
    """
    _check_mixing(waveform, target, probability, alpha)
    if probability == 0:
        return Mixed(waveform, target)
    B, N = waveform.shape
    device = waveform.device
    chosen, partner, drawn = _draw_mixing(B, probability, alpha, device)
    span = ((1 - drawn) * length[:, None]).round().long()
    start = (torch.rand(B, 1, device=device) * (length[:, None] - span + 1)).long()
    place = torch.arange(N, device=device)
    inside = chosen & (place >= start) & (place < start + span)
    keep = torch.where(chosen, 1 - span / length[:, None].clamp(min=1), 1.0)  # of whole samples
    return Mixed(
        torch.where(inside, waveform[partner], waveform),
        (keep * target + (1 - keep) * target[partner]).to(target.dtype),
    )


def _check_mixing(waveform: Tensor, target: Tensor, probability: float, alpha: float) -> None:
    if not 0 <= probability <= 1:
        raise ValueError(f"probability={probability}: expected the probability that a sample is mixed, in [0, 1]")
    if not alpha > 0:
        raise ValueError(f"alpha={alpha}: expected a number > 0")
    if target.ndim != 2 or len(target) != len(waveform) or not target.is_floating_point():
        raise ValueError(
            f"labels {tuple(target.shape)} of {target.dtype}: expected probabilities ({len(waveform)}, classes); "
            "torch.nn.functional.one_hot(label, classes).float() makes them"
        )


def _draw_mixing(samples: int, probability: float, alpha: float, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Draw for each sample whether it is mixed ``(B, 1)``, its partner ``(B,)``, and the part that it keeps ``(B, 1)``."""
    chosen = torch.rand(samples, 1, device=device) < probability
    partner = torch.randint(samples, (samples,), device=device)
    return (
        chosen,
        partner,
        torch.distributions.Beta(*torch.full((2,), float(alpha), device=device)).sample((samples, 1)),
    )


def smooth_labels(target: Tensor, amount: float) -> Tensor:
    """Take a part of each label's probability, and divide it equally among all classes.

    Args:
        target: probabilities or multi-hot labels ``(B, classes)``.
        amount: the part that is taken, in [0, 1).

    Raises:
        ValueError: for an amount out of its range.

    Source: Szegedy et al., arXiv:1512.00567.

    >>> smooth_labels(torch.tensor([[1.0, 0.0]]), 0.1)
    tensor([[0.9500, 0.0500]])
    """
    if not 0 <= amount < 1:
        raise ValueError(f"amount={amount}: expected a part in [0, 1)")
    return target * (1 - amount) + amount / target.shape[1]
