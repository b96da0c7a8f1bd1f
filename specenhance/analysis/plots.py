"""Draw a spectrogram with its mask, a confusion matrix, or learning curves. Each function gives a matplotlib figure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from specenhance._files import atomic_path
from specenhance.analysis.lettering import lettering, width

__all__ = [
    "plot_average_precision",
    "plot_confusion",
    "plot_curves",
    "plot_enhancement",
    "plot_factors",
    "plot_masks",
    "plot_spectrogram",
    "save_figure",
]

MOST_LABELS = 60  # more class names on an axis cannot be read
POINTS = 72  # points in an inch
SPAN = 0.01  # minimum span of a mask's colours, as a part of its maximum; rounding must not look like a pattern


def plot_spectrogram(
    values: Tensor, name: str, *, hop_seconds: float, frequencies: Sequence[float], mask: bool = False
) -> Figure:
    """Draw one spectrogram or mask, time in seconds, frequency in Hz.

    Args:
        values: the spectrogram or the mask ``(T, F)``.
        name: title of the picture.
        hop_seconds: seconds between frames.
        frequencies: centre frequency of each of the F bins, in Hz.
        mask: whether the values are a mask.

    >>> figure = plot_spectrogram(torch.rand(10, 4), "noise", hop_seconds=0.01, frequencies=[100, 200, 300, 400])
    >>> figure.axes[0].get_title()
    'noise'
    """
    figure = Figure(figsize=(4.6, 3.6), layout="constrained")
    _spectrogram(figure.subplots(), values, name, hop_seconds, frequencies, mask=mask)
    return figure


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
        enhanced: the enhanced spectrogram ``(T, F)``.
        mask: the mask ``(T, F)``. None draws no panel for it.
        hop_seconds: seconds between frames.
        frequencies: centre frequency of each of the F bins, in Hz.
        title: title of the whole figure.

    >>> spec = torch.rand(10, 4)
    >>> figure = plot_enhancement(spec, spec / 2, None, hop_seconds=0.01, frequencies=[100, 200, 300, 400])
    >>> [axes.get_title() for axes in figure.axes[:2]]
    ['spectrogram', 'enhanced']
    """
    panels = [("spectrogram", spec), ("enhanced", enhanced)]
    if mask is not None:
        panels.insert(1, ("mask", mask))
    figure = Figure(figsize=(4.6 * len(panels), 3.6), layout="constrained")
    (title,), style = lettering([title], columns=45 * len(panels))
    figure.suptitle(title, **style)
    for axes, (name, values) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        _spectrogram(axes, values, name, hop_seconds, frequencies, mask=values is mask)
    return figure


def _spectrogram(
    axes: Axes, values: Tensor, name: str, hop_seconds: float, frequencies: Sequence[float], *, mask: bool
) -> None:
    values = values.detach().float()
    low, high = _mask_range(values.min().item(), values.max().item()) if mask else (None, None)
    shown = _image(axes, values, "viridis" if mask else "magma", low, high, hop_seconds, frequencies, ticks=6)
    (name,), style = lettering([name])
    axes.set(xlabel="time (s)", ylabel="frequency (Hz)")
    axes.set_title(name, **style)
    axes.figure.colorbar(shown, ax=axes)


def _image(
    axes: Axes,
    values: Tensor,
    colours: str,
    low: float | None,
    high: float | None,
    hop_seconds: float,
    frequencies: Sequence[float],
    ticks: int,
) -> AxesImage:
    T, F = values.shape
    places = [round(i * (F - 1) / (ticks - 1)) for i in range(ticks)]
    axes.set_yticks(places, [f"{frequencies[i]:.0f}" for i in places])
    return axes.imshow(
        values.T.cpu().numpy(),
        origin="lower",
        aspect="auto",
        cmap=colours,
        vmin=low,
        vmax=high,
        # Row i spans [i - 0.5, i + 0.5]. Mel bins are evenly spaced in the picture, and their labels are in Hz.
        extent=(0.0, T * hop_seconds, -0.5, F - 0.5),
        interpolation="nearest",
    )


