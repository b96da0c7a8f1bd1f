"""The limits of the kernels, and the reason in words where a call is outside them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specenhance_kernels.configs import INTERPRETED

MAX_CHANNELS = 128
MAX_KERNEL = 31
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def refusal(spec: Tensor, weights: Sequence[Tensor | None]) -> str | None:
    """Say why :func:`specenhance_kernels.enhance` would refuse these arguments, or None if it accepts them.

    Args:
        spec: The spectrogram ``(B, C, T, F)``.
        weights: The flat weights, see :func:`specenhance_kernels.enhance`.

    Returns:
        A clause that names the value, what was expected, and the cure.
    """
    if not spec.is_cuda and not INTERPRETED:
        return (
            f"the spectrogram is on {spec.device.type!r} and the kernels run on CUDA and ROCm; move it there, or set "
            "TRITON_INTERPRET=1 before the first import to run them slowly on the CPU"
        )
    if spec.dtype not in DTYPES:
        return f"the spectrogram is {spec.dtype} and the kernels take float32, bfloat16 and float16; convert it"
    if not weights or len(weights) % 8:
        return f"{len(weights)} weights were given, expected 8 a block: two convolutions' weight and bias for two paths"
    dtype = None
    c_in = spec.shape[1]
    kernel = None
    for i, weight in enumerate(weights):
        if weight is None:
            return "a convolution has no bias and the kernels expect one; give it a bias of zeros"
        if weight.device != spec.device:
            return f"a weight is on {weight.device} and the spectrogram on {spec.device}; move the front end there"
        dtype = dtype or weight.dtype
        if weight.dtype not in DTYPES or weight.dtype != dtype:
            return f"a weight is {weight.dtype}; the kernels expect all in one of float32, bfloat16 and float16; convert it"
        if i % 8 == 0:
            c_out = weight.shape[0]
            kernel = kernel or weight.shape[-1]
            if max(c_in, c_out) > MAX_CHANNELS:
                return f"the chain is {max(c_in, c_out)} channels wide and the kernels take up to {MAX_CHANNELS}"
            if kernel % 2 == 0 or kernel > MAX_KERNEL:
                return f"the convolutions have {kernel} taps and the kernels take an odd number up to {MAX_KERNEL}"
        expected = (c_out,) if i % 2 else (c_out, c_in if i % 4 == 0 else c_out, kernel)
        if tuple(weight.shape) != expected:
            return f"weight {i % 8} of block {i // 8} has the shape {tuple(weight.shape)}, expected {expected}"
        if i % 8 == 7:
            c_in = c_out
    longest, widest = max(spec.shape[2:]), max(weight.shape[0] for weight in weights if weight is not None)
    if longest * widest >= 2**31:
        return f"{longest} positions of {widest} channels are more than the kernels' 2^31; cut the spectrogram in time"
    if c_in != spec.shape[1]:
        return f"the last block gives {c_in} channels and the spectrogram has {spec.shape[1]}; they must be equal"
    return None
