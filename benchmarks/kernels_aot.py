"""What does each configuration of the fused kernels take of a GPU: registers, spills, shared memory?

Compiles every configuration that a launcher can choose, ahead of time, for the named targets; no GPU is needed. The table has
one row for each kernel and target, with the maximum over the kernel's configurations, or with ``--all`` one row for each
configuration.

    python benchmarks/kernels_aot.py --all --json aot.json
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from command import Argument, Benchmark, main

from specenhance_kernels.aot import TARGETS, Report, compile_for, configurations


def compile_one(job: tuple[str, int]) -> Report:
    """Compile configuration number ``job[1]`` for target ``job[0]``."""
    target, number = job
    return compile_for(configurations(target.startswith("gfx"))[number], target)


def compile_all(targets: Sequence[str], processes: int) -> list[Report]:
    """Compile every configuration for every target, in parallel."""
    jobs = [(target, i) for target in targets for i in range(len(configurations(target.startswith("gfx"))))]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(compile_one, jobs, chunksize=4))


def table(reports: Sequence[Report], every: bool) -> list[dict[str, Any]]:
    """Give the rows of the table: one for each configuration with ``every``, else one for each kernel and target."""
    groups: dict[tuple[str, str], list[Report]] = defaultdict(list)
    for report in reports:
        groups[report.target, report.name if every else report.name.split()[0]].append(report)
    rows = []
    for (target, name), group in groups.items():
        maxima = {
            field: max((value for report in group if (value := getattr(report, field)) is not None), default=None)
            for field in ("registers", "spilled", "shared", "limit")
        }
        rows.append({"target": target, "kernel": name, "of": len(group), **maxima})
    return rows


def measure(target: Sequence[str], processes: int, every: bool) -> dict[str, Any]:
    """Compile, and give the rows of the table and every configuration's figures."""
    reports = compile_all(target, processes)
    return {"rows": table(reports, every), "configurations": [report._asdict() for report in reports]}


BENCHMARK = Benchmark(
    "The kernels' configurations",
    __doc__,
    measure,
    {},
    arguments=[
        Argument("--target", nargs="+", choices=TARGETS, default=list(TARGETS)),
        Argument("--processes", type=int, default=os.cpu_count(), help="number of processes that compile"),
        Argument("--all", dest="every", action="store_true", help="one row for each configuration"),
    ],
)

if __name__ == "__main__":
    main(BENCHMARK)
