"""What does INT8 gain on a processor? Exported files from waveforms: latency and size beside float32's.

A clip of a second, batch 1, one thread. Features and front end stay in float32, so "features" is the time of a file that has
only them. INT8 files are made as `specenhance export --int8` makes them. The weights are random, which changes no latency.

    python benchmarks/int8.py
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from command import Benchmark, main
from side_by_side import ratio, spread, take_turns
from torch import Tensor, nn

from specenhance import KaldiFbank, with_frontend
from specenhance.deploy.export import export
from specenhance.deploy.int8_candidates import quantise
from specenhance.deploy.runtime import open_session

BACKBONES = ("mobilenetv3_small_050", "tf_efficientnet_lite0", "resnet18")
RATE = 16000
CALIBRATION = 8  # clips


class Nothing(nn.Module):
    """A backbone that costs nothing: the mean of the spectrogram."""

    num_classes = 2

    def forward(self, spec: Tensor) -> Tensor:
        """Map a spectrogram ``(B, 1, T, F)`` to logits ``(B, 2)``."""
        return spec.mean(dim=(1, 2, 3))[:, None].expand(-1, 2)


def write(backbone: nn.Module, path: Path, classes: int) -> None:
    """Export a model of waveforms."""
    model = with_frontend(backbone, "identity", features=KaldiFbank(frames=98))
    model.classes = [str(label) for label in range(classes)]
    export(model, path)


def measure(rounds: int = 60, backbones: tuple[str, ...] = BACKBONES) -> dict[str, Any]:
    """Give the rows of the table, and the ratios by which the suite is checked."""
    rows, ratios = [], {}
    draw = np.random.default_rng(0)
    sounds = [(0.1 * draw.standard_normal(RATE)).astype(np.float32) for _ in range(CALIBRATION)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(Nothing(), folder / "features.onnx", classes=2)
        for backbone in backbones:
            torch.manual_seed(0)
            float32, int8 = folder / f"{backbone}.onnx", folder / f"{backbone}-int8.onnx"
            write(timm.create_model(backbone, in_chans=1, num_classes=35), float32, classes=35)
            with tempfile.TemporaryDirectory() as candidates:
                best = quantise(float32, Path(candidates), lambda: iter(sounds), [(sound, 0) for sound in sounds])
                shutil.copyfile(best, int8)
            files = {"features": folder / "features.onnx", "float32": float32, "INT8": int8}

            def call(path: Path) -> Callable[[], Any]:
                opened = open_session(path, threads=1)
                return lambda: opened.run(["logits"], {"waveform": sounds[0][None]})

            times = take_turns({kind: call(path) for kind, path in files.items()}, rounds)
            rows.append(
                {
                    "backbone": backbone,
                    **{f"{kind}, ms": spread(times[kind]).scaled(1e3) for kind in files},
                    "float32 / INT8": ratio(times, "float32", "INT8"),
                    "float32, MB": float32.stat().st_size / 1e6,
                    "INT8, MB": int8.stat().st_size / 1e6,
                }
            )
            ratios[f"INT8, {backbone}: float32 / INT8"] = ratio(times, "float32", "INT8")
    return {"rows": rows, "ratios": ratios}


BENCHMARK = Benchmark(
    "INT8",
    __doc__,
    measure,
    {
        **{f"{kind}, ms": ".2f" for kind in ("features", "float32", "INT8")},
        "float32 / INT8": ".2f",
        "float32, MB": ".1f",
        "INT8, MB": ".1f",
    },
)

if __name__ == "__main__":
    main(BENCHMARK)
