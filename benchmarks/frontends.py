"""What does each front end cost, beside identity?

The training step, the latency of one clip in PyTorch and in onnxruntime, on a small backbone and on the paper's. The models
read spectrograms and are in channels-last. A channel that a front end adds makes the backbone's first layer wider, which is
counted.

    python benchmarks/frontends.py --threads 1
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from command import Argument, Benchmark, main, progress
from device import export, session
from side_by_side import ratio, spread, take_turns
from torch import nn

from specenhance import create_frontend, list_frontends, with_frontend
from specenhance.frontends.base import out_channels

# backbone: batch of the training step, frames, bins
CASES = {"mobilenetv3_small_050": (64, 128, 128), "tf_efficientnetv2_b2": (8, 512, 128)}
BASE = "identity"


def model(backbone: str, frontend: str, bins: int) -> nn.Module:
    """Make a model for spectrograms of one channel, as training has it."""
    torch.manual_seed(0)
    front = create_frontend(frontend, in_chans=1, bins=bins)
    body = timm.create_model(backbone, in_chans=out_channels(front, 1), num_classes=50)
    return with_frontend(body, front).to(memory_format=torch.channels_last)


def measure(rounds: int = 5, names: list[str] | None = None) -> dict[str, Any]:
    """Give the rows of the table, and the ratios by which the suite is checked."""
    names = [BASE, *(name for name in (names or list_frontends()) if name != BASE)]
    rows: list[dict[str, Any]] = []
    ratios = {}
    for backbone, (B, T, F) in CASES.items():
        models = {name: model(backbone, name, F) for name in names}
        spec, label = torch.randn(B, 1, T, F), torch.randint(50, (B,))

        def step(made: nn.Module, spec: torch.Tensor = spec, label: torch.Tensor = label) -> None:
            made.train().zero_grad()
            nn.functional.cross_entropy(made(spec), label).backward()

        def infer(made: nn.Module, spec: torch.Tensor = spec) -> None:
            with torch.no_grad():
                made.eval()(spec[:1])

        times = {"training step": take_turns({n: lambda m=m: step(m) for n, m in models.items()}, rounds)}
        times["1 clip, PyTorch"] = take_turns({n: lambda m=m: infer(m) for n, m in models.items()}, 5 * rounds)
        with tempfile.TemporaryDirectory() as folder:
            opened = {}
            for name, made in models.items():
                path = Path(folder) / f"{len(opened)}.onnx"
                export(made.to(memory_format=torch.contiguous_format), (T, F), path)
                opened[name] = session(path, 1)  # the threads of all sessions would wait for work at once
            x = np.random.default_rng(0).standard_normal((1, 1, T, F)).astype(np.float32)
            times["1 clip, onnxruntime"] = take_turns(
                {n: lambda s=s, x=x: s.run(None, {"spectrogram": x}) for n, s in opened.items()}, 5 * rounds
            )
        for name, made in models.items():
            row = {
                "backbone": backbone,
                "front end": name,
                "parameters": sum(p.numel() for p in made.frontend.parameters()),
            }
            for what, measured in times.items():
                if name == BASE:
                    row[f"{what}, ms"] = spread(measured[name]).scaled(1e3)
                row[f"{what}, of identity's"] = ratio(measured, name, BASE)
            rows.append(row)
            progress(BENCHMARK, row)
        if "tfe4" in names:
            ratios[f"front ends, {backbone}, training step: identity / tfe4"] = ratio(
                times["training step"], BASE, "tfe4"
            )
    return {"rows": rows, "ratios": ratios}


WHAT = ("training step", "1 clip, PyTorch", "1 clip, onnxruntime")
BENCHMARK = Benchmark(
    "Front ends",
    __doc__,
    measure,
    {**{f"{what}, ms": ".1f" for what in WHAT}, **{f"{what}, of identity's": ".2f" for what in WHAT}},
    [Argument("--names", nargs="+", help="front ends; the default is all that are listed")],
)

if __name__ == "__main__":
    main(BENCHMARK)
