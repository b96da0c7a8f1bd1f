"""The one command line of the benchmarks: their arguments, their table, their JSON and their plot."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from specenhance._files import write_text
from specenhance.analysis.plots import save_figure

Row = Mapping[str, Any]
Report = dict[str, Any]
"""What a benchmark measures: ``rows`` of figures, and for the suite ``ratios``, each with its quartiles."""

PACKAGES = ("torch", "timm", "torchaudio", "nnAudio", "onnxruntime", "specenhance")


class Argument:
    """An argument of one benchmark only; what argparse's ``add_argument`` takes."""

    def __init__(self, *names: str, **settings: Any) -> None:
        self.names, self.settings = names, settings


class Benchmark(NamedTuple):
    """A question, and how it is answered.

    Attributes:
        title: over the table.
        doc: the question and what is measured; the docstring of its file.
        measure: gives the report. Its parameters ``rounds`` and ``device``, where it has them, are arguments of the command.
        forms: format of the numbers of each column.
        arguments: further arguments, which ``measure`` takes by their names.
        draw: draws a report; None where there is no plot.
        needs_gpu: whether nothing can be measured without a GPU.
        form: format of the numbers of all other columns.
    """

    title: str
    doc: str
    measure: Callable[..., Report]
    forms: Mapping[str, str]
    arguments: Sequence[Argument] = ()
    draw: Callable[[Report], Figure] | None = None
    needs_gpu: bool = False
    form: str = ""


def parse(doc: str, arguments: Sequence[Argument], given: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the command line: what all benchmarks take, and further arguments."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="number of torch's CPU threads")
    parser.add_argument("--json", type=Path, help="file for the figures")
    for argument in arguments:
        parser.add_argument(*argument.names, **argument.settings)
    return vars(parser.parse_args(given))


def main(benchmark: Benchmark, given: Sequence[str] | None = None) -> None:
    """Be the command of a benchmark: measure, print the table, write JSON and a plot where asked."""
    arguments = list(benchmark.arguments)
    parameters = inspect.signature(benchmark.measure).parameters
    if "rounds" in parameters:
        rounds = parameters["rounds"].default
        arguments.append(
            Argument(
                "--rounds", type=int, default=rounds, help="number of rounds; every candidate has its turn in each"
            )
        )
    if "device" in parameters:
        arguments.append(Argument("--device", choices=("cpu", "cuda"), default="cpu"))
    if benchmark.draw is not None:
        arguments.append(Argument("--plot", type=Path, help="file for the picture"))
    settings = parse(benchmark.doc, arguments, given)
    threads, path, plot = settings.pop("threads"), settings.pop("json"), settings.pop("plot", None)
    if (benchmark.needs_gpu or settings.get("device") == "cuda") and not torch.cuda.is_available():
        print("skipped: no CUDA or ROCm GPU here, nothing was measured", file=sys.stderr)
        return
    torch.set_num_threads(threads)
    report = benchmark.measure(**settings)
    show(benchmark, report)
    if path is not None:
        save(path, {"machine": machine(), "settings": settings, **report})
    if plot is not None and benchmark.draw is not None:
        save_figure(benchmark.draw(report), plot)


def machine() -> dict[str, Any]:
    """Say what is measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def text(value: Any, form: str = "") -> str:
    """Write a figure: a number, quartiles as their median with the other two, or several figures by their names."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {text(one, form)}" for name, one in value.items())
    if isinstance(value, (tuple, list)):
        low, median, high = value
        return f"{median:{form}}" if low == high else f"{median:{form}} ({low:{form}} to {high:{form}})"
    return value if isinstance(value, str) else f"{value:{form}}"


def cells(benchmark: Benchmark, rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Give the names of a table's columns, and its rows as they are shown."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return names, [[text(row.get(name), benchmark.forms.get(name, benchmark.form)) for name in names] for row in rows]


def show(benchmark: Benchmark, report: Report) -> None:
    """Print a report as a table."""
    names, rows = cells(benchmark, report["rows"])
    table = Table(*names, title=benchmark.title, box=box.SIMPLE)
    for row in rows:
        table.add_row(*row)
    Console(width=150).print(table)


def progress(benchmark: Benchmark, row: Row) -> None:
    """Print a row as soon as it is measured, where the whole takes long."""
    print("  ".join(cells(benchmark, [row])[1][0]), file=sys.stderr, flush=True)


def save(path: Path, report: Report) -> None:
    """Write a report as JSON."""
    write_text(path, json.dumps(report, indent=1, default=str) + "\n")
