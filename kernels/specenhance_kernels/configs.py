"""The configurations: every way in which a launcher may compile a kernel. The ahead-of-time test compiles all of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton.language as tl

from specenhance_kernels.interpreter import interpreted
from specenhance_kernels.plan import POOL_F, POOL_T, TILE

# Asked at import, as Triton does: an interpreted kernel is another object than a compiled one.
INTERPRETED = interpreted()

HIP = torch.version.hip is not None

THREADS = 256  # per program; of a 64 x 128 plane tile each thread holds 32 values
CHAIN_REGISTERS = 128  # per thread; so a multiprocessor holds two programs, and each hides the other's waits
SMALL, LARGE = 16, 32  # output channels of a matrix step
REDUCE = 32  # input channels x taps of a matrix step; half of it for three-pass tf32, which would spill
ROWS = 8  # channels of an elementwise step
WEIGHT_COLUMNS = 64  # columns (input channel, tap) of a tile of the weights' gradients
WEIGHT_STEP = 32  # positions of a matrix step of the weights' gradients

_TL = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


class Arithmetic(NamedTuple):
    """The arithmetic of the matrix units: the operands' dtype and, for float32, the precision of ``tl.dot``."""

    operand: torch.dtype
    precision: str


def arithmetic(operand: torch.dtype, device: torch.device) -> Arithmetic:
    """Choose the arithmetic that PyTorch's own convolutions would use at this moment.

    Args:
        operand: The dtype of the convolutions (the weights', or autocast's).
        device: The device of the spectrogram.

    Returns:
        The arithmetic. float32 has the precision ``tf32`` where cuDNN's convolutions may use it, else ``tf32x3`` (three passes,
        near float32). On ROCm it is always ``ieee``, as in MIOpen. bfloat16 and float16 have one precision.
    """
    if operand != torch.float32 or HIP:
        return Arithmetic(operand, "ieee")
    return Arithmetic(operand, "tf32" if _convolutions_use_tf32() else "tf32x3")


def _convolutions_use_tf32() -> bool:
    convolution = getattr(torch.backends.cudnn, "conv", None)
    if convolution is not None and hasattr(
        convolution, "fp32_precision"
    ):  # torch >= 2.9; it follows the older switch too
        return convolution.fp32_precision == "tf32"
    return torch.backends.cudnn.allow_tf32


def _warps(hip: bool) -> int:
    return THREADS // (64 if hip else 32)


def plane_options(hip: bool = HIP) -> dict[str, Any]:
    """Give the options of the kernels that read or write a spectrogram."""
    return {"BLOCK_T": POOL_T, "BLOCK_F": POOL_F, "num_warps": _warps(hip)}


def stages(hip: bool = HIP) -> tuple[int, ...]:
    """List the stages of a block, one per launch; 0 is all three stages in one launch, with barriers between.

    CUDA's barrier also orders a program's own writes and reads of global memory. Triton's barrier for ROCm does not wait for
    the writes (``s_barrier`` without ``s_waitcnt vmcnt(0)``), so on ROCm each stage is a launch.
    """
    return (1, 2, 3) if hip else (0,)


def chain_options(
    c_in: int, c_out: int, math: Arithmetic, stage: int, widen: bool = INTERPRETED, hip: bool = HIP
) -> dict[str, Any]:
    """Give the options of a block's forward and backward kernel."""
    reduce = REDUCE // 2 if math.precision == "tf32x3" else REDUCE
    own = {"STAGE": stage, "BLOCK_C": ROWS, "BLOCK_R": reduce, "TILE": TILE, "num_stages": 1}
    return own | _matrix(max(c_in, c_out), math, widen, hip)


def weight_options(c_out: int, math: Arithmetic, widen: bool = INTERPRETED, hip: bool = HIP) -> dict[str, Any]:
    """Give the options of the kernel of the weights' gradients."""
    own = {"BLOCK_R": WEIGHT_COLUMNS, "STEP": WEIGHT_STEP, "num_stages": 2}
    return own | _matrix(c_out, math, widen, hip)


def path_options(hip: bool = HIP) -> dict[str, Any]:
    """Give the options of the kernels that standardise a path."""
    return {"BLOCK_C": ROWS, "BLOCK_L": TILE, "num_warps": _warps(hip)}


def sum_options(hip: bool = HIP) -> dict[str, Any]:
    """Give the options of the kernel that adds the segments of the weights' gradients."""
    return {"BLOCK": THREADS, "num_warps": _warps(hip)}


def _matrix(channels: int, math: Arithmetic, widen: bool, hip: bool) -> dict[str, Any]:
    return {
        "BLOCK_M": SMALL if channels <= SMALL else LARGE,
        "OPERAND": _TL[math.operand],
        "PRECISION": math.precision,
        # The interpreter stores bfloat16 as bits and would multiply the bits. So it rounds, then multiplies in float32.
        "WIDEN": widen,
        "num_warps": _warps(hip),
        **({} if hip else {"maxnreg": CHAIN_REGISTERS}),
    }
