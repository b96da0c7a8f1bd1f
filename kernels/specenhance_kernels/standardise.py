"""The standardisation of a path's means before a block, and its backward: each one launch per block.

A block's input is ``u (c_in, L)`` on each path. The standardised input is ``(u - mean) / sqrt(max(variance, EPS))``, over the
whole path. The chain takes a path in tiles and cannot know the whole. So a program here takes one path of one sample, in two
passes: the first for the mean, the second for the variance. A variance as the difference of two sums would be lost to
rounding, because a mask varies little.

The chain's backward leaves the gradient ``dz`` of the standardised input in ``dx``. The backward here turns it into that of
the input, in place: ``du = (dz - mean(dz) - z * mean(dz * z)) / sqrt(variance)``. Where the variance is below EPS the last term
is 0.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from specenhance_kernels.chain import add_other_tiles, parts_of
from specenhance_kernels.configs import path_options
from specenhance_kernels.plan import Plan

EPS = 1e-8
_SIZES = ["c_in", "T", "F", "parts_f", "tiles_t", "tiles"]


@triton.jit
def path_place(pid, tiles_t, tiles, T, F):
    """Give a program's sample, its path (0 time, 1 frequency), the path's length and its number of tiles."""
    path = pid % 2
    return (pid // 2).to(tl.int64), path, tl.where(path == 0, T, F), tl.where(path == 0, tiles_t, tiles - tiles_t)


@triton.jit
def load_input(x, c, c_in, parts, length, position):
    """Load the input ``x (c_in, parts, length)``, summed over its parts, for channels c and positions."""
    value = tl.zeros([c.shape[0], position.shape[0]], tl.float32)
    real = (c < c_in)[:, None] & (position < length)[None, :]
    for part in range(parts):
        value += tl.load(x + ((c * parts + part)[:, None] * length + position[None, :]), mask=real, other=0.0)
    return value


@triton.jit(do_not_specialize=[*_SIZES, "means_known"])
def moments_kernel(
    x_t, x_f, x_sums, centre, scale, c_in, T, F, parts_f, tiles_t, tiles, means_known, eps,
    BLOCK_C: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    """Write the mean of a path's input to ``centre (B, 2, c_in)``, and 1 / its standard deviation to ``scale (B, 2, c_in)``.

    The other arguments are those of ``chain.block_forward_kernel``.
    """
    pid = tl.program_id(0)
    sample, path, length, _ = path_place(pid, tiles_t, tiles, T, F)
    parts = tl.where(path == 0, 1, parts_f)
    x = tl.where(path == 0, x_t, x_f) + sample * c_in * parts * length
    x_sums += sample * tiles * c_in
    for c0 in range(0, c_in, BLOCK_C):
        c = c0 + tl.arange(0, BLOCK_C)
        factor = tl.zeros([BLOCK_C], tl.float32) + means_known
        factor = add_other_tiles(factor, x_sums, c, c_in, path, means_known, tiles_t, tiles) / (T + F - length)
        total = tl.zeros([BLOCK_C], tl.float32)
        for first in range(0, length, BLOCK_L):
            total += tl.sum(load_input(x, c, c_in, parts, length, first + tl.arange(0, BLOCK_L)), 1)
        mean = total * factor / length
        square = tl.zeros([BLOCK_C], tl.float32)
        for first in range(0, length, BLOCK_L):
            position = first + tl.arange(0, BLOCK_L)
            u = load_input(x, c, c_in, parts, length, position) * factor[:, None] - mean[:, None]
            square += tl.sum(tl.where((position < length)[None, :], u * u, 0.0), 1)
        variance = square / length
        # Unlike a maximum, this keeps a NaN, as PyTorch's clamp does.
        variance = tl.where(variance < eps, eps, variance)
        place = pid.to(tl.int64) * c_in + c
        tl.store(centre + place, mean, mask=c < c_in)
        tl.store(scale + place, 1.0 / tl.sqrt(variance), mask=c < c_in)


@triton.jit(do_not_specialize=[*_SIZES, "has_before"])
def standardise_backward_kernel(
    x_t, x_f, means, centre, scale, dx_t, dx_f, dx_shifts, c_in, T, F, parts_f, tiles_t, tiles, has_before, eps,
    BLOCK_C: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    """Turn the gradient of the standardised input, in ``dx_t`` and ``dx_f``, into that of the input.

    If there is a block before, ``dx_shifts (B, tiles, c_in)`` gets the gradient of the other path's mean: the first tile of
    this path gets it whole, the others 0.
    """
    pid = tl.program_id(0)
    sample, path, length, own_tiles = path_place(pid, tiles_t, tiles, T, F)
    parts = tl.where(path == 0, 1, parts_f)
    x = tl.where(path == 0, x_t, x_f) + sample * c_in * parts * length
    dx = tl.where(path == 0, dx_t, dx_f) + sample * c_in * length
    unit = sample * tiles + path * tiles_t
    means += unit * c_in
    dx_shifts += unit * c_in
    for c0 in range(0, c_in, BLOCK_C):
        c = c0 + tl.arange(0, BLOCK_C)
        factor = tl.load(means + c, mask=c < c_in, other=0.0)
        mean = tl.load(centre + pid.to(tl.int64) * c_in + c, mask=c < c_in, other=0.0)
        by = tl.load(scale + pid.to(tl.int64) * c_in + c, mask=c < c_in, other=0.0)
        sum_d = tl.zeros([BLOCK_C], tl.float32)
        sum_dz = tl.zeros([BLOCK_C], tl.float32)
        for first in range(0, length, BLOCK_L):
            position = first + tl.arange(0, BLOCK_L)
            real = (c < c_in)[:, None] & (position < length)[None, :]
            z = (load_input(x, c, c_in, parts, length, position) * factor[:, None] - mean[:, None]) * by[:, None]
            d = tl.load(dx + (c[:, None] * length + position[None, :]), mask=real, other=0.0)
            sum_d += tl.sum(d, 1)
            sum_dz += tl.sum(d * z, 1)
        follows = tl.where(by * by * eps < 1.0, sum_dz / length, 0.0)
        shift = tl.zeros([BLOCK_C], tl.float32)
        for first in range(0, length, BLOCK_L):
            position = first + tl.arange(0, BLOCK_L)
            real = (c < c_in)[:, None] & (position < length)[None, :]
            place = c[:, None] * length + position[None, :]
            value = load_input(x, c, c_in, parts, length, position)
            z = (value * factor[:, None] - mean[:, None]) * by[:, None]
            d = tl.load(dx + place, mask=real, other=0.0)
            du = (d - (sum_d / length)[:, None] - z * follows[:, None]) * by[:, None]
            tl.store(dx + place, du * factor[:, None], mask=real)
            shift += tl.sum(tl.where(real, du * value, 0.0), 1)
        for tile in range(0, own_tiles):
            tl.store(dx_shifts + tile * c_in + c, tl.where(tile == 0, shift, 0.0), mask=(c < c_in) & (has_before == 1))


def moments(block: int, x_t: Tensor, x_f: Tensor, x_sums: Tensor | None, saved: dict[str, Tensor], plan: Plan) -> None:
    """Fill ``centre`` and ``scale`` of block number ``block``; 1 launch. The arguments are those of ``chain.block_forward``."""
    moments_kernel[(2 * plan.B,)](
        x_t, x_f, x_t if x_sums is None else x_sums, saved[f"centre.{block}"], saved[f"scale.{block}"],
        *_sizes(block, x_f, plan), int(x_sums is None), EPS, **path_options(),
    )  # fmt: skip


def standardise_backward(
    block: int,
    x_t: Tensor,
    x_f: Tensor,
    saved: dict[str, Tensor],
    dx: tuple[Tensor, Tensor, Tensor],
    plan: Plan,
) -> None:
    """Turn ``dx`` as ``chain.block_backward`` left it into the gradient of the input of block number ``block``; 1 launch."""
    own = [saved[f"{name}.{block}"] for name in ("means", "centre", "scale")]
    standardise_backward_kernel[(2 * plan.B,)](
        x_t, x_f, *own, *dx, *_sizes(block, x_f, plan), int(block > 0), EPS, **path_options()
    )


def _sizes(block: int, x_f: Tensor, plan: Plan) -> tuple[int, ...]:
    return plan.blocks[block][0], plan.T, plan.F, parts_of(x_f), plan.tiles_t, plan.tiles
