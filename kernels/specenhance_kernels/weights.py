"""The gradients of the chain's weights: a matrix product over all units, in two launches of fixed order.

For each convolution, ``dW[m, (c, k)] = sum over samples and positions of grad[m, l] * input[c, l + k]``. The stored tiles of
``chain.py`` hold both factors with their halo, so no edge needs special care. One launch per block takes both paths and both
convolutions. The sum is cut into segments, and each segment writes its own partial result. One launch for all blocks adds the
segments. The bias's gradient is the sum of ``grad``; the program of a weight's first columns computes it too.

Why one launch per block: the blocks' arrays are separate tensors. A kernel that reads all of them would need a table of their
addresses, copied to the card at each call.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from specenhance_kernels.chain import operand, split_columns
from specenhance_kernels.configs import Arithmetic, sum_options, weight_options
from specenhance_kernels.plan import Plan


@triton.jit(
    do_not_specialize=[
        "B",
        "c_in",
        "c_out",
        "T",
        "F",
        "tiles_t",
        "tiles",
        "K",
        "span",
        "width",
        "start",
        "row",
        "segments",
    ]
)
def weight_grad_kernel(
    z, hidden, da, dh, partial, B, c_in, c_out, T, F, tiles_t, tiles, K, span, width, start, row, segments,
    BLOCK_M: tl.constexpr, BLOCK_R: tl.constexpr, STEP: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Write one tile of one weight's gradient, summed over one segment of the units, to ``partial (segments, row)``."""
    pid = tl.program_id(0)
    segment = pid % segments
    path = (pid // segments) % 2
    rows_of_tiles = tl.cdiv(c_out, BLOCK_M)
    m = (pid // (2 * segments)) % rows_of_tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    column = pid // (2 * segments * rows_of_tiles)
    first_columns = tl.cdiv(c_in * K, BLOCK_R)
    second = column >= first_columns  # which convolution
    r = (column - tl.where(second, first_columns, 0)) * BLOCK_R + tl.arange(0, BLOCK_R)

    half = K // 2
    source, source_first = tl.where(second, hidden, z), tl.where(second, 0, half)
    grad, grad_first = tl.where(second, da, dh), tl.where(second, 2 * half, half)
    channels = tl.where(second, c_out, c_in)
    c, k = split_columns(r, K)
    real = r < channels * K

    path_tiles = tl.where(path == 0, tiles_t, tiles - tiles_t)
    steps = tl.cdiv(span, STEP)
    # A program's share of (sample, tile, step) is one loop, so that Triton can overlap it with its loads.
    share = tl.cdiv(B * path_tiles, segments) * steps
    acc = tl.zeros([BLOCK_M, BLOCK_R], tl.float32)
    bias = tl.zeros([BLOCK_M], tl.float32)
    for i in range(segment * share, tl.minimum((segment + 1) * share, B * path_tiles * steps)):
        turn = i // steps
        sample = turn // path_tiles
        unit = (sample * tiles + turn - sample * path_tiles + path * tiles_t).to(tl.int64)
        l = (i - turn * steps) * STEP + tl.arange(0, STEP)  # noqa: E741
        g = tl.load(
            grad + unit * c_out * width + ((m * width + grad_first)[:, None] + l[None, :]),
            mask=(m < c_out)[:, None] & (l < span)[None, :],
            other=0.0,
        )
        x = tl.load(
            source + unit * channels * width + ((c * width + k + source_first)[None, :] + l[:, None]),
            mask=real[None, :] & (l < span)[:, None],
            other=0.0,
        )
        acc = tl.dot(operand(g, OPERAND, WIDEN), operand(x, OPERAND, WIDEN), acc, input_precision=PRECISION)
        bias += tl.sum(g, 1)

    path_row = c_out * (c_in + c_out) * K + 2 * c_out
    partial += segment.to(tl.int64) * row + start + path * path_row + tl.where(second, c_out * (c_in * K + 1), 0)
    tl.store(partial + (m * channels * K)[:, None] + r[None, :], acc, mask=(m < c_out)[:, None] & real[None, :])
    first_column = (column == 0) | (column == first_columns)
    tl.store(partial + c_out * channels * K + m, bias, mask=(m < c_out) & first_column)


@triton.jit(do_not_specialize=["row", "segments"])
def sum_segments_kernel(partial, out, row, segments, BLOCK: tl.constexpr):
    """Add the rows of ``partial (segments, row)``, first to last, to ``out (row,)`` in its dtype."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for segment in range(segments):
        total += tl.load(partial + tl.cast(segment, tl.int64) * row + place, mask=place < row, other=0.0)
    tl.store(out + place, total.to(out.dtype.element_ty), mask=place < row)


def weight_grad(
    block: int, saved: dict[str, Tensor], da: Tensor, dh: Tensor, partial: Tensor, plan: Plan, math: Arithmetic
) -> None:
    """Fill block number ``block``'s part of ``partial (segments, weights)``; 1 launch.

    Args:
        block: The block's number, from 0.
        saved: The saved arrays by name, see :meth:`Plan.saved_shapes`.
        da, dh: The arrays that :func:`specenhance_kernels.chain.block_backward` filled.
        partial: The array to fill, one row per segment, each with the layout of the flat weights.
        plan, math: The plan and the arithmetic of this call.
    """
    c_in, c_out = plan.blocks[block]
    options = weight_options(c_out, math)
    columns = sum(triton.cdiv(c * plan.kernel, options["BLOCK_R"]) for c in (c_in, c_out))
    start = sum(2 * plan.path_weights(j) for j in range(block))
    weight_grad_kernel[(plan.segments * 2 * triton.cdiv(c_out, options["BLOCK_M"]) * columns,)](
        saved[f"z.{block}"], saved[f"hidden.{block}"], da, dh, partial, plan.B, c_in, c_out, plan.T, plan.F,
        plan.tiles_t, plan.tiles, plan.kernel, plan.span, plan.width, start, plan.weights, plan.segments, **options,
    )  # fmt: skip


def sum_segments(partial: Tensor, out: Tensor) -> None:
    """Add ``partial (segments, weights)`` over its segments into ``out (weights,)``; 1 launch for all blocks."""
    segments, row = partial.shape
    options = sum_options()
    sum_segments_kernel[(triton.cdiv(row, options["BLOCK"]),)](partial, out, row, segments, **options)