def plot_masks(
    masks: Sequence[Tensor],
    names: Sequence[str],
    *,
    hop_seconds: float,
    frequencies: Sequence[float],
    label: str,
    columns: int = 6,
    centred: bool = False,
) -> Figure:
    """Draw many masks on one colour scale, time in seconds, frequency in Hz.

    Args:
        masks: the masks, each ``(T, F)``. Values that are not finite are left blank.
        names: title of each mask.
        hop_seconds: seconds between frames.
        frequencies: centre frequency of each of the F bins, in Hz.
        label: name of the colour scale.
        columns: number of pictures side by side.
        centred: whether 0 is the middle of the scale, as for differences.

    >>> figure = plot_masks([torch.rand(10, 4)], ["a"], hop_seconds=0.01, frequencies=[1, 2, 3, 4], label="mask", columns=1)
    >>> figure.axes[0].get_title()
    'a'
    """
    rows = -(-len(masks) // columns)
    figure = Figure(figsize=(1.9 * columns + 1, 1.7 * rows + 0.6), layout="constrained")
    everything = torch.stack([mask.float() for mask in masks])
    finite = everything[everything.isfinite()]
    low, high = (finite.min().item(), finite.max().item()) if len(finite) else (0.0, 1.0)
    if centred:
        high = max(-low, high, 1e-12)
        low = -high
    else:
        low, high = _mask_range(low, high)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    colours = "RdBu_r" if centred else "viridis"
    names, style = lettering(names, columns=22)  # the width of one picture
    for axes, mask, name in zip(grid.flat, everything, names, strict=False):
        shown = _image(axes, mask, colours, low, high, hop_seconds, frequencies, ticks=4)
        axes.set_title(name, fontsize=9, **style)
        axes.tick_params(labelsize=8)
    for axes in grid.flat[len(masks) :]:
        axes.set_axis_off()
    for column in range(min(columns, len(masks))):
        grid[(len(masks) - 1 - column) // columns, column].tick_params(
            labelbottom=True
        )  # the lowest picture of the column
    figure.supxlabel("time (s)", fontsize=9)
    figure.supylabel("frequency (Hz)", fontsize=9)
    figure.colorbar(shown, ax=grid, label=label, fraction=0.03)
    return figure


def _mask_range(low: float, high: float) -> tuple[float, float]:
    """Widen the range of a mask's colours to the minimum span."""
    missing = max(0.0, SPAN * max(abs(low), abs(high), 1e-12) - (high - low))
    return low - missing / 2, high + missing / 2


def plot_factors(
    e_t: Tensor,
    e_f: Tensor,
    spread_t: Tensor,
    spread_f: Tensor,
    *,
    hop_seconds: float,
    frequencies: Sequence[float],
    columns: int = 2,
) -> Figure:
    """Draw a mask's mean factors over time, in seconds, and over frequency, in Hz. A band shows one standard deviation.

    Args:
        e_t: mean factor over time ``(T,)``. Values that are not finite are left out.
        e_f: mean factor over frequency ``(F,)``.
        spread_t: standard deviation of the factor over time between clips ``(T,)``.
        spread_f: standard deviation of the factor over frequency between clips ``(F,)``.
        hop_seconds: seconds between frames.
        frequencies: centre frequency of each of the F bins, in Hz.
        columns: 2 draws the panels side by side, 1 draws one below the other.

    >>> t, f = torch.rand(10), torch.rand(4)
    >>> len(plot_factors(t, f, t / 10, f / 10, hop_seconds=0.01, frequencies=[1, 2, 3, 4]).axes)
    2
    """
    figure, grid = _two_panels(columns, height=3.2, sharey=True)
    panels = (
        (e_t, spread_t, [t * hop_seconds for t in range(len(e_t))], "time (s)", "over time, e_t"),
        (e_f, spread_f, list(frequencies), "frequency (Hz)", "over frequency, e_f"),
    )
    for axes, (mean, spread, places, axis, title) in zip(grid, panels, strict=True):
        middle, width = mean.cpu().numpy(), spread.cpu().numpy()
        axes.plot(places, middle)
        axes.fill_between(places, middle - width, middle + width, alpha=0.3)
        axes.set(xlabel=axis, ylabel="factor of the mask", title=title, ylim=(0, 1))
        axes.grid(alpha=0.3)
    return figure


def plot_confusion(matrix: Tensor, classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix: for each true class, the part of its clips that is classified as each class.

    Args:
        matrix: number of clips of each true and each predicted class ``(true, predicted)``.
        classes: names of the classes.

    >>> plot_confusion(torch.tensor([[3, 1], [0, 4]]), ["a", "b"]).axes[0].get_title()
    'accuracy 87.5%'
    """
    n = len(classes)
    side = min(max(4.0, 0.24 * n + 2), 16.0)
    size = 8 if n > 15 else 10
    labels, style = lettering(classes if n <= MOST_LABELS else [])
    beside = 0.65 * size / POINTS * max(map(width, labels), default=0)  # inches that the labels take on both axes
    figure = Figure(
        figsize=(side + beside + 1, side + beside), layout="compressed"
    )  # the layout "constrained" cuts off a square
    axes = figure.subplots()
    counts = matrix.float()
    parts = counts / counts.sum(1, keepdim=True).clamp(min=1)
    shown = axes.imshow(parts.cpu().numpy(), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xlabel="predicted", ylabel="true", title=f"accuracy {float(counts.trace() / counts.sum()):.1%}")
    if labels:
        axes.set_xticks(range(n), labels, rotation=90, fontsize=size, **style)
        axes.set_yticks(range(n), labels, fontsize=size, **style)
    figure.colorbar(shown, ax=axes, label="part of the true class", shrink=0.8)
    return figure


def plot_average_precision(classes: Sequence[str], values: Sequence[float]) -> Figure:
    """Draw a bar for the average precision of each class.

    Args:
        classes: names of the classes.
        values: average precision of each, in [0, 1].

    >>> figure = plot_average_precision(["bird", "rain"], [0.5, 0.9])
    >>> len(figure.axes[0].patches)
    2
    """
    n = len(classes)
    labels, style = lettering(classes if n <= MOST_LABELS else [])
    figure = Figure(figsize=(6, max(1.6, min(0.9 + 0.22 * n, 14))), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(n), values, color="tab:blue")
    axes.set(xlim=(0, 1), xlabel="average precision", ylim=(n - 0.4, -0.6))
    axes.grid(axis="x", alpha=0.3)
    axes.set_yticks(range(n) if labels else [], labels, fontsize=8, **style)
    return figure


def plot_curves(rows: Sequence[dict[str, Any]], columns: int = 2) -> Figure:
    """Draw loss and accuracy, or the mean average precision of a multi-label model, over the epochs of a run.

    Args:
        rows: figures of each epoch, as ``metrics.csv`` has them.
        columns: 2 draws the panels side by side, 1 draws one below the other.

    >>> figure = plot_curves([{"epoch": 0, "train_loss": 1.0, "val_accuracy": 0.2}])
    >>> figure.axes[0].get_ylabel()
    'loss'
    """
    figure, grid = _two_panels(columns, height=3.6)
    epochs = [row["epoch"] + 1 for row in rows]
    score = "mean_ap" if rows and "val_mean_ap" in rows[0] else "accuracy"
    for axes, figure_name in zip(grid, ("loss", score), strict=True):
        for split, name in (("training", f"train_{figure_name}"), ("validation", f"val_{figure_name}")):
            if rows and name in rows[0]:
                axes.plot(epochs, [row[name] for row in rows], label=split, marker="." if len(rows) < 40 else "")
        axes.set(xlabel="epoch", ylabel="mean average precision" if figure_name == "mean_ap" else figure_name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def _two_panels(columns: int, height: float, sharey: bool = False) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5 * columns, height * (2 // columns)), layout="constrained")
    return figure, figure.subplots(2 // columns, columns, sharey=sharey)


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file, whole or not at all.

    Args:
        figure: the figure.
        path: the file. Its suffix names the format.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_figure(Figure(), Path(folder) / "empty.png")
    ...     (Path(folder) / "empty.png").is_file()
    True
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
