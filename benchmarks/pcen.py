"""How much faster is PCEN's smoother as a parallel scan than as a loop over frames?

The smoother only, forward, and forward with backward, on 1 and on 16 clips of 512 frames x 128 bins, beside a loop over
frames in PyTorch.

    python benchmarks/pcen.py --threads 1
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from command import Benchmark, main
from side_by_side import ratio, spread, take_turns
from torch import Tensor

from specenhance.frontends.pcen import smooth

B, T, F = 16, 512, 128
LOOP, SCAN = "a loop over frames", "parallel scan"


def smooth_by_a_loop(energies: Tensor, log_decay: Tensor, state: Tensor | None = None) -> Tensor:
    """Smooth energies (B, C, T, F) frame by frame."""
    decay = log_decay.exp()
    smoothed, frames = (energies[:, :, 0] if state is None else state), []
    for t in range(energies.shape[2]):
        smoothed = decay * smoothed + (1 - decay) * energies[:, :, t]
        frames.append(smoothed)
    return torch.stack(frames, dim=2)


SMOOTHERS = {LOOP: smooth_by_a_loop, SCAN: smooth}


def measure(rounds: int = 10, device: str = "cpu") -> dict[str, Any]:
    """Give the rows of the table, and the ratio by which the suite is checked."""
    log_decay = torch.log1p(-torch.linspace(0.01, 0.1, F)).to(device).requires_grad_()
    rows, ratios = [], {}
    for batch, backward in product((1, B), (False, True)):
        energies = torch.rand(batch, 1, T, F, generator=torch.Generator().manual_seed(0)).to(device)
        energies.requires_grad_(backward)

        def call(smoother: Callable[..., Tensor], energies: Tensor, backward: bool) -> Callable[[], None]:
            def made() -> None:
                with torch.set_grad_enabled(backward):
                    out = smoother(energies, log_decay)
                    if backward:
                        out.sum().backward()

            return made

        candidates = {name: call(smoother, energies, backward) for name, smoother in SMOOTHERS.items()}
        times = take_turns(candidates, rounds)
        what = f"{batch} clips, forward{' and backward' if backward else ''}"
        rows += [
            {
                "pass": what,
                "smoother": name,
                "ms": spread(measured).scaled(1e3),
                "times faster than the loop": ratio(times, LOOP, name),
            }
            for name, measured in times.items()
        ]
        ratios[f"PCEN, {what}: loop / scan"] = ratio(times, LOOP, SCAN)
    return {"rows": rows, "ratios": ratios}


BENCHMARK = Benchmark("PCEN", __doc__, measure, {"ms": ".1f", "times faster than the loop": ".1f"})

if __name__ == "__main__":
    main(BENCHMARK)
