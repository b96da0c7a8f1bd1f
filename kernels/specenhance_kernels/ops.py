"""The operators ``specenhance::enhance`` and ``specenhance::enhance_backward``, and the public function that calls them.

They are made by ``custom_op``. ``triton_op`` would let Inductor see the kernels, but its ``wrap_triton`` refuses interpreted
kernels, and Inductor has nothing to fuse here. No operator synchronises with the host, and allocations depend only on shapes.
So a CUDA graph can capture both operators.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specenhance_kernels.apply import apply, apply_backward, spec_grad
from specenhance_kernels.chain import block_backward, block_forward
from specenhance_kernels.configs import arithmetic
from specenhance_kernels.limits import refusal
from specenhance_kernels.plan import make_plan
from specenhance_kernels.pool import pool
from specenhance_kernels.standardise import moments, standardise_backward
from specenhance_kernels.weights import sum_segments, weight_grad


def enhance(spec: Tensor, weights: Sequence[Tensor], standardise: bool = False) -> Tensor:
    """Weigh a spectrogram by the mask of a chain of Enhancer Blocks: ``S' = S * M_n``.

    Forward takes n + 2 launches. Backward takes 2 n + 2, and one more if the spectrogram needs a gradient. To standardise takes
    n more in each. Sums are float32.
    The convolutions' matrix products have the weights' dtype or, for float32 weights under autocast, autocast's dtype. float32
    products have the precision that PyTorch's own convolutions would have at that moment.

    Args:
        spec: The spectrogram ``(B, C, T, F)``, of any strides and any B, T, F; float32, bfloat16 or float16.
        weights: 8 tensors per block, all of one dtype: for the time path, then the frequency path, ``conv1.weight (c_out, c_in,
            K)``, ``conv1.bias (c_out,)``, ``conv2.weight (c_out, c_out, K)``, ``conv2.bias (c_out,)``.
        standardise: Whether each path gives its means mean 0 and variance 1 along their axis, before each block.

    Returns:
        A tensor of the spectrogram's shape, dtype and, where it is dense, strides.

    Raises:
        ValueError: for arguments that the kernels do not accept; the message has :func:`specenhance_kernels.refusal`'s reason.
    """
    reason = refusal(spec, weights)
    if reason is not None:
        raise ValueError(f"the fused kernels cannot run: {reason}")
    kind, operand = spec.device.type, weights[0].dtype
    if operand == torch.float32 and torch.is_autocast_enabled(kind):
        operand = torch.get_autocast_dtype(kind)
    return torch.ops.specenhance.enhance(spec, list(weights), operand, standardise)[0]


@torch.library.custom_op("specenhance::enhance", mutates_args=())
def enhance_op(
    spec: Tensor, weights: list[Tensor], operand: torch.dtype, standardise: bool
) -> tuple[Tensor, list[Tensor]]:
    """Give S' ``(B, C, T, F)`` and the 1-D arrays that backward needs, in the order of ``Plan.saved_shapes``."""
    plan, math = make_plan(spec.shape, weights, standardise), arithmetic(operand, spec.device)
    out = torch.empty_like(spec)
    saved = {
        name: torch.empty(shape, dtype=torch.float32, device=spec.device) for name, shape in plan.saved_shapes().items()
    }
    if spec.numel() == 0:
        return out, list(saved.values())
    weights = [weight.contiguous() for weight in weights]
    pool(spec, saved["rows"], saved["cols"], plan)
    x_t, x_f, x_sums = saved["rows"], saved["cols"], None
    for j in range(len(plan.blocks)):
        if standardise:
            moments(j, x_t, x_f, x_sums, saved, plan)
        block_forward(j, x_t, x_f, x_sums, weights[8 * j : 8 * j + 8], saved, plan, math)
        x_t, x_f, x_sums = (saved[f"{name}.{j}"] for name in ("e_t", "e_f", "sums"))
    apply(spec, x_t, x_f, out, plan)
    return out, list(saved.values())


@enhance_op.register_fake
def _(spec: Tensor, weights: list[Tensor], operand: torch.dtype, standardise: bool) -> tuple[Tensor, list[Tensor]]:
    shapes = make_plan(spec.shape, weights, standardise).saved_shapes().values()
    return torch.empty_like(spec), [spec.new_empty(shape, dtype=torch.float32) for shape in shapes]


