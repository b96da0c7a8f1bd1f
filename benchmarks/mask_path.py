"""How fast is the mask path on a CPU, and how much memory does it take?

The literal chain of the paper and the factorised form, each as it is and under ``torch.compile``: forward only, and forward
and backward to the weights. The speed-up is over the literal chain as it is; the checked ratios are also over the compiled one.

    python benchmarks/mask_path.py --threads 2
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from command import Benchmark, main
from matplotlib.figure import Figure
from side_by_side import peak_memory, ratio, spread, take_turns
from torch import Tensor

from specenhance import functional
from specenhance.frontends import TFE

LITERAL, LITERAL_COMPILED = "literal", "literal, compiled"
OURS, OURS_COMPILED = "factorised", "factorised, compiled"
# n of TFE(n), batch B, frames T, and whether the compiled forms take part: a compilation takes a while.
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
                        "ms": spread(measured).scaled(1e3),
                        "times faster than literal": ratio(times, LITERAL, name),
                        "peak MB": memory[name] / 1e6 if name in memory else None,
                        "of literal's": memory[name] / memory[LITERAL] if name in memory else None,
                    }
                )
    return {"rows": rows, "ratios": ratios}


def draw(report: dict[str, Any]) -> Figure:
    """Draw how many times faster than the literal chain each form is."""
    rows = [row for row in report["rows"] if row["form"] != LITERAL]
    cases = list(dict.fromkeys(row["case"] for row in rows))
    forms = list(dict.fromkeys(row["form"] for row in rows))
    figure = Figure(figsize=(9, 0.45 * len(cases) + 1.2), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(forms)
    for i, form in enumerate(forms):
        chosen = [row for row in rows if row["form"] == form]
        places = [cases.index(row["case"]) + height * (i - (len(forms) - 1) / 2) for row in chosen]
        medians = [row["times faster than literal"][1] for row in chosen]
        axes.barh(places, medians, height, label=form)
    axes.axvline(1, color="grey", lw=1)
    axes.set_yticks(range(len(cases)), cases, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="times faster than the literal chain", xscale="log")
    axes.grid(alpha=0.3, axis="x")
    axes.legend(fontsize=8)
    return figure


BENCHMARK = Benchmark(
    "The mask path",
    __doc__,
    measure,
    {"ms": ".2f", "times faster than literal": ".2f", "peak MB": ".1f", "of literal's": ".1%"},
    draw=draw,
)

if __name__ == "__main__":
    main(BENCHMARK)
