"""ESC-50: environmental sounds of 50 classes in five folds (Piczak, "ESC: Dataset for Environmental Sound Classification")."""

from __future__ import annotations

import os
from pathlib import Path

from specenhance._published import NORMALISATION
from specenhance.data.base import AudioDataset
from specenhance.data.layout import require_files, require_folder
from specenhance.data.registry import register_data
from specenhance.data.tables import read_table

__all__ = ["ESC50"]

FOLDS = range(1, 6)


MEAN, STD = NORMALISATION["esc50"]


class ESC50(AudioDataset):
    """ESC-50 as it is published: ``meta/esc50.csv`` (filename, fold, target, category, ...) and ``audio/``.

    The published clips are WAV at 44.1 kHz. Files of another format or sample rate are read too, if the table names them.
    ``classes`` are the categories in the order of their target numbers. ``groups`` has the kind ``"recording"``: what a clip
    was cut from, the second part of its name (``1-100032-A-0.wav``).

    Args:
        root: Folder that holds ``meta`` and ``audio``.
        fold: Number of the fold that is held out, 1 to 5.
        train: Whether to take the four other folds; otherwise the fold that is held out.
        sample_rate: Sample rate of the waveforms, in Hz.

    Raises:
        FileNotFoundError: for a missing folder, table, or file that the table names.
        ValueError: for a fold out of range, a table without one of these columns or with a malformed row, and if no clip is
            in these folds.

    >>> import tempfile, numpy as np, soundfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     Path(root, "meta").mkdir()
    ...     _ = Path(root, "meta", "esc50.csv").write_text("filename,fold,target,category\\na.wav,1,0,dog\\nb.wav,2,1,rain")
    ...     Path(root, "audio").mkdir()
    ...     for name in ("a.wav", "b.wav"):
    ...         soundfile.write(f"{root}/audio/{name}", np.zeros(1600), 16000)
    ...     data = ESC50(root, fold=1, train=True)
    >>> data.classes, data.labels
    (['dog', 'rain'], [1])
    """

    def __init__(self, root: str | os.PathLike[str], fold: int, train: bool, sample_rate: int = 16000) -> None:
        if fold not in FOLDS:
            raise ValueError(f"fold={fold!r}: expected the fold to hold out, 1 to 5")
        root = require_folder(Path(root), "ESC-50's folders meta and audio")
        table = root / "meta" / "esc50.csv"
        paths: list[Path] = []
        folds: list[int] = []
        targets: list[int] = []
        categories: dict[int, str] = {}
        for where, row in read_table(table, ["filename", "fold", "target", "category"]):
            numbers = row["fold"], row["target"]
            if not all(number.isdecimal() for number in numbers) or int(row["fold"]) not in FOLDS:
                raise ValueError(
                    f"{where}: fold={numbers[0]!r}, target={numbers[1]!r}: expected a fold from 1 to 5 and a target >= 0"
                )
            target = int(row["target"])
            if categories.setdefault(target, row["category"]) != row["category"]:
                raise ValueError(
                    f"{where}: target {target} is {row['category']!r}, but {categories[target]!r} in a row above; "
                    "take the published table"
                )
            paths.append(root / "audio" / row["filename"])
            folds.append(int(row["fold"]))
            targets.append(target)
        require_files(paths, named_in=table)
        chosen = [i for i in range(len(paths)) if (folds[i] != fold) == train]
        if not chosen:
            raise ValueError(
                f"{table}: no clip {'outside' if train else 'in'} fold {fold}; it has the folds {sorted(set(folds))}"
            )
        order = sorted(categories)
        super().__init__(
            classes=[categories[target] for target in order],
            labels=[order.index(targets[i]) for i in chosen],
            paths=[paths[i] for i in chosen],
            sample_rate=sample_rate,
        )
        self.groups = {
            "recording": [paths[i].name.split("-")[1] if "-" in paths[i].name else paths[i].name for i in chosen]
        }


# ESC-50 has no validation clips. Weights chosen on the test fold would look better than they are, so a run keeps the last ones.
@register_data(
    "esc50", folds=5, mean=MEAN, std=STD, frames=512, epochs=60, batch_size=32, select="last",
    time_mask=96, freq_mask=24, shift=10, noise=0.05,
)  # fmt: skip
def open_esc50(root: str | os.PathLike[str], split: str, fold: int, sample_rate: int = 16000) -> ESC50:
    """Open a split of ESC-50. Both ``"validation"`` and ``"test"`` are the fold that is held out."""
    return ESC50(root, fold=fold, train=split == "train", sample_rate=sample_rate)
