"""How fast is the mask path on a CPU, and how much memory does it take?

The literal chain of the paper and the factorised form, each as it is and under ``torch.compile``: forward alone, and forward
and backward to the weights. The speed-up is against the literal chain as it is, and against it compiled.

    python benchmarks/mask_path.py --threads 2
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from side_by_side import main, peak_memory, ratio, spread, take_turns
from torch import Tensor

from specenhance import functional
from specenhance.frontends import TFE

LITERAL, LITERAL_COMPILED = "literal", "literal, compiled"
OURS, OURS_COMPILED = "factorised", "factorised, compiled"
# n of TFE(n), batch B, frames T, and whether the compiled forms take part: each of their compilations takes a while.
CASES = [
    (4, 8, 512, True),
    (1, 8, 512, True),
    (2, 8, 512, False),
    (8, 8, 512, False),
    (4, 1, 512, False),
    (4, 32, 512, False),
    (4, 8, 128, False),
]
F = 128


def candidates(n: int, B: int, T: int, compiled: bool, backward: bool) -> dict[str, Callable[[], Any]]:
    """Give the calls to time: a forward, or a forward and a backward to all weights, of each form."""
    torch.manual_seed(0)
    module = TFE(n=n)
    spec, dy = torch.randn(B, 1, T, F), torch.randn(B, 1, T, F)
    parameters = list(module.parameters())

    def literal(spec: Tensor) -> Tensor:
        return functional.reference_enhance(spec, module.weights())

    def call(function: Callable[[Tensor], Tensor]) -> Callable[[], Any]:
        def forward() -> Tensor:
            with torch.no_grad():
                return function(spec)

        return (lambda: torch.autograd.grad(function(spec), parameters, dy)) if backward else forward

    forms: dict[str, Callable[[Tensor], Tensor]] = {LITERAL: literal, OURS: module}
    if compiled:
        torch._dynamo.reset()
        forms |= {
            LITERAL_COMPILED: torch.compile(literal, fullgraph=True, dynamic=False),
            OURS_COMPILED: torch.compile(module.forward, fullgraph=True, dynamic=False),
        }
    return {name: call(function) for name, function in forms.items()}


def measure(rounds: int = 15) -> dict[str, Any]:
    """Give the rows of the table, and the ratios by which the suite is checked."""
    rows, ratios = [], {}
    for n, B, T, compiled in CASES:
        for backward in (False, True):
            calls = candidates(n, B, T, compiled, backward)
            times = take_turns(calls, rounds)
            case = f"TFE({n}) ({B}, 1, {T}, {F}) {'forward + backward' if backward else 'forward'}"
            memory = {name: peak_memory(calls[name]) for name in (LITERAL, OURS)}
            # At batch 1 the literal chain's time doubles from one process to the next, with where malloc puts its tensors.
            if B > 1:
                ratios[f"{case}: literal / ours"] = ratio(times, LITERAL, OURS)
            if compiled:
                ratios[f"{case}: literal, compiled / ours"] = ratio(times, LITERAL_COMPILED, OURS)
                ratios[f"{case}: literal, compiled / ours, compiled"] = ratio(times, LITERAL_COMPILED, OURS_COMPILED)
            for name, measured in times.items():
                rows.append(
                    {
                        "case": case,
                        "form": name,
                        "ms": spread(measured).text(1e3),
                        "times faster than literal": ratio(times, LITERAL, name).text(),
                        "peak MB": f"{memory[name] / 1e6:.1f}" if name in memory else "",
                        "of literal's": f"{memory[name] / memory[LITERAL]:.1%}" if name in memory else "",
                    }
                )
    return {"rows": rows, "ratios": ratios}


if __name__ == "__main__":
    main(__doc__, "the mask path", measure, 15)
