"""How many bytes does each stage of the fused kernels move, and how many multiplications does it make?

A model from shapes only: what a stage must read and write of the spectrogram and of its 1-D arrays, each counted once a
launch, whatever caches do. Beside it stands the floor: the spectrogram is read once and written once where it fits the L2
cache, and read twice where it does not. Nothing is run and no GPU is needed.

    python benchmarks/kernels_bytes.py --frontend 4 --batch 48 256 --shape 512 128
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from specenhance.frontends.tfe import tfe_channels
from specenhance_kernels.plan import Plan

L2_BYTES = 50 * 2**20  # of an H100
FLOAT = 4


def stages(plan: Plan, item: int, need_spec: bool = False) -> dict[str, int]:
    """Count the bytes that each stage moves.

    Args:
        plan: the cut of the call.
        item: bytes of a value of the spectrogram.
        need_spec: whether the spectrogram needs a gradient.

    Returns:
        Stage -> bytes, forward's first; those of backward begin with ``backward``.
    """
    B, C, L = plan.B, plan.channels[0], plan.T + plan.F
    plane = B * C * plan.T * plan.F * item
    sums = B * C * (plan.T + plan.parts * plan.F) * FLOAT
    factors = B * C * L * FLOAT
    units = B * plan.tiles
    chain = chain_back = weights = 0
    for j, (c_in, c_out) in enumerate(plan.blocks):
        source = sums if j == 0 else B * c_in * L * FLOAT
        tile_in, tile_out = units * c_in * plan.width * FLOAT, units * c_out * plan.width * FLOAT
        values = 2 * plan.path_weights(j) * FLOAT
        chain += source + values + 2 * tile_in + 2 * tile_out + B * c_out * L * FLOAT
        # de and e in, da out and in, hidden in, dh out and in, the block before in, dx out.
        gradient = sums if j == len(plan.blocks) - 1 else B * c_out * L * FLOAT
        chain_back += gradient + B * c_out * L * FLOAT + values + 5 * tile_out
        chain_back += 2 * B * c_in * L * FLOAT if j else (factors if need_spec else 0)
        weights += tile_in + 3 * tile_out + plan.segments * values
    moved = {
        "pool": plane + sums,
        "chain": chain,
        "apply": 2 * plane + factors,
        "backward of apply": 2 * plane + factors + sums,
        "backward of chain": chain_back,
        "backward of weights": weights + plan.segments * plan.weights * FLOAT + plan.weights * FLOAT,
    }
    if need_spec:
        moved["backward of spectrogram"] = 2 * plane + 2 * factors
    return moved


def floor(plan: Plan, item: int, l2: int = L2_BYTES) -> int:
    """Count the bytes that forward cannot avoid: the spectrogram read once, or twice if it outgrows the L2, and written."""
    plane = plan.B * plan.channels[0] * plan.T * plan.F * item
    return (2 if plane <= l2 else 3) * plane


def multiply_adds(plan: Plan) -> tuple[int, int]:
    """Count the chain's multiply-adds forward: those of the formula, and those that its tiles make, padding included."""
    needed = made = 0
    for c_in, c_out in plan.blocks:
        block = 16 if max(c_in, c_out) <= 16 else 32
        for channels in (c_in, c_out):
            needed += plan.B * (plan.T + plan.F) * c_out * channels * plan.kernel
            made += plan.B * plan.tiles * 128 * _up(c_out, block) * _up(channels * plan.kernel, 32)
    return needed, made


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


def measure(frontend: Sequence[int], batch: Sequence[int], shape: tuple[int, int], item: int) -> dict[str, Any]:
    """Give the rows of the table: of each front end and batch the megabytes and the millions of multiply-adds."""
    columns: dict[str, dict[str, float]] = {}
    for n, B in product(frontend, batch):
        plan = Plan(B, *shape, tfe_channels(n), 17)
        moved, least = stages(plan, item), floor(plan, item)
        forward = sum(size for stage, size in moved.items() if not stage.startswith("backward"))
        needed, made = multiply_adds(plan)
        columns[f"TFE({n}) x{B}"] = {
            **{f"{stage}, MB": size / 1e6 for stage, size in moved.items()},
            "forward, MB": forward / 1e6,
            "floor, MB": least / 1e6,
            "forward / floor": forward / least,
            "multiply-adds of the formula, M": needed / 1e6,
            "multiply-adds made, M": made / 1e6,
        }
    names = next(iter(columns.values()))
    return {"rows": [{"what": name} | {case: figures[name] for case, figures in columns.items()} for name in names]}


def command() -> None:
    """Be the command."""
    from command import Argument, Benchmark, main  # here: the tests load this file from another folder

    arguments = [
        Argument("--frontend", type=int, nargs="+", default=[1, 2, 4], help="n of TFE(n)"),
        Argument("--batch", type=int, nargs="+", default=[8, 48, 256, 1024]),
        Argument("--shape", type=int, nargs=2, default=[512, 128], metavar=("T", "F")),
        Argument("--item", type=int, choices=[2, 4], default=4, help="bytes of a value of the spectrogram"),
    ]
    main(Benchmark("Bytes moved and multiply-adds made", __doc__, measure, {}, arguments, form=".2f"))


if __name__ == "__main__":
    command()
