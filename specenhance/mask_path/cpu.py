"""The factors of a mask, faster than the formula on a CPU; on another device the formula itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from specenhance import functional
from specenhance._compat import is_exporting
from specenhance.functional import BlockWeights, PathWeights
from specenhance.mask_path.product import own_gradients

__all__ = ["LONG", "factors", "path_factor"]

LONG = 4096  # frames of a batch; from here on oneDNN's gradient of several channels' weights is slower than ours
_ONEDNN = torch.backends.mkldnn.is_available()  # asked at import: a compiled graph cannot ask


def factors(spec: Tensor, blocks: Sequence[BlockWeights], standardise: bool = False) -> tuple[Tensor, Tensor]:
    """Compute the two factors of a TFE's mask, as :func:`specenhance.functional.factors`.

    Args:
        spec: The spectrogram ``(B, c_0, T, F)``.
        blocks: The weights of the blocks, first to last.
        standardise: Whether each path first standardises its means along their axis.

    Returns:
        ``e_t (B, c_n, T)`` and ``e_f (B, c_n, F)``.

    >>> path = PathWeights(torch.zeros(1, 1, 3), torch.zeros(1), torch.zeros(1, 1, 3), torch.zeros(1))
    >>> factors(torch.ones(1, 1, 2, 3), [BlockWeights(path, path)])
    (tensor([[[0.5000, 0.5000]]]), tensor([[[0.5000, 0.5000, 0.5000]]]))
    """
    return functional.factors(spec, blocks, _standardised_factor if standardise else path_factor)


def _standardised_factor(z: Tensor, weights: PathWeights) -> Tensor:
    return path_factor(functional.standardised(z), weights)


def path_factor(z: Tensor, weights: PathWeights) -> Tensor:
    """Compute the same as :func:`specenhance.functional.path_factor`, on a CPU a quarter faster.

    oneDNN is fast where the channels of a frame lie side by side in memory, and a 1-D convolution cannot say that they do. A
    2-D convolution follows the strides, also those of a single channel. ``to(memory_format=...)`` would set the strides, but
    not under ``torch.func.vmap``.

    >>> path = PathWeights(torch.ones(1, 1, 1), None, torch.ones(1, 1, 1), None)
    >>> path_factor(torch.tensor([[[-1.0, 0.0, 1.0]]]), path)
    tensor([[[0.5000, 0.5000, 0.7311]]])
    """
    if z.device.type != "cpu" or not _ONEDNN:
        return functional.path_factor(z, weights)
    convolve = _convolution
    if not is_exporting():  # other runtimes choose their own strides; they too are faster at 2-D convolutions
        long = z.shape[0] * z.shape[2] >= LONG and weights.conv1_weight[..., 0].numel() > 1
        # Under autocast our own gradient would meet inputs of two types.
        if long and own_gradients() and not torch.compiler.is_compiling() and not torch.is_autocast_enabled("cpu"):
            convolve = _LongConvolution.apply
        z = z.transpose(1, 2).flatten(1).unflatten(1, (z.shape[2], z.shape[1])).transpose(1, 2)
    z = z.unsqueeze(2)
    hidden = convolve(z, weights.conv1_weight, weights.conv1_bias).relu_()
    return convolve(hidden, weights.conv2_weight, weights.conv2_bias).sigmoid_().squeeze(2)


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve ``(B, c_in, 1, L)`` by a 1-D kernel, as a 2-D convolution; zeros pad the ends."""
    return nn.functional.conv2d(x, weight.unsqueeze(2), bias, padding=(0, weight.shape[-1] // 2))


class _LongConvolution(torch.autograd.Function):
    """The same convolution for many frames. The time of oneDNN's gradient of the weights grows faster than the frames."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _convolution(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        dx = _convolution(dy, weight.flip(-1).transpose(0, 1), None) if ctx.needs_input_grad[0] else None
        taps = weight.shape[-1]
        # All samples lie in one row of frames, with zeros between them. Tap i's gradient is x, i frames further, times dy.
        ahead = nn.functional.pad(x.squeeze(2).transpose(1, 2), (0, 0, taps // 2, taps // 2)).flatten(0, 1)
        length = len(ahead) - taps + 1
        behind = nn.functional.pad(dy.squeeze(2).transpose(1, 2), (0, 0, 0, taps - 1)).flatten(0, 1)[:length]
        dweight = torch.bmm(ahead.unfold(0, length, 1), behind.expand(taps, -1, -1)).permute(2, 1, 0)
        return dx, dweight, dy.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
