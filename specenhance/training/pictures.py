"""The pictures of a finished run: its folder is read here, and :mod:`specenhance.analysis` draws."""

from __future__ import annotations

import csv
import logging
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import torch

from specenhance._names import shown
from specenhance.analysis.enhancement import enhancement_picture
from specenhance.analysis.plots import plot_confusion, plot_curves, save_figure
from specenhance.data.base import classes_of
from specenhance.training.build import build_split
from specenhance.training.given import NOTHING, Given
from specenhance.training.store import Stored, load_stored, read_history

__all__ = ["CONFUSION", "draw_pictures"]

CONFUSION = "confusion_matrix.csv"

_log = logging.getLogger(__name__)


def draw_pictures(run: Path, trained: Stored | None = None, given: Given = NOTHING) -> None:
    """Draw the missing pictures of a finished run. A picture that cannot be drawn is only a warning."""
    stored = cache(lambda: trained or load_stored(run))

    def confusion() -> Any:
        with (run / CONFUSION).open(encoding="utf-8", newline="") as file:
            _, *rows = csv.reader(file)
        return plot_confusion(torch.tensor([[int(count) for count in row[1:]] for row in rows]), stored().classes)

    def enhanced() -> Any:
        model, classes, recipe = stored()
        data = build_split(recipe, "test", given)
        named = ", ".join(classes[label] for label in classes_of(data.labels[0]))
        return enhancement_picture(model, data.waveform(0), title=f"{named or 'no class'} (first test clip)")

    for name, draw in (
        *([("confusion_matrix.png", confusion)] if (run / CONFUSION).is_file() else []),
        ("curves.png", lambda: plot_curves(read_history(run))),
        ("enhanced.png", enhanced),
    ):
        if trained is not None:
            (run / name).unlink(missing_ok=True)  # it may be of the run before it was extended
        if not (run / name).is_file():
            try:
                save_figure(draw(), run / name)
            except Exception as error:  # any error: the run is finished, and its result is written
                _log.warning(
                    f"{shown(run / name)} was not drawn ({shown(error)}); specenhance train --resume "
                    f"{shlex.quote(str(run))} tries again"
                )
