"""What does each configuration of the fused kernels take of a GPU: registers, spills, shared memory?

Compiles every configuration that a launcher can choose, ahead of time, for the named targets; no GPU is needed. Prints a
table, a line for each kernel and target with the most that any of its configurations takes, or with ``--all`` a line for
each configuration.

    python benchmarks/kernels_aot.py --all --json aot.json
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

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


def table(reports: Sequence[Report], every: bool) -> str:
    """Lay reports out; without ``every``, one line a kernel and target."""
    groups: dict[tuple[str, str], list[Report]] = defaultdict(list)
    for report in reports:
        groups[report.target, report.name if every else report.name.split()[0]].append(report)
    lines = [f"{'target':8} {'kernel':72} {'of':>3} {'registers':>9} {'spilled':>7} {'shared':>7} {'limit':>7}"]
    for (target, name), group in groups.items():
        most = [
            max(getattr(report, field) for report in group) for field in ("registers", "spilled", "shared", "limit")
        ]
        lines.append(f"{target:8} {name:72} {len(group):3} {most[0]:9} {most[1]:7} {most[2]:7} {most[3]:7}")
    return "\n".join(lines)


def main() -> None:
    """Compile, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--all", action="store_true", help="a line for each configuration")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    reports = compile_all(arguments.target, arguments.processes)
    print(table(reports, arguments.all))
    if arguments.json:
        arguments.json.write_text(json.dumps([report._asdict() for report in reports], indent=1))


if __name__ == "__main__":
    main()
