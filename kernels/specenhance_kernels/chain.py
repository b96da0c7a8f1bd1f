"""Stage 2, the chain: one launch per Enhancer Block, with both paths and both convolutions; and its backward.

A program takes one tile of one path of one sample (a unit, see ``plan.py``). In forward a program

1. multiplies its input by the other path's means, standardises it where that is asked for (``standardise.py`` has computed the
   mean and the deviation), and stores the result with the halo of two convolutions,
2. convolves, applies the ReLU and stores the result with the halo of one convolution,
3. convolves, applies the sigmoid, and stores the positions that it owns and their sum. The next block makes means of the sums.

A mask is an outer product, so the next block's pooled input is ``e_t * mean(e_f)`` and ``e_f * mean(e_t)``. The first block's
pooled input is the pool's sum divided by the length.

A convolution is a matrix product, whose reduction runs over ``r = input channel * K + tap``. The weights are read as
``(c_out, r)``, as they lie in memory. The stored tile is read at ``position + tap``. The product is ``tl.dot`` with float32
sums. Triton cannot shift registers by a tap, so the first convolution's result goes to the second through memory. Each unit
writes and reads only its own part, with a barrier between. Backward needs these arrays too.

Why not fewer launches: a block's input needs the mean over *all* tiles of the other path. All programs must wait for it. The
end of a launch is the only such wait without the risk of a deadlock or of another order of summation.
"""

from __future__ import annotations

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from specenhance_kernels.configs import Arithmetic, chain_options, stages
from specenhance_kernels.plan import Plan

_SIZES = ["c_in", "c_out", "T", "F", "parts_f", "tiles_t", "tiles", "K", "span", "width"]


@triton.jit
def operand(value, OPERAND: tl.constexpr, WIDEN: tl.constexpr):
    """Round a value to the dtype that the matrix units multiply; with WIDEN convert it back to float32."""
    value = value.to(OPERAND)
    if WIDEN:
        value = value.to(tl.float32)
    return value


