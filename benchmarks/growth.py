"""How does the cost grow with the work? TFE(n), forward and backward, over batch, frames up to ten minutes, and n up to 16.

An exponent is the slope of the logarithm of the time over the logarithm of the work; 1 is linear. It is fitted over the larger
half of the sizes, where the fixed cost of dispatching no longer shows. Over n it is above 1 up to 16: the first blocks and the
last have fewer channels than those between.

    python benchmarks/growth.py --threads 2
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import torch
from command import Benchmark, main
from matplotlib.figure import Figure
from side_by_side import Times, spread, take_turns

from specenhance.frontends import TFE

F = 128
MS = "ms for each size"
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
    """Give the rows of the table, and the ratios by which the suite is checked."""
    rows, ratios = [], {}
    for what, sizes in SIZES.items():
        cases = {
            "batch": lambda size: (4, size, 512),
            "frames": lambda size: (4, 1, size),
            "n": lambda size: (size, 8, 512),
        }
        times: Times = take_turns({str(size): step(*cases[what](size)) for size in sizes}, rounds)
        medians = [spread(times[str(size)]).median for size in sizes]
        exponent = fitted(sizes, medians)
        rows.append(
            {
                "over": what,
                "of": {
                    "batch": "TFE(4), (B, 1, 512, 128)",
                    "frames": "TFE(4), (1, 1, T, 128)",
                    "n": "TFE(n), (8, 1, 512, 128)",
                }[what],
                MS: {str(size): 1e3 * median for size, median in zip(sizes, medians, strict=True)},
                "exponent": exponent,
            }
        )
        ratios[f"growth over {what}: 1 / exponent"] = (1 / exponent,) * 3
    return {"rows": rows, "ratios": ratios}


def draw(report: dict[str, Any]) -> Figure:
    """Draw the time over the work, both on logarithmic axes."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for axes, row in zip(figure.subplots(1, len(report["rows"])), report["rows"], strict=True):
        sizes, times = [int(size) for size in row[MS]], list(row[MS].values())
        axes.loglog(sizes, times, marker="o", label="TFE, forward and backward")
        axes.loglog(sizes, [times[-1] * size / sizes[-1] for size in sizes], ls=":", color="grey", label="linear")
        axes.set(xlabel=row["over"], ylabel="ms")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


BENCHMARK = Benchmark("Cost as the work grows", __doc__, measure, {MS: ".1f", "exponent": ".2f"}, draw=draw)

if __name__ == "__main__":
    main(BENCHMARK)
