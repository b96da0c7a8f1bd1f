"""The mathematics of the Time-Frequency Enhancer (TFE) as pure functions.

A spectrogram is ``(B, C, T, F)``: batch, channel, time frames, frequency bins. One Enhancer Block turns ``X (B, c_in, T, F)``
into a mask ``M (B, c_out, T, F)``::

    z_t = mean over F of X                          z_f = mean over T of X
    e_t = sigmoid(conv2(relu(conv1(z_t))))          e_f = sigmoid(conv2(relu(conv1(z_f))))
    M   = e_t (outer product) e_f

A TFE chains blocks, each mask being the next block's input, and multiplies the last mask onto the spectrogram.

Two forms of the same function live here. :func:`reference_mask` is the literal chain, kept as the reference that every
other path is tested against. :func:`factors` is the factorised form that the modules use: a mask is an outer product, so
the next block's means are ``e_t * mean(e_f)`` and ``e_f * mean(e_t)``, and nothing between the first mean and the last
product is two-dimensional. This is exact, not an approximation.

Source: Xing et al., "Enhancing Spectrogram for Audio Classification Using Time-Frequency Enhancer", eq. (1) and (2).
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from specenhance._compat import is_exporting, is_forward_mode, is_transformed

__all__ = [
    "BlockWeights",
    "PathWeights",
    "apply_factors",
    "check_spectrogram",
    "enhance",
    "factors",
    "outer",
    "pool",
    "reference_enhance",
    "reference_mask",
    "triton_missing",
]

LONG = 4096  # frames of a batch from which on oneDNN's gradient to the weights of several channels is the slower one
_ONEDNN = torch.backends.mkldnn.is_available()  # asked here: a compiled graph cannot

_log = logging.getLogger(__name__)
_logged: set[str] = set()


class PathWeights(NamedTuple):
    """The two 1-D convolutions of one path (time or frequency) of an Enhancer Block, zero "same" padding, odd kernels."""

    conv1_weight: Tensor  # (c_out, c_in, kernel)
    conv1_bias: Tensor | None  # (c_out,)
    conv2_weight: Tensor  # (c_out, c_out, kernel)
    conv2_bias: Tensor | None  # (c_out,)


class BlockWeights(NamedTuple):
    """One Enhancer Block: its time path and its frequency path, which share nothing."""

    time: PathWeights
    freq: PathWeights


@torch.fx.wrap  # to torch.fx a spectrogram is a symbol that has no shape yet: what asks for one stays a call
def check_spectrogram(spec: Tensor, channels: int | None = None) -> None:
    """Refuse what is no spectrogram ``(B, C, T, F)``.

    Args:
        spec: the tensor to look at.
        channels: how many channels it must have; None takes any number.

    Raises:
        ValueError: for a wrong rank, an empty channel, time or frequency axis, or a wrong channel count.
        TypeError: for an integer, boolean or complex tensor.
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
    """Multiply ``e_t (B, C, T)`` and ``e_f (B, C, F)`` out to a mask ``(B, C, T, F)``; eq. (1)."""
    return e_t.unsqueeze(-1) * e_f.unsqueeze(-2)


