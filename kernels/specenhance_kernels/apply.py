"""Stage 3, apply: ``S' = S * e_t * e_f``, and its backward.

Both kernels cut a plane as the pool does: a program takes 64 frames of one channel of one sample and loops over the bins.

Backward needs two passes over the planes. The first makes ``de_t`` and ``de_f``. From these the chain's backward makes ``g_t``
and ``g_f``. The second makes the gradient of S from them. A spectrogram that needs no gradient needs only the first pass.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from specenhance_kernels.configs import plane_options
from specenhance_kernels.plan import Plan
from specenhance_kernels.planes import plane_place, plane_rows

_SIZES = ["C", "T", "F", "tiles"]


@triton.jit(do_not_specialize=_SIZES)
def weigh_kernel(
    x, e_t, e_f, g_t, g_f, out, C, T, F, tiles, xs_b, xs_c, xs_t, xs_f, os_b, os_c, os_t, os_f,
    ADD: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_F: tl.constexpr,
):  # fmt: skip
    """Write ``x * e_t * e_f``, with ADD ``x * e_t * e_f + g_t + g_f``, for planes ``(B, C, T, F)``.

    ``e_t`` and ``g_t`` are ``(B, C, T)``, ``e_f`` and ``g_f`` ``(B, C, F)``.
    """
    pid = tl.program_id(0)
    plane, t = plane_place(pid, tiles, BLOCK_T)
    x = plane_rows(x, plane, t, C, xs_b, xs_c, xs_t)
    out = plane_rows(out, plane, t, C, os_b, os_c, os_t)
    weight_t = tl.load(e_t + plane * T + t, mask=t < T, other=0.0)
    if ADD:
        add_t = tl.load(g_t + plane * T + t, mask=t < T, other=0.0)
    for first in range(0, F, BLOCK_F):
        f = first + tl.arange(0, BLOCK_F)
        inside = (t < T)[:, None] & (f < F)[None, :]
        weight_f = tl.load(e_f + plane * F + f, mask=f < F, other=0.0)
        value = tl.load(x + f.to(tl.int64)[None, :] * xs_f, mask=inside, other=0.0).to(tl.float32)
        value = value * weight_t[:, None] * weight_f[None, :]
        if ADD:
            add_f = tl.load(g_f + plane * F + f, mask=f < F, other=0.0)
            value += add_t[:, None] + add_f[None, :]
        tl.store(out + f.to(tl.int64)[None, :] * os_f, value.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=_SIZES)
def factor_grad_kernel(
    dy, x, e_t, e_f, d_t, d_f, C, T, F, tiles, ys_b, ys_c, ys_t, ys_f, xs_b, xs_c, xs_t, xs_f,
    BLOCK_T: tl.constexpr, BLOCK_F: tl.constexpr,
):  # fmt: skip
    """Write ``d_t (B, C, T) = sum_f dy x e_f`` and ``d_f (B, C, tiles, F) = sum_t dy x e_t``, one row per tile of frames."""
    pid = tl.program_id(0)
    plane, t = plane_place(pid, tiles, BLOCK_T)
    dy = plane_rows(dy, plane, t, C, ys_b, ys_c, ys_t)
    x = plane_rows(x, plane, t, C, xs_b, xs_c, xs_t)
    d_f += pid.to(tl.int64) * F
    weight_t = tl.load(e_t + plane * T + t, mask=t < T, other=0.0)
    total = tl.zeros([BLOCK_T], tl.float32)
    for first in range(0, F, BLOCK_F):
        f = first + tl.arange(0, BLOCK_F)
        inside = (t < T)[:, None] & (f < F)[None, :]
        weight_f = tl.load(e_f + plane * F + f, mask=f < F, other=0.0)
        value = tl.load(dy + f.to(tl.int64)[None, :] * ys_f, mask=inside, other=0.0).to(tl.float32)
        value *= tl.load(x + f.to(tl.int64)[None, :] * xs_f, mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(value * weight_f[None, :], 1)
        tl.store(d_f + f, tl.sum(value * weight_t[:, None], 0), mask=f < F)
    tl.store(d_t + plane * T + t, total, mask=t < T)


def apply(spec: Tensor, e_t: Tensor, e_f: Tensor, out: Tensor, plan: Plan) -> None:
    """Fill ``out`` with ``spec (B, C, T, F)`` times ``e_t (B, C, T)`` and ``e_f (B, C, F)``; 1 launch."""
    _weigh(spec, e_t, e_f, None, None, out, plan)


def apply_backward(dy: Tensor, spec: Tensor, e_t: Tensor, e_f: Tensor, d_t: Tensor, d_f: Tensor, plan: Plan) -> None:
    """Fill ``d_t (B, C, T)`` and ``d_f (B, C, parts, F)`` from ``dy`` and ``spec (B, C, T, F)`` in one read; 1 launch."""
    B, C, T, F = spec.shape
    factor_grad_kernel[(B * C * plan.parts,)](
        dy, spec, e_t, e_f, d_t, d_f, C, T, F, plan.parts, *dy.stride(), *spec.stride(), **plane_options()
    )


def spec_grad(dy: Tensor, e_t: Tensor, e_f: Tensor, g_t: Tensor, g_f: Tensor, out: Tensor, plan: Plan) -> None:
    """Fill ``out (B, C, T, F)`` with ``dy * e_t * e_f + g_t + g_f``, the gradient of the spectrogram; 1 launch."""
    _weigh(dy, e_t, e_f, g_t, g_f, out, plan)


def _weigh(
    x: Tensor, e_t: Tensor, e_f: Tensor, g_t: Tensor | None, g_f: Tensor | None, out: Tensor, plan: Plan
) -> None:
    B, C, T, F = x.shape
    weigh_kernel[(B * C * plan.parts,)](
        x, e_t, e_f, e_t if g_t is None else g_t, e_f if g_f is None else g_f, out, C, T, F, plan.parts,
        *x.stride(), *out.stride(), ADD=g_t is not None, **plane_options(),
    )  # fmt: skip
