"""How the benchmarks measure: candidates that take turns in one process, medians with quartiles, ratios round by round."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich import box
from rich.console import Console
from rich.table import Table

WARM_UP = 2
Times = dict[str, list[float]]


class Spread(NamedTuple):
    """The quartiles of some figures."""

    low: float
    median: float
    high: float

    def text(self, scale: float = 1.0, digits: int = 2) -> str:
        """Write the median with the lower and upper quartile."""
        low, median, high = (f"{scale * value:.{digits}f}" for value in self)
        return f"{median} ({low} to {high})"


def spread(values: list[float]) -> Spread:
    """Give the quartiles of figures; of a single one, itself three times."""
    return Spread(*(statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * values))


def take_turns(candidates: Mapping[str, Callable[[], Any]], rounds: int) -> Times:
    """Time each candidate once a round, seconds; the first rounds warm up and are left out."""
    times: Times = {name: [] for name in candidates}
    gc.collect()
    gc.disable()  # a collection would fall on whoever comes next
    try:
        for turn in range(rounds + WARM_UP):
            # In another order each round: what ran before leaves its mark on caches and on the allocator.
            for name, function in random.Random(turn).sample(list(candidates.items()), len(candidates)):
                start = time.perf_counter()
                function()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()  # a GPU's work is only queued when the call returns
                if turn >= WARM_UP:
                    times[name].append(time.perf_counter() - start)
    finally:
        gc.enable()
    return times


def ratio(times: Times, slow: str, fast: str) -> Spread:
    """Say how many times faster one is than the other: the spread over rounds, where a busy machine slows both alike."""
    return spread([a / b for a, b in zip(times[slow], times[fast], strict=True)])


def peak_memory(function: Callable[[], Any]) -> int:
    """Count the bytes that a call has in use at once beyond what there was before, as PyTorch's CPU allocator tells them.

    The second call is counted. What a library takes behind the allocator's back, as oneDNN its scratch, is not seen.
    """
    function()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        function()
    results = profile.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def machine() -> dict[str, Any]:
    """Say what is measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    packages = ("torch", "timm", "torchaudio", "nnAudio", "onnxruntime", "specenhance")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows as a table."""
    table = Table(*rows[0], title=title, box=box.SIMPLE)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(width=150).print(table)


def save(path: Path | None, report: dict[str, Any]) -> None:
    """Write a report as JSON, if it is wanted."""
    if path is not None:
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main(
    doc: str, title: str, measure: Callable[..., dict[str, Any]], rounds: int, *, on_any_device: bool = False
) -> None:
    """Be the command of a benchmark: measure, print the table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="torch's CPU threads")
    parser.add_argument("--rounds", type=int, default=rounds, help="in each, every candidate has its turn")
    parser.add_argument("--json", type=Path, help="write the figures here")
    if on_any_device:
        parser.add_argument("--device", default="cpu", help="cpu or cuda")
    settings = vars(parser.parse_args())
    torch.set_num_threads(settings.pop("threads"))
    path = settings.pop("json")
    if settings.get("device") == "cuda" and not torch.cuda.is_available():
        print("skipped: no CUDA or ROCm GPU here, nothing was measured", file=sys.stderr)
        return
    report = measure(**settings)
    show(title, report["rows"])
    save(path, {"machine": machine() | settings, **report})
