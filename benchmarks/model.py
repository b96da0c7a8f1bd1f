"""What does a front end cost in a whole model?

Inference and the training step, beside the bare backbone's. All models are in channels-last, as in training.

    python benchmarks/model.py --threads 2 --device cpu
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
from command import Benchmark, main
from side_by_side import ratio, spread, take_turns
from torch import nn

from specenhance import with_frontend

BARE = "bare backbone"
FRONTENDS = ("identity", "tfa", "tfe1", "tfe2", "tfe4")
# backbone, batch, frames and bins
CASES = [("tf_efficientnetv2_b2", 8, 512, 128), ("mobilenetv3_small_050", 64, 128, 128)]


def measure(rounds: int = 15, device: str = "cpu") -> dict[str, Any]:
    """Give the rows of the table, and the ratios by which the suite is checked."""
    rows, ratios = [], {}
    for backbone, B, T, F in CASES:
        models: dict[str, nn.Module] = {}
        for name in (BARE, *FRONTENDS):
            torch.manual_seed(0)
            body = timm.create_model(backbone, in_chans=1, num_classes=50)
            model: nn.Module = body if name == BARE else with_frontend(body, name)
            model.to(device, memory_format=torch.channels_last)  # as training runs it
            models[name] = model
        spec, label = torch.randn(B, 1, T, F, device=device), torch.randint(50, (B,), device=device)

        def inference(model: nn.Module, spec: torch.Tensor = spec) -> Callable[[], None]:
            def call() -> None:
                model.eval()
                with torch.no_grad():
                    model(spec)

            return call

        def step(model: nn.Module, spec: torch.Tensor = spec, label: torch.Tensor = label) -> Callable[[], None]:
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

            def call() -> None:
                model.train()
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(spec), label).backward()
                optimizer.step()

            return call

        for kind, make in (("inference", inference), ("training step", step)):
            times = take_turns({name: make(model) for name, model in models.items()}, rounds)
            case = f"{backbone}, ({B}, 1, {T}, {F}), {kind}"
            for name, measured in times.items():
                rows.append(
                    {
                        "case": case,
                        "front end": name,
                        "ms": spread(measured).scaled(1e3),
                        "of the bare backbone's": ratio(times, name, BARE),
                    }
                )
            ratios[f"model, {case}: bare / tfe4"] = ratio(times, BARE, "tfe4")
    return {"rows": rows, "ratios": ratios}


BENCHMARK = Benchmark("Whole models", __doc__, measure, {"ms": ".1f", "of the bare backbone's": ".3f"})

if __name__ == "__main__":
    main(BENCHMARK)
