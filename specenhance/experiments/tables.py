"""Write the findings of a comparison as Markdown and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from specenhance._files import write_text
from specenhance._names import markdown
from specenhance.experiments.findings import Arm, Findings
from specenhance.experiments.plan import PLAN, Plan

__all__ = ["probability", "to_json", "to_markdown", "write_findings"]


def write_findings(plan: Plan, findings: Findings, out: Path) -> None:
    """Write ``compare.json`` and ``compare.md`` into a folder."""
    write_text(out / "compare.json", json.dumps(to_json(findings), indent=1) + "\n")
    write_text(out / "compare.md", to_markdown(plan, findings))


def to_json(findings: Findings) -> dict[str, Any]:
    """Give the findings as what JSON can hold: each tuple as an object with its fields' names."""
    return {name: _plain(value) for name, value in findings._asdict().items()}


def to_markdown(plan: Plan, findings: Findings) -> str:
    """Write the findings as tables."""
    base, *rivals = findings.arms
    lines = ["# Comparison", ""]
    if plan.hypothesis:
        lines += [markdown(plan.hypothesis), ""]
    lines += [
        f"{findings.clips:,} test clips of {findings.groups:,} groups ({markdown(findings.unit)}), {base.runs} "
        f"run{'s' * (base.runs > 1)} of each arm; the plan is in `{PLAN}`. Accuracy in percent with its 95% interval, by a "
        "bootstrap over groups and seeds.",
        "",
        *_table(
            ["arm", *plan.heard], [[arm.name, *(arm.accuracy[c].text() for c in plan.heard)] for arm in findings.arms]
        ),
    ]
    if rivals:
        lines += [
            "",
            f"Difference to {markdown(base.name)}, paired, in percentage points:",
            "",
            *_table(
                ["arm", *plan.heard],
                [[arm.name, *(arm.gains[c].difference.text("+.1f") for c in plan.heard)] for arm in rivals],
            ),
            "",
            f"On clean clips. p: two-sided t-test over groups and seeds; Holm: corrected for the {len(rivals)} arms that were "
            "planned. Visible: the difference that such a comparison finds four times of five. Mixed model: a random level "
            "of each group.",
            "",
            *_table(["arm", "p", "p, Holm", "visible", "mixed model"], [_test(arm) for arm in rivals]),
        ]
    lines += [
        "",
        "Cost. Latency: PyTorch on this machine's processor, one clip, one thread, and its ratio to the baseline's, measured "
        "side by side (median, 10th to 90th percentile). A constant mask is the same for every clip.",
        "",
        *_table(
            ["arm", "parameters", "of the front end", "training, s", "latency, ms", "ratio", "constant masks"],
            [_cost(arm) for arm in findings.arms],
        ),
    ]
    return "\n".join(lines) + "\n"


def _test(arm: Arm) -> list[str]:
    clean = arm.gains["clean"]
    mixed = "" if arm.mixed is None else arm.mixed.text("+.1f")
    return [arm.name, probability(clean.p), probability(arm.p), f"{clean.visible:.1f}", mixed]


def _cost(arm: Arm) -> list[str]:
    total, of_frontend = arm.parameters
    latency = ["", ""]
    if arm.latency is not None:
        taken, ratio, low, high = arm.latency
        latency = [f"{taken:.2f}", f"{ratio:.2f} ({low:.2f} to {high:.2f})"]
    masks = f"{arm.constant} of {len(arm.masks)}" if arm.masks else ""
    return [arm.name, f"{total:,}", f"{of_frontend:,}", f"{arm.seconds:.0f}", *latency, masks]


def probability(p: float | None) -> str:
    """Write a p value.

    >>> probability(0.0312), probability(0.00001), probability(float("nan"))
    ('0.031', '< 0.001', '')
    """
    if p is None or math.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Write a table; the first cell of a row is a name."""
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    return lines + [f"| {markdown(name)} | {' | '.join(cells)} |" for name, *cells in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None  # JSON has no NaN
    if hasattr(value, "_asdict"):
        return {name: _plain(one) for name, one in value._asdict().items()}
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
