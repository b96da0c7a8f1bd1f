"""All the benchmarks that a CPU can run, one after the other: tables, figures and pictures, or a check against them.

    python benchmarks/suite.py              # measures; writes RESULTS.md, results.json and plots/ beside this file
    python benchmarks/suite.py --only pcen  # measures one file; the others' figures stay
    python benchmarks/suite.py --check      # measures again (with --only: these files), and fails where a ratio has fallen
    python benchmarks/suite.py --page       # measures nothing; writes RESULTS.md and plots/ from results.json

A ratio is of two things measured side by side in one process, the larger the better; its spread is over rounds. It has fallen
if the upper quartile of what is measured now lies more than MARGIN below the recorded median.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chain
import data_path
import device
import features
import frontends
import growth
import int8
import mask_path
import model
import pcen
import predict
import shards
import startup
import teaching
import torch
import training
from command import Argument, Benchmark, cells, machine, parse, save, show, text

from specenhance._files import write_text
from specenhance.analysis.plots import save_figure

HERE = Path(__file__).parent
MARGIN = 0.25

FILES = {
    file.BENCHMARK.title: file
    for file in (
        *(mask_path, chain, model, frontends, features, pcen, data_path),
        *(training, teaching, startup, predict, growth, device, int8, shards),
    )
}
BENCHMARKS: dict[str, Benchmark] = {title: file.BENCHMARK for title, file in FILES.items()}


def measure(only: Sequence[str] = (), recorded: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run every benchmark, or only the named files, and take the other reports from what is recorded."""
    reports: dict[str, Any] = {}
    for title, benchmark in BENCHMARKS.items():
        if only and Path(FILES[title].__file__).stem not in only:
            if recorded is not None and title in recorded["reports"]:
                reports[title] = recorded["reports"][title]
            continue
        start = time.perf_counter()
        report = benchmark.measure()
        reports[title] = report | {
            "seconds": round(time.perf_counter() - start, 1),
            "date": time.strftime("%Y-%m-%d"),
        }
        show(benchmark, reports[title])
    return {"machine": machine(), "reports": reports}


def ratios(found: dict[str, Any]) -> dict[str, list[float]]:
    """Collect the ratios of all benchmarks: the lower quartile, the median and the upper quartile of each, by its name."""
    return {name: list(value) for report in found["reports"].values() for name, value in report["ratios"].items()}


def fallen(recorded: dict[str, list[float]], now: dict[str, list[float]]) -> list[str]:
    """Name the ratios that have fallen, or are no longer measured."""
    lines = [f"{name}: not measured any more" for name in recorded if name not in now]
    for name in recorded.keys() & now.keys():
        median, high = recorded[name][1], now[name][2]
        if high < (1 - MARGIN) * median:
            lines.append(f"{name}: {now[name][1]:.2f} (up to {high:.2f}), recorded {median:.2f}")
    return sorted(lines)


def markdown(found: dict[str, Any]) -> str:
    """Write the results page."""
    about = found["machine"]
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench` (`python benchmarks/suite.py`); `make bench-check` measures again and fails where a ratio has "
        f"fallen by more than {MARGIN:.0%}. Times are medians with their quartiles over rounds in which the candidates take "
        "turns in one process; a ratio is the median of the rounds' ratios. On a GPU: [gpu.md](gpu.md).",
        "",
        f"{about['cpu']}, {about['cores']} cores, {about['threads']} threads, Python {about['python']}, torch "
        f"{about['torch']}, timm {about['timm']}, torchaudio {about['torchaudio']}, nnAudio {about['nnAudio']}, "
        f"onnxruntime {about['onnxruntime']}.",
    ]
    for title, report in found["reports"].items():
        benchmark = BENCHMARKS[title]
        question = benchmark.doc.strip().partition("\n\n    python")[0]
        command = f"`python benchmarks/{Path(FILES[title].__file__).name}`, {report['date']}"
        lines += ["", f"## {title}", "", question, "", command, ""]
        if benchmark.draw is not None:
            lines += [f"![{title}](plots/{_plot(title)})", ""]
        names, rows = cells(benchmark, report["rows"])
        lines += [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", "## The ratios that are checked", "", "| ratio | median (quartiles) |", "|---|---|"]
    lines += [f"| {name} | {text(value, '.2f')} |" for name, value in ratios(found).items()]
    return "\n".join(lines) + "\n"


def _plot(title: str) -> str:
    return f"{Path(FILES[title].__file__).stem}.png"


def write_page(found: dict[str, Any]) -> None:
    """Write the results page and its pictures."""
    write_text(HERE / "RESULTS.md", markdown(found))
    for title, benchmark in BENCHMARKS.items():
        if benchmark.draw is not None:
            save_figure(benchmark.draw(found["reports"][title]), HERE / "plots" / _plot(title))


def main() -> None:
    """Measure, and write or check."""
    settings = parse(
        __doc__,
        [
            Argument("--check", action="store_true", help="compare with results.json and write nothing"),
            Argument("--only", nargs="+", choices=[Path(f.__file__).stem for f in FILES.values()], default=[]),
            Argument("--page", action="store_true", help="write the page from results.json and measure nothing"),
        ],
    )
    torch.set_num_threads(settings["threads"])
    results = settings["json"] or HERE / "results.json"
    if settings["check"]:
        recorded = json.loads(results.read_text(encoding="utf-8"))
        lines = fallen(ratios(recorded), ratios(measure(settings["only"], recorded)))
        print("\n".join(lines) or f"no ratio has fallen by more than {MARGIN:.0%}")
        raise SystemExit(1 if lines else 0)
    if not settings["page"]:
        recorded = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else None
        save(results, measure(settings["only"], recorded))
    write_page(json.loads(results.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