@triton.jit
def split_columns(r, K):
    """Split ``r = channel * K + tap`` into channel and tap by a multiplication; it is exact for K <= 31 and r < 4096."""
    channel = (r * ((131072 + K - 1) // K)) >> 17
    return channel, r - channel * K


@triton.jit
def unit_place(pid, tiles_t, tiles, T, F, span):
    """Give a program's sample, its path (0 time, 1 frequency), its first owned position and the length of its path."""
    tile = pid % tiles
    path = (tile >= tiles_t).to(tl.int32)
    first = (tile - path * tiles_t) * span
    length = tl.where(path == 0, T, F)
    return (pid // tiles).to(tl.int64), path, first, length


@triton.jit
def halo(first, length, half, TILE: tl.constexpr):
    """Give the places of a tile with the halo of two convolutions, their positions, and which lie within the path."""
    j = tl.arange(0, 2 * TILE)
    position = first - 2 * half + j
    return j, position, (position >= 0) & (position < length)


@triton.jit
def add_other_tiles(total, sums, c, channels, path, none, tiles_t, tiles):
    """Add ``sums (tiles, channels)`` over the tiles of the other path to ``total``, channels c; nothing if ``none`` is 1."""
    first = tl.where(path == 0, tiles_t, 0)
    last = tl.where(none == 1, first, tl.where(path == 0, tiles, tiles_t))
    for i in range(first, last):
        total += tl.load(sums + i * channels + c, mask=c < channels, other=0.0)
    return total


@triton.jit
def convolve(
    weight, m, rows, w_m, w_c, tile, width, channels, K, FLIP: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_R: tl.constexpr, TILE: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Convolve ``tile (channels, width)`` with rows m of a weight: ``acc[m, n] = sum over c, k of w[m, c, k] tile[c, n + k]``.

    ``w_m`` and ``w_c`` are the weight's strides along m and c. FLIP reverses the taps; with the two strides exchanged this is
    the transposed convolution. Columns n whose taps reach past the stored positions hold no valid value, and the caller drops
    them. They are read within their row of ``width``.
    """
    n = tl.arange(0, TILE)
    acc = tl.zeros([BLOCK_M, TILE], tl.float32)
    for first in range(0, channels * K, BLOCK_R):
        r = first + tl.arange(0, BLOCK_R)
        c, k = split_columns(r, K)
        real = r < channels * K
        tap = k
        if FLIP:
            tap = K - 1 - k
        w = tl.load(
            weight + (m[:, None] * w_m + (c * w_c + tap)[None, :]), mask=(m < rows)[:, None] & real[None, :], other=0.0
        )
        x = tl.load(tile + ((c * width + k)[:, None] + n[None, :]), mask=real[:, None], other=0.0)
        acc = tl.dot(operand(w, OPERAND, WIDEN), operand(x, OPERAND, WIDEN), acc, input_precision=PRECISION)
    return acc


@triton.jit(do_not_specialize=[*_SIZES, "means_known", "standardise"])
def block_forward_kernel(
    x_t, x_f, x_sums, w1_t, b1_t, w2_t, b2_t, w1_f, b1_f, w2_f, b2_f, means, z, hidden, e_t, e_f, sums, centre, scale,
    c_in, c_out, T, F, parts_f, tiles_t, tiles, K, span, width, means_known, standardise,
    BLOCK_C: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_R: tl.constexpr, TILE: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr, STAGE: tl.constexpr,
):  # fmt: skip
    """Run one block on one unit.

    The input is ``x_t (B, c_in, 1, T)`` and ``x_f (B, c_in, parts_f, F)``, summed over their parts. ``x_sums (B, tiles, c_in)``
    holds the input's sum of each tile, unless ``means_known`` is 1: then the input itself holds sums. If ``standardise`` is 1,
    ``centre`` and ``scale (B, 2, c_in)`` standardise it. The outputs have the layout of ``Plan.saved_shapes``.
    """
    pid = tl.program_id(0)
    sample, path, first, length = unit_place(pid, tiles_t, tiles, T, F, span)
    unit = pid.to(tl.int64)
    half = K // 2
    parts = tl.where(path == 0, 1, parts_f)
    x = tl.where(path == 0, x_t, x_f) + sample * c_in * parts * length
    z += unit * c_in * width
    hidden += unit * c_out * width
    means += unit * c_in
    sums += unit * c_out
    centre += (sample * 2 + path) * c_in
    scale += (sample * 2 + path) * c_in
    x_sums += sample * tiles * c_in

    if STAGE == 0 or STAGE == 1:
        j, position, inside = halo(first, length, half, TILE)
        for c0 in range(0, c_in, BLOCK_C):
            c = c0 + tl.arange(0, BLOCK_C)
            mean = tl.zeros([BLOCK_C], tl.float32) + means_known
            mean = add_other_tiles(mean, x_sums, c, c_in, path, means_known, tiles_t, tiles) / (T + F - length)
            tl.store(means + c, mean, mask=c < c_in)
            value = tl.zeros([BLOCK_C, 2 * TILE], tl.float32)
            for part in range(parts):
                value += tl.load(
                    x + ((c * parts + part)[:, None] * length + position[None, :]),
                    mask=(c < c_in)[:, None] & inside[None, :],
                    other=0.0,
                )
            # Every block has these loads: the addresses are always valid, and the kernel has no branch.
            less = tl.load(centre + c, mask=(c < c_in) & (standardise == 1), other=0.0)
            by = tl.load(scale + c, mask=(c < c_in) & (standardise == 1), other=1.0)
            value = (value * mean[:, None] - less[:, None]) * by[:, None]
            tl.store(
                z + ((c * width)[:, None] + j[None, :]),
                tl.where(inside[None, :], value, 0.0),  # the first convolution's zero padding
                mask=(c < c_in)[:, None] & (j < width)[None, :],
            )
    if STAGE == 0:
        tl.debug_barrier()
    n = tl.arange(0, TILE)
    if STAGE == 0 or STAGE == 2:
        w1, b1 = tl.where(path == 0, w1_t, w1_f), tl.where(path == 0, b1_t, b1_f)
        position = first - half + n
        inside = (position >= 0) & (position < length)
        for m0 in range(0, c_out, BLOCK_M):
            m = m0 + tl.arange(0, BLOCK_M)
            acc = convolve(
                w1, m, c_out, c_in * K, K, z, width, c_in, K, False, BLOCK_M, BLOCK_R, TILE, OPERAND, PRECISION, WIDEN
            )
            acc += tl.load(b1 + m, mask=m < c_out, other=0.0).to(tl.float32)[:, None]
            acc = tl.where(acc < 0, 0.0, acc)  # unlike a maximum, keeps a NaN, as PyTorch's ReLU does
            acc = tl.where(inside[None, :], acc, 0.0)  # the second convolution's zero padding
            tl.store(hidden + ((m * width)[:, None] + n[None, :]), acc, mask=(m < c_out)[:, None])
            # The rest of a row is read only for columns that are dropped. It is written so that all saved values are defined.
            rest = TILE + tl.arange(0, 32)
            tl.store(
                hidden + ((m * width)[:, None] + rest[None, :]),
                tl.zeros([BLOCK_M, 32], tl.float32),
                mask=(m < c_out)[:, None] & (rest < width)[None, :],
            )
    if STAGE == 0:
        tl.debug_barrier()
    if STAGE == 0 or STAGE == 3:
        w2, b2 = tl.where(path == 0, w2_t, w2_f), tl.where(path == 0, b2_t, b2_f)
        e = tl.where(path == 0, e_t, e_f) + sample * c_out * length
        position = first + n
        owned = (n < span) & (position < length)
        for m0 in range(0, c_out, BLOCK_M):
            m = m0 + tl.arange(0, BLOCK_M)
            acc = convolve(
                w2, m, c_out, c_out * K, K, hidden, width, c_out, K, False, BLOCK_M, BLOCK_R, TILE,
                OPERAND, PRECISION, WIDEN,
            )  # fmt: skip
            acc += tl.load(b2 + m, mask=m < c_out, other=0.0).to(tl.float32)[:, None]
            acc = tl.where(owned[None, :], tl.sigmoid(acc), 0.0)
            tl.store(e + (m[:, None] * length + position[None, :]), acc, mask=(m < c_out)[:, None] & owned[None, :])
            tl.store(sums + m, tl.sum(acc, 1), mask=m < c_out)


@triton.jit(do_not_specialize=[*_SIZES, "last", "d_channels", "has_before", "standardise"])
def block_backward_kernel(
    de_t, de_f, shifts, e_t, e_f, hidden, means, before_t, before_f, w1_t, w2_t, w1_f, w2_f,
    da, dh, dx_t, dx_f, dx_shifts,
    c_in, c_out, T, F, parts_f, tiles_t, tiles, K, span, width, last, d_channels, has_before, standardise,
    BLOCK_C: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_R: tl.constexpr, TILE: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr, STAGE: tl.constexpr,
):  # fmt: skip
    """Carry the gradient of one block's output back to its input, on one unit.

    The output's gradient is ``de_t (B, c_out, 1, T)`` and ``de_f (B, c_out, parts_f, F)``, summed over the parts. Unless the
    block is the ``last``, the gradient through its mean is added: the other path's ``shifts (B, tiles, c_out)``, summed over
    tiles and divided by its own length. The kernel writes the gradients ``da (B, tiles, c_out, width)`` before the sigmoid and
    ``dh (B, tiles, c_out, width)`` before the ReLU; the weights' gradients need them. For the first ``d_channels`` input
    channels it writes ``dx (B, c_in, L)``, times the mean, and, if there is a block before, ``dx_shifts (B, tiles, c_in)``. If
    ``standardise`` is 1, it writes only the gradient of the standardised input, to ``dx``.
    """
    pid = tl.program_id(0)
    sample, path, first, length = unit_place(pid, tiles_t, tiles, T, F, span)
    unit = pid.to(tl.int64)
    half = K // 2
    parts = tl.where(path == 0, 1, parts_f)
    de = tl.where(path == 0, de_t, de_f) + sample * c_out * parts * length
    e = tl.where(path == 0, e_t, e_f) + sample * c_out * length
    da += unit * c_out * width
    dh += unit * c_out * width
    hidden += unit * c_out * width
    means += unit * c_in
    dx_shifts += unit * c_in
    shifts += sample * tiles * c_out

    if STAGE == 0 or STAGE == 1:
        j, position, inside = halo(first, length, half, TILE)
        for c0 in range(0, c_out, BLOCK_C):
            c = c0 + tl.arange(0, BLOCK_C)
            shift = tl.zeros([BLOCK_C], tl.float32)
            shift = add_other_tiles(shift, shifts, c, c_out, path, last, tiles_t, tiles)
            grad = tl.zeros([BLOCK_C, 2 * TILE], tl.float32) + (shift / length)[:, None]
            real = (c < c_out)[:, None] & inside[None, :]
            for part in range(parts):
                grad += tl.load(de + ((c * parts + part)[:, None] * length + position[None, :]), mask=real, other=0.0)
            value = tl.load(e + (c[:, None] * length + position[None, :]), mask=real, other=0.0)
            tl.store(
                da + ((c * width)[:, None] + j[None, :]),
                grad * value * (1.0 - value),  # outside the path value is 0: the zero padding
                mask=(c < c_out)[:, None] & (j < width)[None, :],
            )
    if STAGE == 0:
        tl.debug_barrier()
    n = tl.arange(0, TILE)
    if STAGE == 0 or STAGE == 2:
        w2 = tl.where(path == 0, w2_t, w2_f)
        for m0 in range(0, c_out, BLOCK_M):
            m = m0 + tl.arange(0, BLOCK_M)
            acc = convolve(
                w2, m, c_out, K, c_out * K, da, width, c_out, K, True, BLOCK_M, BLOCK_R, TILE, OPERAND, PRECISION, WIDEN
            )
            place = (m * width)[:, None] + n[None, :]
            kept = tl.load(hidden + place, mask=(m < c_out)[:, None], other=0.0)  # 0 outside the path
            tl.store(dh + place, tl.where(kept == 0, 0.0, acc), mask=(m < c_out)[:, None])
    if STAGE == 0:
        tl.debug_barrier()
    if STAGE == 0 or STAGE == 3:
        w1 = tl.where(path == 0, w1_t, w1_f)
        before = tl.where(path == 0, before_t, before_f) + sample * c_in * length
        dx = tl.where(path == 0, dx_t, dx_f) + sample * c_in * length
        position = first + n
        owned = (n < span) & (position < length)
        for m0 in range(0, d_channels, BLOCK_M):
            m = m0 + tl.arange(0, BLOCK_M)
            acc = convolve(
                w1, m, c_in, K, c_in * K, dh, width, c_out, K, True, BLOCK_M, BLOCK_R, TILE, OPERAND, PRECISION, WIDEN
            )
            real = (m < c_in)[:, None] & owned[None, :]
            place = m[:, None] * length + position[None, :]
            mean = tl.load(means + m, mask=(m < c_in) & (standardise == 0), other=1.0)
            tl.store(dx + place, acc * mean[:, None], mask=real)
            # Every block has this load: the address is always valid, and the kernel has no branch.
            value = tl.load(before + place, mask=real & (has_before == 1), other=0.0)
            tl.store(dx_shifts + m, tl.sum(tl.where(real, acc * value, 0.0), 1), mask=(m < c_in) & (has_before == 1))


def block_forward(
    block: int,
    x_t: Tensor,
    x_f: Tensor,
    x_sums: Tensor | None,
    weights: Sequence[Tensor],
    saved: dict[str, Tensor],
    plan: Plan,
    math: Arithmetic,
) -> None:
    """Run block number ``block`` and fill its arrays in ``saved``; 1 launch, on ROCm 3.

    If the input is standardised, ``saved`` has its ``centre`` and ``scale`` already.

    Args:
        block: The block's number, from 0.
        x_t, x_f: The input ``(B, c_in, T)`` and ``(B, c_in, F)`` or, for the pool's partial sums, ``(B, c_in, parts, F)``.
        x_sums: The input's sum of each tile ``(B, tiles, c_in)``; None for the first block, whose input is sums.
        weights: The block's 8 weights and biases, time path first.
        saved: The saved arrays by name, see :meth:`Plan.saved_shapes`.
        plan, math: The plan and the arithmetic of this call.
    """
    c_in, c_out = plan.blocks[block]
    own = [saved[f"{name}.{block}"] for name in ("means", "z", "hidden", "e_t", "e_f", "sums")]
    # Placeholders where nothing is standardised: none is read.
    own += [saved[f"{name}.{block}"] for name in (("centre", "scale") if plan.standardise else ("means", "means"))]
    for stage in stages():
        block_forward_kernel[(plan.B * plan.tiles,)](
            x_t, x_f, x_t if x_sums is None else x_sums, *weights, *own, *_sizes(c_in, c_out, x_f, plan),
            int(x_sums is None), int(plan.standardise), **chain_options(c_in, c_out, math, stage),
        )  # fmt: skip


def block_backward(
    block: int,
    de_t: Tensor,
    de_f: Tensor,
    shifts: Tensor | None,
    weights: Sequence[Tensor],
    saved: dict[str, Tensor],
    da: Tensor,
    dh: Tensor,
    dx: tuple[Tensor, Tensor, Tensor] | None,
    plan: Plan,
    math: Arithmetic,
) -> None:
    """Carry a gradient back through block number ``block``; 1 launch, on ROCm 3.

    Args:
        block: The block's number, from 0.
        de_t, de_f: The output's gradient ``(B, c_out, T)`` and ``(B, c_out, F)`` or, in parts, ``(B, c_out, parts, F)``.
        shifts: The third array of ``dx`` of the next block ``(B, tiles, c_out)``; None for the last block.
        weights: The block's 8 weights and biases, time path first.
        saved: The saved arrays by name, see :meth:`Plan.saved_shapes`.
        da, dh: The arrays ``(B, tiles, c_out, width)`` to fill.
        dx: The arrays ``(B, c_in, T)``, ``(B, c_in, F)`` and ``(B, tiles, c_in)`` to fill; None where no gradient is needed.
            If the input is standardised, the first two get the gradient of the standardised input, and the third nothing.
        plan, math: The plan and the arithmetic of this call.
    """
    c_in, c_out = plan.blocks[block]
    e_t, e_f, hidden, means = (saved[f"{name}.{block}"] for name in ("e_t", "e_f", "hidden", "means"))
    before_t, before_f = (saved[f"e_t.{block - 1}"], saved[f"e_f.{block - 1}"]) if block else (e_t, e_f)
    dx_t, dx_f, dx_shifts = (e_t, e_f, means) if dx is None else dx  # placeholders: with d_channels = 0 none is written
    for stage in stages():
        block_backward_kernel[(plan.B * plan.tiles,)](
            de_t, de_f, de_t if shifts is None else shifts, e_t, e_f, hidden, means, before_t, before_f,
            weights[0], weights[2], weights[4], weights[6], da, dh, dx_t, dx_f, dx_shifts,
            *_sizes(c_in, c_out, de_f, plan), int(shifts is None), 0 if dx is None else c_in,
            int(block > 0 and not plan.standardise), int(plan.standardise), **chain_options(c_in, c_out, math, stage),
        )  # fmt: skip


def parts_of(x_f: Tensor) -> int:
    """Count the parts of a frequency path's input: ``(B, c_in, parts, F)``, or one ``(B, c_in, F)``."""
    return x_f.shape[2] if x_f.ndim == 4 else 1


def _sizes(c_in: int, c_out: int, x_f: Tensor, plan: Plan) -> tuple[int, ...]:
    return c_in, c_out, plan.T, plan.F, parts_of(x_f), plan.tiles_t, plan.tiles, plan.kernel, plan.span, plan.width
