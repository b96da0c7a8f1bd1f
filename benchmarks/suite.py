"""All the benchmarks that a CPU can run, each file's question in turn: tables, figures and pictures, or a check against them.

    python benchmarks/suite.py              # writes RESULTS.md, results.json and plots/ beside this file
    python benchmarks/suite.py --check      # measures again, and fails where a ratio has fallen

A ratio is of two things measured side by side in one process, the larger the better; its spread is over rounds. It has fallen
if the upper quartile of what is measured now lies more than MARGIN below the median that is recorded.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data_path
import device
import features
import growth
import mask_path
import model
import torch
from matplotlib.figure import Figure
from side_by_side import machine, save, show

from specenhance._files import write_text
from specenhance.analysis.plots import save_figure

HERE = Path(__file__).parent
MARGIN = 0.25
THREADS = 2


def measure_data_path() -> dict[str, Any]:
    """Measure the data path on made sound, as no recordings lie beside the repository."""
    with tempfile.TemporaryDirectory() as made:
        data_path.made_files(Path(made))
        return data_path.measure(Path(made))


QUESTIONS: dict[str, tuple[Any, Callable[[], dict[str, Any]]]] = {
    "The mask path": (mask_path, mask_path.measure),
    "Whole models": (model, model.measure),
    "Features": (features, features.measure),
    "The data path": (data_path, measure_data_path),
    "Cost as the work grows": (growth, growth.measure),
    "On a device": (device, device.measure),
}


def measure() -> dict[str, Any]:
    """Run every benchmark."""
    torch.set_num_threads(THREADS)
    reports: dict[str, Any] = {}
    for title, (_, run) in QUESTIONS.items():
        start = time.perf_counter()
        reports[title] = run() | {"seconds": round(time.perf_counter() - start, 1)}
        show(title, reports[title]["rows"])
    return {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "reports": reports}


def ratios(found: dict[str, Any]) -> dict[str, list[float]]:
    """Collect the ratios of all benchmarks: name to lower quartile, median and upper quartile."""
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
        f"{found['date']}: {about['cpu']}, {about['cores']} cores, {about['threads']} threads, Python {about['python']}, torch "
        f"{about['torch']}, timm {about['timm']}, torchaudio {about['torchaudio']}, nnAudio {about['nnAudio']}, "
        f"onnxruntime {about['onnxruntime']}.",
    ]
    for title, report in found["reports"].items():
        module = QUESTIONS[title][0]
        question = module.__doc__.strip().partition("\n\n    python")[0]
        names = list(report["rows"][0])
        lines += ["", f"## {title}", "", question, "", f"`python benchmarks/{Path(module.__file__).name}`", ""]
        if title in PLOTS:
            lines += [f"![{title}](plots/{PLOTS[title][0]})", ""]
        lines += [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
        lines += [f"| {' | '.join(str(value) for value in row.values())} |" for row in report["rows"]]
    lines += ["", "## The ratios that are checked", "", "| ratio | median (quartiles) |", "|---|---|"]
    lines += [f"| {name} | {spread_text(value)} |" for name, value in ratios(found).items()]
    return "\n".join(lines) + "\n"


def spread_text(value: list[float]) -> str:
    """Write a median with its quartiles, or alone where they are the same."""
    low, median, high = value
    return f"{median:.2f}" if low == high else f"{median:.2f} ({low:.2f} to {high:.2f})"


def draw_growth(report: dict[str, Any]) -> Figure:
    """Draw the time over the work, both on logarithmic axes."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for axes, (what, points) in zip(figure.subplots(1, len(report["points"])), report["points"].items(), strict=True):
        sizes, times = points["sizes"], points["ms"]
        axes.loglog(sizes, times, marker="o", label="TFE, forward and backward")
        axes.loglog(sizes, [times[-1] * size / sizes[-1] for size in sizes], ls=":", color="grey", label="linear")
        axes.set(xlabel=what, ylabel="ms")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def draw_mask_path(report: dict[str, Any]) -> Figure:
    """Draw how many times faster than the literal chain each form is."""
    rows = [row for row in report["rows"] if row["form"] != mask_path.LITERAL]
    cases = list(dict.fromkeys(row["case"] for row in rows))
    forms = list(dict.fromkeys(row["form"] for row in rows))
    figure = Figure(figsize=(9, 0.45 * len(cases) + 1.2), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(forms)
    for i, form in enumerate(forms):
        chosen = [row for row in rows if row["form"] == form]
        places = [cases.index(row["case"]) + height * (i - (len(forms) - 1) / 2) for row in chosen]
        axes.barh(places, [float(row["times faster than literal"].split()[0]) for row in chosen], height, label=form)
    axes.axvline(1, color="grey", lw=1)
    axes.set_yticks(range(len(cases)), cases, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="times faster than the literal chain", xscale="log")
    axes.grid(alpha=0.3, axis="x")
    axes.legend(fontsize=8)
    return figure


PLOTS: dict[str, tuple[str, Callable[[dict[str, Any]], Figure]]] = {
    "The mask path": ("mask_path.png", draw_mask_path),
    "Cost as the work grows": ("growth.png", draw_growth),
}


def main() -> None:
    """Measure, and write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with results.json and write nothing")
    arguments = parser.parse_args()
    results = HERE / "results.json"
    if arguments.check:
        recorded = json.loads(results.read_text(encoding="utf-8"))
        lines = fallen(ratios(recorded), ratios(measure()))
        print("\n".join(lines) or f"no ratio has fallen by more than {MARGIN:.0%}")
        raise SystemExit(1 if lines else 0)
    found = measure()
    save(results, found)
    write_text(HERE / "RESULTS.md", markdown(found))
    for title, (name, draw) in PLOTS.items():
        save_figure(draw(found["reports"][title]), HERE / "plots" / name)


if __name__ == "__main__":
    main()
