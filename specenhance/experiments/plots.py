"""Draw the findings of a comparison. Each function gives a matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from specenhance.analysis.lettering import lettering
from specenhance.analysis.lettering import width as columns_of
from specenhance.analysis.masks import CONSTANT
from specenhance.experiments.findings import Arm, Findings

__all__ = ["plot_conditions", "plot_forest", "plot_latency", "plot_learning", "plot_masks"]

SIZE = 10  # of an arm's name, in points
WIDE = 8.0  # inches
MOST_COLUMNS = 40  # letters of an arm's name
LEAST_CHANGE = 1e-5  # the mask plot's left end: a mask that never changes has no logarithm


def plot_forest(findings: Findings, conditions: Sequence[str], columns: int = 3) -> Figure:
    """Draw the paired difference of each arm to the baseline, with its interval; a panel for each condition.

    Args:
        findings: The findings. There is an arm beside the baseline.
        conditions: The conditions, one or more.
        columns: The number of panels side by side.
    """
    base, *rivals = findings.arms
    names, style = lettering([arm.name for arm in rivals], columns=MOST_COLUMNS)
    columns = 2 if columns > 1 and len(conditions) == 4 else min(columns, len(conditions))
    rows = -(-len(conditions) // columns)
    figure = Figure(figsize=(3.6 * columns + _beside(names), rows * (0.32 * len(rivals) + 1.1)), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    places = range(len(rivals))
    for axes, condition in zip(grid.flat, conditions, strict=False):
        found = [arm.gains[condition].difference for arm in rivals]
        value = np.array([interval.value for interval in found])
        ends = [value - [interval.low for interval in found], [interval.high for interval in found] - value]
        axes.axvline(0, color="tab:gray", linewidth=1)
        axes.errorbar(value, places, xerr=np.maximum(ends, 0), fmt="o", markersize=5, capsize=3)
        axes.set_title(condition, fontsize=SIZE)
        axes.set_yticks(places, names, **style)
        axes.set_ylim(len(rivals) - 0.5, -0.5)
        axes.grid(axis="x", alpha=0.3)
    for axes in grid.flat[len(conditions) :]:
        axes.set_axis_off()
    (reference,), style = lettering([base.name], columns=MOST_COLUMNS)
    figure.supxlabel(f"difference to {reference}, percentage points", fontsize=SIZE, **style)
    return figure


def plot_conditions(findings: Findings, conditions: Sequence[str], width: float = WIDE) -> Figure:
    """Draw the accuracy of each arm over the conditions, with its interval as a band.

    Args:
        findings: The findings.
        conditions: The conditions, in the order of the axis.
        width: The width of the picture, in inches.
    """
    figure, axes = _figure(width)
    for arm in findings.arms:
        found = np.array([arm.accuracy[condition] for condition in conditions])
        (line,) = axes.plot(conditions, found[:, 0], marker="o", markersize=4)
        axes.fill_between(conditions, found[:, 1], found[:, 2], alpha=0.15, color=line.get_color())
    axes.set_ylabel("accuracy (%)")
    axes.tick_params(axis="x", rotation=45)
    _legend(figure, axes, findings.arms)
    return figure


def plot_learning(findings: Findings, width: float = WIDE) -> Figure:
    """Draw the validation accuracy over the epochs: of each arm the mean of its runs, and their range.

    Args:
        findings: The findings.
        width: The width of the picture, in inches.

    >>> arm = Arm("tfe4", {}, {}, None, None, (10, 0), 1.0, None, 2, [[20.0, 60.0], [30.0, 50.0]], [])
    >>> figure = plot_learning(Findings([arm], clips=120, groups=6, unit="speaker"))
    >>> figure.axes[0].lines[0].get_ydata().tolist()
    [25.0, 55.0]
    """
    figure, axes = _figure(width)
    for arm in findings.arms:
        length = min(map(len, arm.curves))
        runs = np.array([curve[:length] for curve in arm.curves])
        epochs = np.arange(1, length + 1)
        (line,) = axes.plot(epochs, runs.mean(0), marker="." if length < 40 else "")
        axes.fill_between(epochs, runs.min(0), runs.max(0), alpha=0.1, color=line.get_color())
    axes.set(xlabel="epoch", ylabel="validation accuracy (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, axes, findings.arms)
    return figure


def plot_masks(findings: Findings, width: float = WIDE) -> Figure:
    """Draw how much the mask of each run changes between clips, and where a mask counts as constant.

    Args:
        findings: The findings. An arm has a mask.
        width: The width of the picture, in inches.
    """
    arms = [arm for arm in findings.arms if arm.masks]
    names, style = lettering([arm.name for arm in arms], columns=MOST_COLUMNS)
    figure = Figure(figsize=(width, 0.32 * len(arms) + 1.1), layout="constrained")
    axes = figure.subplots()
    for place, arm in enumerate(arms):
        axes.plot(np.maximum(arm.masks, LEAST_CHANGE), [place] * len(arm.masks), "o", markersize=5, alpha=0.6)
    axes.axvline(CONSTANT, color="tab:gray", linewidth=1, linestyle="--")
    axes.set_xscale("log")
    axes.set_xlabel("change of the mask between clips, as a part of its mean")
    axes.set_yticks(range(len(arms)), names, **style)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    return figure


def plot_latency(findings: Findings, width: float = WIDE) -> Figure:
    """Draw each arm's accuracy on clean clips against the time that a clip takes.

    Args:
        findings: The findings.
        width: The width of the picture, in inches.
    """
    figure, axes = _figure(width)
    arms = [arm for arm in findings.arms if arm.latency is not None]
    for arm in arms:
        value, low, high = arm.accuracy["clean"]
        ends = [[max(0, value - low)], [max(0, high - value)]]
        axes.errorbar([arm.latency.milliseconds], [value], yerr=ends, fmt="o", markersize=6, capsize=3)  # type: ignore[union-attr]
    axes.set(xlabel="latency of a clip (ms)", ylabel="accuracy on clean clips (%)")
    _legend(figure, axes, arms)
    return figure


def _figure(width: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    return figure, axes


def _legend(figure: Figure, axes: Axes, arms: Sequence[Arm]) -> None:
    """Name the arms under the axes, where they cover nothing."""
    names, style = lettering([arm.name for arm in arms], columns=MOST_COLUMNS)
    columns = max(1, int(11 * figure.get_figwidth() / (8 + max(map(columns_of, names)))))
    marks: list[Any] = list(axes.containers or axes.lines)  # an error bar is one mark
    legend = figure.legend(marks, names, loc="outside lower center", ncols=columns, frameon=False)
    for text in legend.get_texts():
        text.update(style)


def _beside(names: Sequence[str]) -> float:
    """Give the inches that names take beside an axis."""
    return 0.6 * SIZE / 72 * max(map(columns_of, names))
