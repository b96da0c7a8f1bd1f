"""What an exported file gives and takes on one CPU thread: onnxruntime, LiteRT and ExecuTorch, on real clips, side by side.

python benchmarks/devices.py RUN --clips FOLDER onnx tflite pte

Formats whose package is not installed are left out. Every file is exported anew; each repetition times all of them in turn.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from specenhance import load_model
from specenhance.audio import read_samples
from specenhance.deploy.export import default_name, export
from specenhance.deploy.formats.registry import create_format

CLIPS, REPETITIONS = 120, 3


def opened(format: str, path: Path):
    """A file as a function from one clip to logits, on one thread."""
    if format == "onnx":
        from specenhance.deploy.runtime import OnnxModel

        model = OnnxModel(path, threads=1)
        return lambda x: torch.from_numpy(model.logits(x.numpy()))
    if format == "pte":
        from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool

        _unsafe_reset_threadpool(1)
    return create_format(format).load(path)


def main() -> None:
    """Export, compare, time and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("formats", nargs="+")
    parser.add_argument("--clips", type=Path, required=True, help="a folder with folders of sounds")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    model = load_model(settings.run).eval()
    rate = model.features.sample_rate
    found = sorted(settings.clips.glob("*/*.flac"))
    batch = [
        torch.from_numpy(read_samples(path, rate))[None, :rate]
        for path in found[:: max(1, len(found) // CLIPS)][:CLIPS]
    ]
    batch = [torch.nn.functional.pad(x, (0, rate - x.shape[1])) for x in batch]
    expected = [model(x) for x in batch]
    with tempfile.TemporaryDirectory() as folder:
        runs = {}
        for format in settings.formats:
            try:
                create_format(format).require()
            except ImportError as error:
                print(f"{format}: {error}")
                continue
            path = export(model, Path(folder) / default_name(format), format=format, clip_seconds=1.0)
            runs[format] = (opened(format, path), path.stat().st_size)
        times = {format: [] for format in runs}
        for format, (run, size) in runs.items():
            got = [run(x) for x in batch]
            off = max((a.softmax(1) - b.softmax(1)).abs().max().item() for a, b in zip(got, expected, strict=True))
            logits = max((a - b).abs().max().item() for a, b in zip(got, expected, strict=True))
            same = sum(int(a.argmax() == b.argmax()) for a, b in zip(got, expected, strict=True))
            print(
                f"{format}: {len(batch)} clips, probabilities differ by at most {off:.1e}, logits by {logits:.1e}, "
                f"{same} same labels, {size / 1e6:.1f} MB"
            )
        for _ in range(REPETITIONS):
            for format, (run, _size) in runs.items():
                for x in batch:
                    began = time.perf_counter()
                    run(x)
                    times[format].append(time.perf_counter() - began)
        for format, taken in times.items():
            print(f"{format}: {1000 * statistics.median(taken):.2f} ms a clip, median of {len(taken)}, one thread")


if __name__ == "__main__":
    main()
