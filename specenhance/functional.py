"""The mathematics of the Time-Frequency Enhancer (TFE) as pure functions.

A spectrogram is ``(B, C, T, F)``: batch, channel, time frames, frequency bins. One Enhancer Block turns ``X (B, c_in, T, F)``
into a mask ``M (B, c_out, T, F)``::

    z_t = mean over F of X                          z_f = mean over T of X
    e_t = sigmoid(conv2(relu(conv1(z_t))))          e_f = sigmoid(conv2(relu(conv1(z_f))))
    M   = e_t (outer product) e_f

A TFE chains blocks: each mask is the next block's input. The last mask weighs the spectrogram.

This module has two forms of the same function. :func:`reference_mask` is the literal chain; every other form is tested against
it. :func:`factors` is the factorised form. A mask is an outer product, so the next block's means are ``e_t * mean(e_f)`` and
``e_f * mean(e_t)``: only the first mean and the last product have two axes. The factorised form is exact.

The functions here are formulas. :mod:`specenhance.mask_path` computes them fast.

Source: Xing et al., "Enhancing Spectrogram for Audio Classification Using Time-Frequency Enhancer", eq. (1) and (2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = [
    "BlockWeights",
    "PathWeights",
    "apply_factors",
    "check_bins",
    "check_spectrogram",
    "factors",
    "next_means",
    "outer",
    "path_factor",
    "pool",
    "reference_enhance",
    "reference_mask",
    "standardised",
]


class PathWeights(NamedTuple):
    """The two 1-D convolutions of one path (time or frequency) of an Enhancer Block. Kernels are odd, zeros pad the ends.

    >>> path = PathWeights(torch.zeros(4, 1, 17), torch.zeros(4), torch.zeros(4, 4, 17), torch.zeros(4))
    >>> path.conv1_weight.shape
    torch.Size([4, 1, 17])
    """

    conv1_weight: Tensor  # (c_out, c_in, kernel)
    conv1_bias: Tensor | None  # (c_out,)
    conv2_weight: Tensor  # (c_out, c_out, kernel)
    conv2_bias: Tensor | None  # (c_out,)


class BlockWeights(NamedTuple):
    """One Enhancer Block: its time path and its frequency path. The two share no parameter.

    >>> path = PathWeights(torch.zeros(1, 1, 3), None, torch.zeros(1, 1, 3), None)
    >>> BlockWeights(time=path, freq=path)._fields
    ('time', 'freq')
    """

    time: PathWeights
    freq: PathWeights


@torch.fx.wrap
def check_bins(spec: Tensor, bins: int) -> None:
    """Refuse a spectrogram ``(B, C, T, F)`` of another number of bins F than a front end was made for, with a ValueError.

    >>> check_bins(torch.zeros(2, 1, 40, 16), 16)
    """
    if spec.shape[3] != bins:
        raise ValueError(
            f"a spectrogram of F={spec.shape[3]} bins, and the front end was made for {bins}: make it with bins={spec.shape[3]}"
        )


@torch.fx.wrap  # torch.fx traces symbols without a shape: a function that asks for one must stay a call
def check_spectrogram(spec: Tensor, channels: int | None = None) -> None:
    """Refuse a tensor that is not a spectrogram ``(B, C, T, F)``.

    Args:
        spec: The tensor to check.
        channels: The number of channels that it must have; None accepts any number.

    Raises:
        ValueError: for a wrong number of axes, an empty channel, time or frequency axis, or a wrong number of channels.
        TypeError: for an integer, boolean or complex tensor.

    >>> check_spectrogram(torch.zeros(8, 1, 512, 128), channels=1)
    >>> check_spectrogram(torch.zeros(8, 512, 128))
    Traceback (most recent call last):
    ValueError: expected a spectrogram (B, C, T, F), got a tensor of 3 axes and shape (8, 512, 128); add the missing axes, ...
    """
    if spec.ndim != 4:
        raise ValueError(
            f"expected a spectrogram (B, C, T, F), got a tensor of {spec.ndim} axes and shape {tuple(spec.shape)}; "
            "add the missing axes, e.g. spec[:, None] for (B, T, F)"
        )
    if not spec.is_floating_point():
        raise TypeError(f"expected a real floating-point spectrogram, got {spec.dtype}; convert it, e.g. spec.float()")
    B, C, T, F = spec.shape
    if C == 0 or T == 0 or F == 0:
        raise ValueError(f"expected at least one channel, frame and bin, got (B, C, T, F) = {(B, C, T, F)}")
    if channels is not None and channels != C:
        raise ValueError(
            f"expected a spectrogram of {channels} channel(s), got {C} in (B, C, T, F) = {(B, C, T, F)}; "
            f"make the front end with in_chans={C}"
        )


def outer(e_t: Tensor, e_f: Tensor) -> Tensor:
    """Multiply ``e_t (B, C, T)`` by ``e_f (B, C, F)`` to a mask ``(B, C, T, F)``; eq. (1).

    >>> outer(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 4.0, 5.0]]]))
    tensor([[[[ 3.,  4.,  5.],
              [ 6.,  8., 10.]]]])
    """
    return e_t.unsqueeze(-1) * e_f.unsqueeze(-2)


def pool(spec: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """Average a spectrogram ``(B, C, T, F)`` over frequency and over time.

    Args:
        spec: The spectrogram.
        dtype: The dtype of the sums and of the result; None keeps the spectrogram's.

    Returns:
        ``z_t (B, C, T)`` and ``z_f (B, C, F)``.

    >>> pool(torch.tensor([[[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]]))
    (tensor([[[1., 4.]]]), tensor([[[1.5000, 2.5000, 3.5000]]]))
    """
    return spec.mean(dim=-1, dtype=dtype), spec.mean(dim=-2, dtype=dtype)


def path_factor(z: Tensor, weights: PathWeights) -> Tensor:
    """Turn a path's means ``(B, c_in, L)`` into its factor of the mask ``(B, c_out, L)``; each value is in (0, 1).

    >>> path = PathWeights(torch.ones(1, 1, 1), None, torch.ones(1, 1, 1), None)
    >>> path_factor(torch.tensor([[[-1.0, 0.0, 1.0]]]), path)
    tensor([[[0.5000, 0.5000, 0.7311]]])
    """
    padding = weights.conv1_weight.shape[-1] // 2
    hidden = nn.functional.relu(nn.functional.conv1d(z, weights.conv1_weight, weights.conv1_bias, padding=padding))
    return torch.sigmoid(nn.functional.conv1d(hidden, weights.conv2_weight, weights.conv2_bias, padding=padding))


def standardised(z: Tensor, eps: float = 1e-8) -> Tensor:
    """Give the means of a path ``(B, C, L)`` mean 0 and variance 1 along their axis.

    ``(z - mean) / sqrt(max(variance, eps))``. The variance divides by L.

    >>> standardised(torch.tensor([[[1.0, 2.0, 3.0]]]))
    tensor([[[-1.2247,  0.0000,  1.2247]]])
    """
    exact = z.float() if z.dtype in (torch.float16, torch.bfloat16) else z
    centred = exact - exact.mean(-1, keepdim=True)
    # A sum with eps would look like layer norm to onnxruntime, whose own loses so small a variance to rounding.
    return (centred / centred.square().mean(-1, keepdim=True).clamp(min=eps).sqrt()).to(z.dtype)


def next_means(e_t: Tensor, e_f: Tensor) -> tuple[Tensor, Tensor]:
    """Give the means of a mask over frequency and over time, from its factors ``e_t (B, C, T)`` and ``e_f (B, C, F)``.

    >>> e_t, e_f = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[2.0, 4.0, 6.0]]])
    >>> next_means(e_t, e_f)
    (tensor([[[ 4., 12.]]]), tensor([[[ 4.,  8., 12.]]]))
    >>> pool(outer(e_t, e_f))
    (tensor([[[ 4., 12.]]]), tensor([[[ 4.,  8., 12.]]]))
    """
    return e_t * e_f.mean(-1, keepdim=True), e_f * e_t.mean(-1, keepdim=True)


def factors(
    spec: Tensor,
    blocks: Sequence[BlockWeights],
    path: Callable[[Tensor, PathWeights], Tensor] = path_factor,
) -> tuple[Tensor, Tensor]:
    """Compute the two factors of a TFE's mask by the factorised form.

    Args:
        spec: The spectrogram ``(B, c_0, T, F)``.
        blocks: The weights of the blocks, first to last.
        path: The function that computes a path's factor; a faster one must give what :func:`path_factor` gives.

    Returns:
        ``e_t (B, c_n, T)`` and ``e_f (B, c_n, F)``. Their outer product is the mask. Their dtype is the weights', under
        autocast autocast's.

    >>> path = PathWeights(torch.zeros(1, 1, 3), torch.zeros(1), torch.zeros(1, 1, 3), torch.zeros(1))
    >>> factors(torch.ones(1, 1, 2, 3), [BlockWeights(path, path)])
    (tensor([[[0.5000, 0.5000]]]), tensor([[[0.5000, 0.5000, 0.5000]]]))
    """
    z_t, z_f = pool(spec, dtype=blocks[0].time.conv1_weight.dtype)
    e_t, e_f = path(z_t, blocks[0].time), path(z_f, blocks[0].freq)
    for block in blocks[1:]:
        z_t, z_f = next_means(e_t, e_f)
        e_t, e_f = path(z_t, block.time), path(z_f, block.freq)
    return e_t, e_f


def apply_factors(spec: Tensor, e_t: Tensor, e_f: Tensor) -> Tensor:
    """Weigh a spectrogram ``(B, C, T, F)`` by the mask of ``e_t (B, C, T)`` and ``e_f (B, C, F)``; eq. (2).

    The result has the spectrogram's dtype.

    >>> apply_factors(torch.ones(1, 1, 2, 3), torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 4.0, 5.0]]]))
    tensor([[[[ 3.,  4.,  5.],
              [ 6.,  8., 10.]]]])
    """
    return spec * e_t.to(spec.dtype).unsqueeze(-1) * e_f.to(spec.dtype).unsqueeze(-2)


def reference_mask(spec: Tensor, blocks: Sequence[BlockWeights]) -> Tensor:
    """Compute a TFE's mask ``(B, c_n, T, F)`` by the literal chain of the paper, every mask written out.

    It is slow and needs much memory. Check other forms against it, in float64.

    >>> path = PathWeights(torch.zeros(1, 1, 3), torch.zeros(1), torch.zeros(1, 1, 3), torch.zeros(1))
    >>> reference_mask(torch.ones(1, 1, 2, 3), [BlockWeights(path, path)])
    tensor([[[[0.2500, 0.2500, 0.2500],
              [0.2500, 0.2500, 0.2500]]]])
    """
    mask = spec
    for block in blocks:
        mask = outer(path_factor(mask.mean(dim=-1), block.time), path_factor(mask.mean(dim=-2), block.freq))
    return mask


def reference_enhance(spec: Tensor, blocks: Sequence[BlockWeights]) -> Tensor:
    """Weigh a spectrogram ``(B, C, T, F)`` by its literal mask: ``S' = S * M_n``, eq. (2).

    >>> path = PathWeights(torch.zeros(1, 1, 3), torch.zeros(1), torch.zeros(1, 1, 3), torch.zeros(1))
    >>> reference_enhance(torch.full((1, 1, 1, 2), 8.0), [BlockWeights(path, path)])
    tensor([[[[2., 2.]]]])
    """
    return spec * reference_mask(spec, blocks)