def pool(spec: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """Average a spectrogram ``(B, C, T, F)`` over frequency and over time.

    Args:
        spec: the spectrogram.
        dtype: what to sum in and return; None keeps the spectrogram's own.

    Returns:
        ``z_t (B, C, T)`` and ``z_f (B, C, F)``.
    """
    return spec.mean(dim=-1, dtype=dtype), spec.mean(dim=-2, dtype=dtype)


def _path(z: Tensor, weights: PathWeights) -> Tensor:
    """Turn a path's means ``(B, c_in, L)`` into its half of the mask ``(B, c_out, L)``, each value in (0, 1)."""
    padding = weights.conv1_weight.shape[-1] // 2
    hidden = nn.functional.relu(nn.functional.conv1d(z, weights.conv1_weight, weights.conv1_bias, padding=padding))
    return torch.sigmoid(nn.functional.conv1d(hidden, weights.conv2_weight, weights.conv2_bias, padding=padding))


def _fast_path(z: Tensor, weights: PathWeights) -> Tensor:
    """Do the same as :func:`_path`, on a CPU a quarter faster.

    oneDNN likes the channels of a frame side by side, which a 1-D convolution has no way to say. A 2-D one goes by the
    strides, those of a single channel too; ``to(memory_format=...)`` would set them, but not under ``torch.func.vmap``.
    """
    if z.device.type != "cpu" or not _ONEDNN or is_exporting():
        return _path(z, weights)
    long = z.shape[0] * z.shape[2] >= LONG and weights.conv1_weight[..., 0].numel() > 1
    # Under autocast a gradient of ours would meet inputs of two types.
    own = long and _own_gradients() and not torch.compiler.is_compiling() and not torch.is_autocast_enabled("cpu")
    convolve = _LongConvolution.apply if own else _convolution
    z = z.transpose(1, 2).flatten(1).unflatten(1, (z.shape[2], z.shape[1])).transpose(1, 2).unsqueeze(2)
    hidden = convolve(z, weights.conv1_weight, weights.conv1_bias).relu_()
    return convolve(hidden, weights.conv2_weight, weights.conv2_bias).sigmoid_().squeeze(2)


def _own_gradients() -> bool:
    """Whether the gradients below are used: where there is reverse mode and nothing else.

    PyTorch gets a forward-mode derivative of a forward-mode derivative of a function of ours wrong, and says nothing.
    """
    return torch.is_grad_enabled() and not is_exporting() and not is_forward_mode()


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve ``(B, c_in, 1, L)``, zero "same" padding, as the 2-D convolution that it is."""
    return nn.functional.conv2d(x, weight.unsqueeze(2), bias, padding=(0, weight.shape[-1] // 2))


class _LongConvolution(torch.autograd.Function):
    """The same for many frames on a CPU: oneDNN's own gradient to the weights grows faster than the sound."""

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
        # All samples in one row of frames, with zeros between them: tap i's gradient is x, i frames further, times dy.
        ahead = nn.functional.pad(x.squeeze(2).transpose(1, 2), (0, 0, taps // 2, taps // 2)).flatten(0, 1)
        length = len(ahead) - taps + 1
        behind = nn.functional.pad(dy.squeeze(2).transpose(1, 2), (0, 0, 0, taps - 1)).flatten(0, 1)[:length]
        dweight = torch.bmm(ahead.unfold(0, length, 1), behind.expand(taps, -1, -1)).permute(2, 1, 0)
        return dx, dweight, dy.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None


def factors(spec: Tensor, blocks: Sequence[BlockWeights]) -> tuple[Tensor, Tensor]:
    """Compute the two factors of a TFE's mask by the factorised form.

    Args:
        spec: the spectrogram ``(B, c_0, T, F)``.
        blocks: the weights of the blocks, first to last.

    Returns:
        ``e_t (B, c_n, T)`` and ``e_f (B, c_n, F)``, whose outer product is the mask, in the weights' dtype
        (under autocast in autocast's).
    """
    z_t, z_f = pool(spec, dtype=blocks[0].time.conv1_weight.dtype)
    e_t, e_f = _fast_path(z_t, blocks[0].time), _fast_path(z_f, blocks[0].freq)
    for block in blocks[1:]:
        z_t, z_f = e_t * e_f.mean(-1, keepdim=True), e_f * e_t.mean(-1, keepdim=True)
        e_t, e_f = _fast_path(z_t, block.time), _fast_path(z_f, block.freq)
    return e_t, e_f


@torch.fx.wrap
def apply_factors(spec: Tensor, e_t: Tensor, e_f: Tensor) -> Tensor:
    """Weigh a spectrogram ``(B, C, T, F)`` by the mask of ``e_t (B, C, T)`` and ``e_f (B, C, F)``; eq. (2).

    The result has the spectrogram's dtype.
    """
    e_t, e_f = e_t.to(spec.dtype), e_f.to(spec.dtype)
    if _own_gradients():
        return _ApplyFactors.apply(spec, e_t, e_f)
    return _apply_factors(spec, e_t, e_f)


def _apply_factors(spec: Tensor, e_t: Tensor, e_f: Tensor) -> Tensor:
    product = spec * e_t.unsqueeze(-1)
    # In place saves a tensor of the spectrogram's size, but under vmap the product may be one and the factor several.
    return product * e_f.unsqueeze(-2) if is_transformed() else product.mul_(e_f.unsqueeze(-2))


class _ApplyFactors(torch.autograd.Function):
    """The product with its gradient as two matrix products of ``dS' * S``, where autograd would write four such tensors."""

    generate_vmap_rule = True

    @staticmethod
    def forward(spec: Tensor, e_t: Tensor, e_f: Tensor) -> Tensor:
        return _apply_factors(spec, e_t, e_f)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        spec, e_t, e_f = ctx.saved_tensors
        # On a CPU sample by sample: their product stays in the cache, and a whole one is never in memory.
        eager = spec.device.type == "cpu" and not torch.compiler.is_compiling()
        de_t, de_f = [], []
        for saved in zip(*(x.split(1) if eager else (x,) for x in (dy, spec, e_t, e_f)), strict=True):
            dy_b, spec_b, e_t_b, e_f_b = saved
            product = dy_b * spec_b
            de_t.append((product @ e_f_b.unsqueeze(-1)).squeeze(-1))
            de_f.append((e_t_b.unsqueeze(-2) @ product).squeeze(-2))
        dspec = _apply_factors(dy, e_t, e_f) if ctx.needs_input_grad[0] else None
        return dspec, torch.cat(de_t), torch.cat(de_f)


@torch.fx.wrap
def enhance(spec: Tensor, blocks: Sequence[BlockWeights], backend: str = "auto") -> Tensor:
    """Weigh a spectrogram by a TFE's mask: ``S' = S * M_n``, eq. (2).

    Args:
        spec: the spectrogram ``(B, C, T, F)``.
        blocks: the weights of the blocks, first to last.
        backend: ``"torch"`` for the factorised form in PyTorch, ``"triton"`` for the fused kernels, ``"auto"`` for the
            fused kernels where they take the call (a CUDA or ROCm tensor within their limits), else PyTorch.

    Returns:
        A tensor of the spectrogram's shape and dtype.

    Raises:
        ValueError: for ``"triton"`` where the kernels cannot run, with the reason and the cure.
    """
    if backend == "torch":
        return apply_factors(spec, *factors(spec, blocks))
    weights = [weight for block in blocks for path in block for weight in path]
    if backend == "auto" and not spec.is_cuda:
        # Not asked of the kernels: on a CPU, "auto" never imports Triton, interpreter or not.
        reason: str | None = f"the spectrogram is on {spec.device.type!r}, and the fused kernels are for CUDA and ROCm"
    else:
        reason = _fused_refusal(spec, weights)
    if reason is None:
        import specenhance_kernels

        return specenhance_kernels.enhance(spec, cast(list[Tensor], weights))  # a None would have been refused
    if backend == "triton":
        raise ValueError(f"backend='triton' cannot run here: {reason}; or use backend='auto' or 'torch'")
    # Once a reason, and not while compiling: a log line would break the graph.
    if not torch.compiler.is_compiling() and reason not in _logged:
        _logged.add(reason)
        _log.debug("backend='auto' uses the factorised form in PyTorch: %s", reason)
    return apply_factors(spec, *factors(spec, blocks))


def triton_missing() -> str | None:
    """Say why the fused kernels cannot be imported, or None if they can; imports nothing."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; on Linux pip install triton brings it"
    if importlib.util.find_spec("specenhance_kernels") is None:
        return "the module specenhance_kernels is not installed; install specenhance again"
    return None


def _fused_refusal(spec: Tensor, weights: Sequence[Tensor | None]) -> str | None:
    if is_forward_mode():
        return "a forward-mode derivative is computed, and the fused kernels have none"
    # Here, not at the top: only a call that may use Triton imports it.
    try:
        import specenhance_kernels
    except ImportError as error:
        return triton_missing() or f"Triton cannot be imported ({error}); install it again"
    return specenhance_kernels.refusal(spec, weights)


def reference_mask(spec: Tensor, blocks: Sequence[BlockWeights]) -> Tensor:
    """Compute a TFE's mask ``(B, c_n, T, F)`` by the literal chain of the paper, every mask written out.

    Slow and large on purpose: use it to check other paths against, in float64.
    """
    mask = spec
    for block in blocks:
        mask = outer(_path(mask.mean(dim=-1), block.time), _path(mask.mean(dim=-2), block.freq))
    return mask


def reference_enhance(spec: Tensor, blocks: Sequence[BlockWeights]) -> Tensor:
    """Weigh a spectrogram by its literal mask: ``S' = S * M_n``, eq. (2)."""
    return spec * reference_mask(spec, blocks)
