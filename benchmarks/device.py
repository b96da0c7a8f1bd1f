"""What does a front end cost on a device? Exported models under onnxruntime: latency, file size, peak memory.

A small backbone and the paper's, batch 1, from spectrograms: the bare backbone (identity), TFA, TFE(1), (2), (4), TFE(4) whose
mask is fixed as by `specenhance export --fixed-mask`, and TFE(4) as the literal chain. Where a front end takes more than 3% of
its backbone's latency, onnxruntime's profile says which operators of the model take most.

    python benchmarks/device.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import timm
import torch
from command import Benchmark, main
from side_by_side import ratio, spread, take_turns
from torch import Tensor, nn

from specenhance import functional, with_frontend
from specenhance.deploy.fixed_mask import FixedMask
from specenhance.deploy.formats.onnx import OPSET
from specenhance.frontends import TFE

MODELS = {"mobilenetv3_small_050": (128, 128), "tf_efficientnetv2_b2": (512, 128)}
LITERAL = "tfe4, literal"
FIXED = "tfe4, fixed mask"
FRONTENDS = ("identity", "tfa", "tfe1", "tfe2", "tfe4", FIXED, LITERAL)
DEAR = 1.03

PEAK = """
import sys
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
x = np.zeros([int(size) for size in sys.argv[2:]], np.float32)
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
for _ in range(3):
    session.run(None, {"spectrogram": x})
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) / 1024)
"""


class LiteralTFE(TFE):
    """The chain of the paper with every mask written out."""

    def forward(self, spec: Tensor) -> Tensor:
        """Weigh ``spec (B, C, T, F)`` by its mask."""
        return functional.reference_enhance(spec, self.weights())


def write(backbone: str, frontend: str, shape: tuple[int, int], path: Path) -> None:
    """Export a model with random weights."""
    torch.manual_seed(0)
    body = timm.create_model(backbone, in_chans=1, num_classes=35)
    made: dict[str, nn.Module] = {LITERAL: LiteralTFE(n=4), FIXED: FixedMask(*(torch.rand(1, size) for size in shape))}
    export(with_frontend(body, made.get(frontend, frontend)), shape, path)


def export(model: nn.Module, shape: tuple[int, int], path: Path) -> None:
    """Write a model of spectrograms ``(1, 1, *shape)`` as ONNX."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            model.eval(),
            (torch.randn(1, 1, *shape),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["spectrogram"],
            verbose=False,
        )
    made.save(path, external_data=False)


def session(path: Path, threads: int, profile: Path | None = None) -> onnxruntime.InferenceSession:
    """Open an exported model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def where_it_goes(path: Path, x: np.ndarray) -> dict[str, float]:
    """Give the operators that take most of a run, with their time in microseconds."""
    with tempfile.TemporaryDirectory() as folder:
        profiled = session(path, 1, Path(folder) / "profile")
        for _ in range(30):
            profiled.run(None, {"spectrogram": x})
        events = json.loads(Path(profiled.end_profiling()).read_text())
    spent: Counter[str] = Counter()
    for event in events:
        name = event["name"]
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            kind, shapes = event["args"]["op_name"], event["args"]["input_type_shape"]
            if "Conv" in kind:
                kernel = next(iter(shapes[1].values()))[2:]
                # Only the front end has kernels of one row.
                kind = "the chain's convolutions" if kernel[:-1] in ([], [1]) and kernel[-1] > 1 else kind
            spent[kind] += event["dur"] / 30
    return dict(spent.most_common(6))


def measure(rounds: int = 40, models: dict[str, tuple[int, int]] = MODELS) -> dict[str, Any]:
    """Give the rows of the table, and the ratios by which the suite is checked."""
    rows, ratios = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for backbone, shape in models.items():
            paths = {frontend: Path(folder) / f"{backbone}-{i}.onnx" for i, frontend in enumerate(FRONTENDS)}
            for frontend, path in paths.items():
                write(backbone, frontend, shape, path)
            x = np.random.default_rng(0).standard_normal((1, 1, *shape)).astype(np.float32)
            times = {}
            for threads in (1, 2):

                def call(path: Path, threads: int = threads, x: np.ndarray = x) -> Callable[[], Any]:
                    opened = session(path, threads)
                    return lambda: opened.run(None, {"spectrogram": x})

                times[threads] = take_turns({frontend: call(path) for frontend, path in paths.items()}, rounds)
            for frontend, path in paths.items():
                memory = subprocess.run(
                    [sys.executable, "-c", PEAK, path, "1", "1", *map(str, shape)],
                    capture_output=True,
                    text=True,
                    check=True,
                    env=os.environ | {"OMP_NUM_THREADS": "1"},
                )
                cost = ratio(times[1], frontend, "identity")
                rows.append(
                    {
                        "backbone": backbone,
                        "front end": frontend,
                        "1 thread, ms": spread(times[1][frontend]).scaled(1e3),
                        "1 thread, of identity's": cost,
                        "2 threads, ms": spread(times[2][frontend]).scaled(1e3),
                        "2 threads, of identity's": ratio(times[2], frontend, "identity"),
                        "file, MB": path.stat().st_size / 1e6,
                        "peak, MiB": float(memory.stdout),
                        "where it goes, us": where_it_goes(path, x) if cost.median > DEAR else None,
                    }
                )
            ratios[f"device, {backbone}: identity / tfe4"] = ratio(times[1], "identity", "tfe4")
            ratios[f"device, {backbone}: identity / tfe4, fixed mask"] = ratio(times[1], "identity", FIXED)
            ratios[f"device, {backbone}: literal tfe4 / tfe4"] = ratio(times[1], LITERAL, "tfe4")
    return {"rows": rows, "ratios": ratios}


BENCHMARK = Benchmark(
    "On a device",
    __doc__,
    measure,
    {
        **{f"{threads}, {what}": ".2f" for threads in ("1 thread", "2 threads") for what in ("ms", "of identity's")},
        "file, MB": ".2f",
        "peak, MiB": ".0f",
        "where it goes, us": ".0f",
    },
)

if __name__ == "__main__":
    main(BENCHMARK)
