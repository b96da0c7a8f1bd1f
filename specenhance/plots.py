"""Pictures: a spectrogram with its mask, a confusion matrix, learning curves. Each gives a matplotlib figure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from specenhance.files import atomic_path

__all__ = ["plot_confusion", "plot_curves", "plot_enhancement", "save_figure"]

MOST_LABELS = 60  # beyond it class names on an axis cannot be read


def plot_enhancement(
    spec: Tensor,
    enhanced: Tensor,
    mask: Tensor | None,
    *,
    hop_seconds: float,
    frequencies: Sequence[float],
    title: str = "",
) -> Figure:
    """Draw one spectrogram, its mask and the enhanced spectrogram side by side, time in seconds, frequency in Hz.

    Args:
        spec: the spectrogram ``(T, F)``.
        enhanced: the enhanced one ``(T, F)``.
        mask: the mask ``(T, F)``; None, for a front end without one, leaves its panel out.
        hop_seconds: seconds between frames.
        frequencies: centre frequency of each of the F bins, Hz.
        title: over the whole figure.
    """
    panels = [("spectrogram", spec, "magma"), ("enhanced", enhanced, "magma")]
    if mask is not None:
        panels.insert(1, ("mask", mask, "viridis"))
    figure = Figure(figsize=(4.6 * len(panels), 3.6), layout="constrained")
    figure.suptitle(title)
    T, F = spec.shape
    ticks = [round(i * (F - 1) / 5) for i in range(6)]
    for axes, (name, image, colours) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        # Row i spans [i - 0.5, i + 0.5]; mel bins are evenly spaced on the picture and labelled with their Hz.
        extent = (0.0, T * hop_seconds, -0.5, F - 0.5)
        shown = axes.imshow(
            image.detach().float().cpu().numpy().T,
            origin="lower",
            aspect="auto",
            cmap=colours,
            extent=extent,
            interpolation="nearest",
        )
        axes.set(title=name, xlabel="time (s)", ylabel="frequency (Hz)")
        axes.set_yticks(ticks, [f"{frequencies[i]:.0f}" for i in ticks])
        figure.colorbar(shown, ax=axes)
    return figure


def plot_confusion(matrix: Tensor, classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix ``(true, predicted)`` of counts, each row as shares of its true class."""
    n = len(classes)
    side = min(max(4.0, 0.24 * n + 2), 16.0)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    counts = matrix.float()
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    shown = axes.imshow(shares.cpu().numpy(), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xlabel="predicted", ylabel="true", title=f"accuracy {float(counts.trace() / counts.sum()):.1%}")
    if n <= MOST_LABELS:
        size = 8 if n > 15 else 10
        axes.set_xticks(range(n), classes, rotation=90, fontsize=size)
        axes.set_yticks(range(n), classes, fontsize=size)
    figure.colorbar(shown, ax=axes, label="share of the true class", shrink=0.8)
    return figure


def plot_curves(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw loss and accuracy over the epochs of a run's history."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    epochs = [row["epoch"] + 1 for row in rows]
    for axes, figure_name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for split, name in (("training", f"train_{figure_name}"), ("validation", f"val_{figure_name}")):
            if rows and name in rows[0]:
                axes.plot(epochs, [row[name] for row in rows], label=split, marker="." if len(rows) < 40 else "")
        axes.set(xlabel="epoch", ylabel=figure_name)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure, whole or not at all, in the format of the path's suffix."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
