"""Stage 1, pool: the sums of a spectrogram over frequency and over time, in one read.

A program takes 64 frames of one channel of one sample and loops over the bins. Its sums over frequency are complete. Its sums
over time are partial, one row per program; the chain adds these rows in a fixed order when it loads them. So there is one
launch, there are no atomics, and every run gives equal bits.

The pool's backward adds ``g_t / F + g_f / T`` to the gradient of the plane. The last stage (``apply.py``) does this in its own
pass over the plane.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from specenhance_kernels.configs import plane_options
from specenhance_kernels.plan import Plan
from specenhance_kernels.planes import plane_place, plane_rows


@triton.jit(do_not_specialize=["C", "T", "F", "tiles"])
def pool_kernel(
    x, rows, cols, C, T, F, tiles, xs_b, xs_c, xs_t, xs_f, BLOCK_T: tl.constexpr, BLOCK_F: tl.constexpr
):  # fmt: skip
    """Sum ``x (B, C, T, F)``, read by its strides, to ``rows (B, C, T)`` and ``cols (B, C, tiles, F)``."""
    pid = tl.program_id(0)
    plane, t = plane_place(pid, tiles, BLOCK_T)
    x = plane_rows(x, plane, t, C, xs_b, xs_c, xs_t)
    cols += pid.to(tl.int64) * F
    total = tl.zeros([BLOCK_T], tl.float32)
    for first in range(0, F, BLOCK_F):
        f = first + tl.arange(0, BLOCK_F)
        inside = (t < T)[:, None] & (f < F)[None, :]
        value = tl.load(x + f.to(tl.int64)[None, :] * xs_f, mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(value, 1)
        tl.store(cols + f, tl.sum(value, 0), mask=f < F)
    tl.store(rows + plane * T + t, total, mask=t < T)


def pool(spec: Tensor, rows: Tensor, cols: Tensor, plan: Plan) -> None:
    """Fill ``rows (B, C, T)`` and ``cols (B, C, parts, F)`` with sums of ``spec (B, C, T, F)`` of any strides; 1 launch."""
    B, C, T, F = spec.shape
    pool_kernel[(B * C * plan.parts,)](spec, rows, cols, C, T, F, plan.parts, *spec.stride(), **plane_options())
