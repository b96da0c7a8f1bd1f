"""What the kernels over spectrograms share: each program takes :data:`POOL_T` frames of one channel of one sample."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def plane_place(pid, tiles, BLOCK_T: tl.constexpr):
    """Say which plane (one channel of one sample) a program has, and which frames of it."""
    return (pid // tiles).to(tl.int64), (pid % tiles) * BLOCK_T + tl.arange(0, BLOCK_T)


@triton.jit
def plane_rows(x, plane, t, C, s_b, s_c, s_t):
    """Give the addresses ``(BLOCK_T, 1)`` of a plane's frames ``t``, from the strides of ``x (B, C, T, F)``."""
    return x + ((plane // C) * s_b + (plane % C) * s_c) + t.to(tl.int64)[:, None] * s_t
