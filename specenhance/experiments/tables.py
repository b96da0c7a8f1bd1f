"""Write the findings of a comparison as Markdown and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from specenhance._files import write_text
from specenhance._names import markdown
from specenhance.experiments.findings import Arm, Findings
from specenhance.experiments.plan import PLAN, Plan

__all__ = ["to_json", "to_markdown", "write_findings"]


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
    unit = plan.recipe.get("group") or "group"
    lines = ["# Comparison", ""]
    if plan.hypothesis:
        lines += [markdown(plan.hypothesis), ""]
    lines += [
        f"{findings.clips} test clips of {findings.groups} groups ({markdown(unit)}), {base.runs} runs of each arm; the plan "
        f"is in `{PLAN}`. Accuracy in percent with its 95% interval, by a bootstrap over groups.",
        "",
        f"| arm | {' | '.join(plan.heard)} | parameters | of the front end | training, s | constant masks |",
        "|---" * (len(plan.heard) + 5) + "|",
    ]
    for arm in findings.arms:
        cells = [arm.accuracy[c].text() for c in plan.heard]
        masks = "" if arm.constant is None else f"{arm.constant} of {arm.runs}"
        cells += [f"{arm.parameters[0]:,}", f"{arm.parameters[1]:,}", f"{arm.seconds:.0f}", masks]
        lines.append(f"| {markdown(arm.name)} | {' | '.join(cells)} |")
    if rivals:
        lines += [
            "",
            f"Difference to {markdown(base.name)}, paired, in percentage points. p: t-test over groups, on clean clips, "
            f"corrected for {len(rivals)} arms (Holm). Visible: a difference that such a comparison finds four times of five.",
            "",
            f"| arm | {' | '.join(plan.heard)} | mixed model | p | visible |",
            "|---" * (len(plan.heard) + 4) + "|",
            *(_rival(arm, plan) for arm in rivals),
        ]
    return "\n".join(lines) + "\n"


def _rival(arm: Arm, plan: Plan) -> str:
    cells = [arm.gains[c].difference.text("+.1f") for c in plan.heard]
    cells.append("" if arm.mixed is None else arm.mixed.text("+.1f"))
    cells += [f"{arm.p:.3f}", f"{arm.gains['clean'].visible:.1f}"]
    return f"| {markdown(arm.name)} | {' | '.join(cells)} |"


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        return {name: _plain(one) for name, one in value._asdict().items()}
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
