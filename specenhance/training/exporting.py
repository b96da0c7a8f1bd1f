"""Export the model of a finished run to one file for other machines."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from specenhance._choices import Input
from specenhance.data.layout import SPLITS
from specenhance.deploy.export import check, default_name, export
from specenhance.deploy.fixed_mask import MaskClips
from specenhance.deploy.int8 import Clips
from specenhance.training.build import open_split
from specenhance.training.recipe import Recipe
from specenhance.training.store import load_stored

__all__ = ["clips_for_int8", "export_run"]

MOST_CHOOSING = 1000  # maximum number of clips that choose among the ways to quantise


def export_run(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    format: str = "onnx",
    input: Input = "waveform",
    int8: bool = False,
    calibration: int = 300,
    max_loss: float = 1.0,
    force: bool = False,
    fixed_mask: bool = False,
    root: Path | None = None,
    csv: Path | None = None,
) -> Path:
    """Write the model of a finished run to one file, see :func:`specenhance.deploy.export.export`.

    Args:
        run: the run folder.
        out: the file to write. Its folder exists. None writes it into the run folder.
        format: one of :func:`specenhance.deploy.formats.registry.list_formats`.
        input: input of the file, ``"waveform"`` or ``"spectrogram"``.
        int8: whether to convert the backbone to 8-bit integers. This needs the clips of the run's data set.
        calibration: number of training clips that measure ranges, for ``int8``.
        max_loss: maximum loss of accuracy on the test clips, in percentage points, for ``int8``.
        force: whether to write the file even if it loses more, for ``int8``.
        fixed_mask: whether to write the front end's mask as a constant, if it is the same for every clip. This needs the clips
            of the run's data set: the mask's mean over training clips is compared with the mask on test clips.
        root: the data set's new folder, if it has moved, for ``int8`` and ``fixed_mask``.
        csv: the data set's new table, if it has moved, for ``int8`` and ``fixed_mask``.

    Returns:
        The path of the file.

    Raises:
        FileNotFoundError, ValueError: as :func:`specenhance.training.store.load_stored` and
            :func:`specenhance.deploy.export.export`.
        OSError: if no file can be written there.
        ImportError: if packages for the format are missing.

    Example (it needs a finished run, so it does not run as a test)::

        export_run("runs/a")  # writes runs/a/model.onnx
    """
    check(format, input, int8=int8)
    if not 0 <= max_loss <= 100:
        raise ValueError(f"max_loss = {max_loss}: expected points of accuracy, from 0 to 100")
    model, classes, recipe = load_stored(run)
    path = Path(run) / default_name(format, input=input, int8=int8) if out is None else Path(out)
    clips = mask_clips = None
    if int8 or fixed_mask:  # nothing else needs the data, which may be gone
        recipe = recipe.moved_to(root, csv)
    if int8:
        clips = clips_for_int8(recipe, classes, calibration, None if force else max_loss)
    if fixed_mask:
        mask_clips = MaskClips(open_split(recipe, "train", classes), open_split(recipe, "test", classes))
    return export(
        model,
        path,
        format=format,
        input=input,
        int8=clips,
        fixed_mask=mask_clips,
        clip_seconds=recipe.clip_seconds,
    )


def clips_for_int8(recipe: Recipe, classes: list[str], calibration: int, max_loss: float | None = None) -> Clips:
    """Take the clips for INT8 from a data set: some calibrate, others choose, and the test clips do neither.

    Args:
        recipe: the recipe that names the data.
        classes: the names of the model's classes, in order.
        calibration: maximum number of training clips that calibrate.
        max_loss: maximum loss of accuracy on the test clips, in percentage points. None allows any loss.

    Raises:
        FileNotFoundError, ValueError: as :func:`specenhance.training.build.open_split`.
        ValueError: for a single training clip, in a data set without validation clips.

    >>> from specenhance.data import SyntheticSounds
    >>> clips = clips_for_int8(Recipe(data="synthetic"), SyntheticSounds("train").classes, calibration=3)
    >>> len(clips.calibration[1]), len(clips.choosing[1]), clips.named
    (3, 1000, 'validation clips')
    """
    train, validation, test = (open_split(recipe, split, classes) for split in SPLITS)
    order = [int(i) for i in np.random.default_rng(0).permutation(len(train))]
    if set(validation.paths) & set(test.paths):  # a data set without validation clips
        if len(order) < 2:
            raise ValueError(f"{recipe.root}: 1 training clip; INT8 needs one that calibrates and another that chooses")
        used = min(calibration, max(1, len(order) * 3 // 4))
        choosing, named = (train, order[used:][:MOST_CHOOSING]), "training clips that calibrate nothing"
        return Clips((train, order[:used]), choosing, named, test, max_loss)
    chosen = [int(i) for i in np.random.default_rng(0).permutation(len(validation))[:MOST_CHOOSING]]
    return Clips((train, order[:calibration]), (validation, chosen), "validation clips", test, max_loss)
