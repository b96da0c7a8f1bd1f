"""The findings of a comparison as tables, and those as Markdown; the findings as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from specenhance._names import markdown
from specenhance.experiments.findings import Arm, Findings
from specenhance.experiments.plan import PLAN, Plan

__all__ = ["DIFFERENCES", "Table", "summary", "tables", "to_json", "to_markdown"]

DIFFERENCES = "differences.png"  # beside the tables

ONE_RUN = (
    " Each arm was trained once on each fold, so what the groups of a fold owe to that training is not in the intervals: "
    "more seeds show it."
)


class Table(NamedTuple):
    """A table of a comparison.

    Attributes:
        key: ``"accuracy"``, ``"difference"``, ``"tests"`` or ``"cost"``.
        title: What it shows.
        text: How it is read.
        header: The names of the columns.
        rows: The cells of each row, the arm's name first.
    """

    key: str
    title: str
    text: str
    header: list[str]
    rows: list[list[str]]


def summary(findings: Findings) -> str:
    """Say how large the comparison is.

    >>> arm = Arm("a", {}, {}, None, None, (10, 0), 1.0, None, 1, [], [])
    >>> summary(Findings([arm], clips=120, groups=6, unit="speaker"))
    '120 test clips of 6 groups (speaker), 1 run of each arm'
    """
    runs = findings.arms[0].runs
    return (
        f"{findings.clips:,} test clips of {findings.groups:,} groups ({findings.unit}), "
        f"{runs:,} run{'s' if runs > 1 else ''} of each arm"
    )


def tables(plan: Plan, findings: Findings) -> list[Table]:
    """List the tables: accuracy, differences to the baseline, their tests, and cost."""
    base, *rivals = findings.arms
    arm_and_conditions = ["arm", *plan.heard]
    found = [
        Table(
            "accuracy",
            "Accuracy",
            "In percent, with its 95% interval by a bootstrap over groups and seeds.",
            arm_and_conditions,
            [[arm.name, *(arm.accuracy[c].text() for c in plan.heard)] for arm in findings.arms],
        )
    ]
    if rivals:
        found += [
            Table(
                "difference",
                f"Difference to {base.name}",
                "Paired, in percentage points, with its 95% interval. These intervals are not corrected for their number."
                + (ONE_RUN if plan.seeds == 1 else ""),
                arm_and_conditions,
                [[arm.name, *(arm.gains[c].difference.text("+.1f") for c in plan.heard)] for arm in rivals],
            ),
            Table(
                "tests",
                "Tests on clean clips",
                "p: two-sided t-test of the difference, over groups and seeds. Holm: corrected for the number of arms "
                f"in the plan, {len(rivals)}. Visible: what such a comparison finds four times of five. Mixed model: "
                "the difference with a random level of each group.",
                ["arm", "p", "p, Holm", "visible", "mixed model"],
                [_test(arm) for arm in rivals],
            ),
        ]
    found.append(
        Table(
            "cost",
            "Cost",
            "Latency: PyTorch on this machine's processor, one clip, one thread. Its ratio to the baseline's is measured side "
            "by side: the median, and the 10th to the 90th percentile. A constant mask does the same to every clip.",
            ["arm", "parameters", "of the front end", "training, s", "latency, ms", "ratio", "constant masks"],
            [_cost(arm) for arm in findings.arms],
        )
    )
    return found


def _test(arm: Arm) -> list[str]:
    clean = arm.gains["clean"]
    mixed = "" if arm.mixed is None or math.isnan(arm.mixed.value) else arm.mixed.text("+.1f")
    visible = "" if math.isnan(clean.visible) else f"{clean.visible:.1f}"
    return [arm.name, _probability(clean.p), _probability(arm.p), visible, mixed]


def _cost(arm: Arm) -> list[str]:
    total, of_frontend = arm.parameters
    latency = ["", ""]
    if arm.latency is not None:
        taken, ratio, low, high = arm.latency
        latency = [f"{taken:.2f}", f"{ratio:.2f} ({low:.2f} to {high:.2f})"]
    masks = f"{arm.constant} of {len(arm.masks)}" if arm.masks else ""
    return [arm.name, f"{total:,}", f"{of_frontend:,}", f"{arm.seconds:.0f}", *latency, masks]


def _probability(p: float | None) -> str:
    if p is None or math.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def to_markdown(plan: Plan, findings: Findings) -> str:
    """Write the findings in Markdown."""
    lines = ["# Comparison", ""]
    if plan.hypothesis:
        lines += [markdown(plan.hypothesis), ""]
    lines.append(f"{markdown(summary(findings))}. The plan is in `{PLAN}`.")
    for table in tables(plan, findings):
        lines += ["", f"## {markdown(table.title)}", "", table.text, "", *_lines(table.header, table.rows)]
        if table.key == "difference":
            lines += ["", f"![The differences, with their intervals]({DIFFERENCES})"]
    return "\n".join(lines) + "\n"


def _lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    return lines + [f"| {markdown(name)} | {' | '.join(cells)} |" for name, *cells in rows]


def to_json(findings: Findings) -> dict[str, Any]:
    """Give the findings as what JSON can hold: each tuple as an object with its fields' names, and NaN as null."""
    return {name: _plain(value) for name, value in findings._asdict().items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if hasattr(value, "_asdict"):
        return {name: _plain(one) for name, one in value._asdict().items()}
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
