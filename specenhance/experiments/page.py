"""Write the findings of a comparison as a page: one HTML file that holds all its pictures."""

from __future__ import annotations

from functools import partial

from specenhance.analysis.page import Picture, environment, picture
from specenhance.experiments.findings import Findings
from specenhance.experiments.plan import Plan, to_toml
from specenhance.experiments.plots import plot_conditions, plot_forest, plot_latency, plot_learning, plot_masks
from specenhance.experiments.tables import summary, tables

__all__ = ["to_page"]

NARROW = {"width": 4.2}  # inches


def to_page(plan: Plan, findings: Findings) -> str:
    """Write the findings as HTML. The same findings give the same page.

    Args:
        plan: What was compared.
        findings: What was found.

    Example (it draws for seconds, so it does not run as a test)::

        write_text("compare.html", to_page(plan, find(plan, runs)))
    """
    drawn = {
        "accuracy": [
            picture(
                partial(plot_conditions, findings, plan.heard),
                "The accuracy of each arm under each condition. A band is its 95% interval.",
                narrow=NARROW,
            )
        ]
        if len(plan.heard) > 1
        else [],
        "difference": [
            picture(
                partial(plot_forest, findings, plan.heard),
                "The difference of each arm to the baseline under each condition, and its 95% interval.",
                narrow={"columns": 1},
            )
        ],
        "cost": _cost(findings),
    }
    curves = picture(
        partial(plot_learning, findings),
        "The validation accuracy over the epochs: the mean of each arm's runs. A band is their range.",
        narrow=NARROW,
    )
    page = environment("specenhance.experiments").get_template("compare.html.j2")
    return page.render(
        hypothesis=plan.hypothesis,
        size=summary(findings),
        tables=tables(plan, findings),
        pictures=drawn,
        curves=curves,
        plan=to_toml(plan).splitlines(),
    )


def _cost(findings: Findings) -> list[Picture]:
    found = []
    if all(arm.latency for arm in findings.arms):
        text = "The accuracy on clean clips, and its 95% interval, against the time that a clip takes."
        found.append(picture(partial(plot_latency, findings), text, narrow=NARROW))
    if any(arm.masks for arm in findings.arms):
        text = "How much each run's mask changes between clips. A mask left of the dashed line counts as constant."
        found.append(picture(partial(plot_masks, findings), text, narrow=NARROW))
    return found
