"""AudioSet: two million clips of ten seconds, of 527 classes, several of them a clip.

Source: Gemmeke et al., "Audio Set: An ontology and human-labeled dataset for audio events", ICASSP 2017.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from specenhance.data.base import AudioDataset
from specenhance.data.layout import audio_files, check_split, hash_place, require_folder
from specenhance.data.registry import register_data
from specenhance.data.tables import read_rows, read_table

__all__ = ["AudioSet"]

HELD_OUT = 0.05  # fraction of the training clips that validate

# The settings of PSLA's public code for AudioSet (Gong et al., arXiv:2102.01243), whose authors wrote CMKD too.
SHARED: dict[str, Any] = {
    "multi_label": True, "mean": -4.6476, "std": 4.5699, "frames": 1056, "batch_size": 100,
    "optimizer": "adam", "betas": (0.95, 0.999), "weight_decay": 5e-7, "schedule": "step", "decay": 0.5, "decay_every": 5,
    "time_mask": 192, "freq_mask": 48, "mixup": 0.5,
}  # fmt: skip


class AudioSet(AudioDataset):
    """AudioSet's published tables, and the clips that one has: many of the videos are gone.

    ``root`` holds ``class_labels_indices.csv``, ``eval_segments.csv``, ``balanced_train_segments.csv`` and, for all training
    clips, ``unbalanced_train_segments.csv``. The clips may be anywhere below it. A clip's file is named by its video, as the
    usual programs name it: ``ID``, ``YID``, ``ID_START`` or ``ID_START_END``, in seconds or milliseconds.

    The training clips train, except 5% of them that a hash of the name chooses: these validate. The evaluation clips test.
    Rows without a file are left out and counted in ``passed_over``.

    Args:
        root: Folder of the tables and clips.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        sample_rate: Sample rate of the waveforms, in Hz.
        balanced: Whether only the balanced training clips train. Otherwise all do.

    Raises:
        FileNotFoundError: for a missing folder or table.
        ValueError: for a malformed table, a label that the classes do not have, or a split without a file.

    >>> import tempfile, numpy as np, soundfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     _ = Path(root, "class_labels_indices.csv").write_text('index,mid,display_name\\n0,/m/1,Bark\\n1,/m/2,Rain\\n')
    ...     _ = Path(root, "eval_segments.csv").write_text('# made\\n--4gqARaEJE, 0.000, 10.000, "/m/1,/m/2"\\n')
    ...     soundfile.write(f"{root}/Y--4gqARaEJE.wav", np.zeros(1600), 16000)
    ...     data = AudioSet(root, "test")
    >>> data.classes, data.labels
    (['Bark', 'Rain'], [(0, 1)])
    """

    def __init__(
        self, root: str | os.PathLike[str], split: str, sample_rate: int = 16000, balanced: bool = True
    ) -> None:
        check_split(split)
        root = require_folder(Path(root), "AudioSet's tables and clips")
        names: list[str] = []
        numbers: dict[str, int] = {}
        for where, row in read_table(root / "class_labels_indices.csv", ["index", "mid", "display_name"]):
            numbers[row["mid"]] = len(names)
            names.append(row["display_name"])
            if len(numbers) < len(names):
                raise ValueError(f"{where}: {row['mid']} stands twice; take the published table")
        twice = {name for name, count in Counter(names).items() if count > 1}
        classes = [f"{name} ({mid})" if name in twice else name for name, mid in zip(names, numbers, strict=True)]
        parts = ["balanced_train"] if balanced else ["balanced_train", "unbalanced_train"]
        files = {path.stem: path for path in audio_files(root)}
        labels, paths, gone = [], [], 0
        tables = [root / f"{part}_segments.csv" for part in (["eval"] if split == "test" else parts)]
        for table in tables:
            for where, (video, start, end, mids) in read_rows(table, 4):
                if split != "test" and _validates(video) != (split == "validation"):
                    continue
                unknown = [mid for mid in mids.split(",") if mid.strip() not in numbers]
                if unknown:
                    raise ValueError(
                        f"{where}: {unknown[0]!r} is not in class_labels_indices.csv; take the published tables"
                    )
                path = next((files[name] for name in _names(video, start, end, where) if name in files), None)
                if path is None:
                    gone += 1
                    continue
                labels.append(tuple(sorted({numbers[mid.strip()] for mid in mids.split(",")})))
                paths.append(path)
        if not paths:
            raise ValueError(
                f"{root}: none of the {gone:,} clips of the split {split!r} is there; expected files named by their video, "
                "such as YID.wav, anywhere below it"
            )
        super().__init__(classes, labels, paths, sample_rate)
        if gone:
            self.passed_over = [f"{gone:,} clips of {', '.join(table.name for table in tables)} that have no file"]


def _names(video: str, start: str, end: str, where: str) -> list[str]:
    """List the names that a clip's file may have, without suffix."""
    try:
        first, last = float(start), float(end)
    except ValueError:
        raise ValueError(f"{where}: {start!r} to {end!r}: expected seconds; take the published table") from None
    names = [video]
    for factor in (1, 1000):
        for form in ("{:.0f}", "{:.1f}", "{:.3f}"):
            a, b = form.format(factor * first), form.format(factor * last)
            names += [f"{video}_{a}", f"{video}_{a}_{b}"]
    return [prefix + name for name in names for prefix in ("", "Y")]


def _validates(video: str) -> bool:
    return hash_place(video) < HELD_OUT


@register_data("audioset", **SHARED, epochs=60, lr=1e-3, decay_from=35)
def open_audioset(root: str | os.PathLike[str], split: str, sample_rate: int = 16000) -> AudioSet:
    """Open a split of AudioSet that trains on the balanced training clips."""
    return AudioSet(root, split, sample_rate)


@register_data("audioset_full", **SHARED, epochs=30, lr=1e-4, decay_from=10)
def open_whole_audioset(root: str | os.PathLike[str], split: str, sample_rate: int = 16000) -> AudioSet:
    """Open a split of AudioSet that trains on all training clips."""
    return AudioSet(root, split, sample_rate, balanced=False)