@torch.library.custom_op("specenhance::enhance_backward", mutates_args=())
def enhance_backward_op(
    dy: Tensor,
    spec: Tensor,
    saved_list: list[Tensor],
    weights: list[Tensor],
    operand: torch.dtype,
    standardise: bool,
    need_spec: bool,
    need_weights: bool,
) -> tuple[Tensor, Tensor]:
    """Give dS ``(B, C, T, F)`` and the flat gradient of all weights; one that is not needed is empty."""
    plan, math = make_plan(spec.shape, weights, standardise), arithmetic(operand, spec.device)
    d_spec, d_weights = _backward_outputs(spec, weights, need_spec, need_weights)
    if spec.numel() == 0:
        return d_spec, d_weights.zero_()
    weights = [weight.contiguous() for weight in weights]
    saved = dict(zip(plan.saved_shapes(), saved_list, strict=True))
    B, C, T, F = spec.shape
    n = len(plan.blocks)

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=spec.device)

    de_t, de_f, shifts = empty(B, C, T), empty(B, C, plan.parts, F), None
    last_t, last_f = saved[f"e_t.{n - 1}"], saved[f"e_f.{n - 1}"]
    apply_backward(dy, spec, last_t, last_f, de_t, de_f, plan)
    partial = empty(plan.segments, plan.weights) if need_weights else None
    for j in reversed(range(n)):
        c_in, c_out = plan.blocks[j]
        da, dh = (empty(B, plan.tiles, c_out, plan.width) for _ in range(2))
        dx = (empty(B, c_in, T), empty(B, c_in, F), empty(B, plan.tiles, c_in)) if j or need_spec else None
        block_backward(j, de_t, de_f, shifts, weights[8 * j : 8 * j + 8], saved, da, dh, dx, plan, math)
        if partial is not None:
            weight_grad(j, saved, da, dh, partial, plan, math)
        if dx is not None:
            if standardise:
                x = ("rows", "cols") if j == 0 else (f"e_t.{j - 1}", f"e_f.{j - 1}")
                standardise_backward(j, saved[x[0]], saved[x[1]], saved, dx, plan)
            de_t, de_f, shifts = dx
    if partial is not None:
        sum_segments(partial, d_weights)
    if need_spec:
        spec_grad(dy, last_t, last_f, de_t, de_f, d_spec, plan)
    return d_spec, d_weights


def _backward_outputs(
    spec: Tensor, weights: list[Tensor], need_spec: bool, need_weights: bool
) -> tuple[Tensor, Tensor]:
    total = sum(weight.numel() for weight in weights) if need_weights else 0
    d_spec = torch.empty_like(spec) if need_spec else spec.new_empty(0)
    return d_spec, weights[0].new_empty(total)


enhance_backward_op.register_fake(
    lambda dy, spec, saved_list, weights, operand, standardise, need_spec, need_weights: _backward_outputs(
        spec, weights, need_spec, need_weights
    )
)


def _setup_context(ctx, inputs, output) -> None:
    spec, weights, ctx.operand, ctx.standardise = inputs
    ctx.mark_non_differentiable(*output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(spec, *weights, *output[1])
    ctx.weights = len(weights)


def _backward(ctx, dy, _):
    spec, *rest = ctx.saved_tensors
    weights, saved = rest[: ctx.weights], rest[ctx.weights :]
    if dy is None:
        return None, [None] * len(weights), None, None
    need_spec, need_weights = ctx.needs_input_grad[0], any(ctx.needs_input_grad[1])
    d_spec, d_weights = torch.ops.specenhance.enhance_backward(
        dy, spec, saved, weights, ctx.operand, ctx.standardise, need_spec, need_weights
    )
    grads: list[Tensor | None] = [None] * len(weights)
    if need_weights:
        pieces = d_weights.split([weight.numel() for weight in weights])
        grads = [piece.view(weight.shape) for piece, weight in zip(pieces, weights, strict=True)]
    return d_spec if need_spec else None, grads, None, None


def _no_second_derivative(ctx, *grads):
    raise RuntimeError(
        "the fused kernels have no second derivative, and one was asked for (create_graph=True); "
        "make the front end with backend='torch', which has"
    )


enhance_op.register_autograd(_backward, setup_context=_setup_context)
enhance_backward_op.register_autograd(_no_second_derivative)
