"""How does the cost grow with the work? TFE(n), forward and backward, over batch, frames up to ten minutes, and n up to 16.

An exponent is the slope of the logarithm of the time over that of the work, fitted over the larger half of the sizes, where
the fixed cost of dispatching no longer shows; 1 is linear. Over n it is above 1 up to 16: the first blocks and the last are
narrower than those between.

    python benchmarks/growth.py --threads 2
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import torch
from side_by_side import Times, main, spread, take_turns

from specenhance.frontends import TFE

F = 128
SIZES = {
    "batch": [1, 2, 4, 8, 16, 32, 64],
    "frames": [128, 512, 1024, 4096, 15000, 30000, 60000],  # of 10 ms: 1.28 s to 10 minutes
    "n": [1, 2, 4, 6, 8, 12, 16],
}


def fitted(sizes: list[int], times: list[float]) -> float:
    """Fit the exponent over the larger half of the sizes."""
    half = len(sizes) // 2
    logs = [[math.log(value) for value in values[half:]] for values in (sizes, times)]
    return statistics.linear_regression(*logs).slope


def step(n: int, B: int, T: int) -> Callable[[], Any]:
    """Give a forward and a backward of TFE(n) on a batch."""
    torch.manual_seed(0)
    module = TFE(n=n)
    spec, dy = torch.randn(B, 1, T, F), torch.randn(B, 1, T, F)
    parameters = list(module.parameters())
    return lambda: torch.autograd.grad(module(spec), parameters, dy)


def measure(rounds: int = 7) -> dict[str, Any]:
    """Give the rows of the table, the figures for the plot, and the ratios by which the suite is checked."""
    rows, points, ratios = [], {}, {}
    for what, sizes in SIZES.items():
        cases = {
            "batch": lambda size: (4, size, 512),
            "frames": lambda size: (4, 1, size),
            "n": lambda size: (size, 8, 512),
        }
        times: Times = take_turns({str(size): step(*cases[what](size)) for size in sizes}, rounds)
        medians = [spread(times[str(size)]).median for size in sizes]
        points[what] = {"sizes": sizes, "ms": [1e3 * median for median in medians]}
        exponent = fitted(sizes, medians)
        rows.append(
            {
                "over": what,
                "of": {
                    "batch": "TFE(4), (B, 1, 512, 128)",
                    "frames": "TFE(4), (1, 1, T, 128)",
                    "n": "TFE(n), (8, 1, 512, 128)",
                }[what],
                **{
                    f"size {i + 1}": f"{size}: {1e3 * median:.1f}"
                    for i, (size, median) in enumerate(zip(sizes, medians, strict=True))
                },
                "exponent": f"{exponent:.2f}",
            }
        )
        ratios[f"growth over {what}: 1 / exponent"] = (1 / exponent,) * 3
    return {"rows": rows, "ratios": ratios, "points": points}


if __name__ == "__main__":
    main(__doc__, "size: ms, forward and backward", measure, 7)
