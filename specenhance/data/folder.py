"""Your own recordings: a folder of sound files with a CSV of labels, or with one folder per class."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from specenhance.data.base import AudioDataset
from specenhance.data.layout import (
    SPLITS,
    audio_names,
    check_split,
    hashed_split,
    others,
    plain_path,
    require_files,
    require_folder,
    split_named,
    subfolders,
)
from specenhance.data.registry import register_data
from specenhance.data.tables import read_table

__all__ = ["AudioFolder"]


# 0 in a recipe stands for a value that is fitted to the training clips.
@register_data("folder", frames=0, epochs=0, batch_size=0, crop="random", time_mask=16, freq_mask=16, shift=10)
class AudioFolder(AudioDataset):
    """Recordings in a folder. A CSV labels them, or the folders that they are in.

    There are three layouts:

    - With ``csv``, the table has the columns ``path`` (relative to ``root``, or absolute) and ``label``. It may have a
      column ``split``, with ``train``, ``validation`` or ``test`` in each row. Each further column, such as ``speaker`` or
      ``site``, is a kind of ``groups``.
    - Without ``csv``, if every folder in ``root`` has the name of a split (``train``, ``validation`` or ``val``, ``test``),
      the files are ``root/split/label/*.wav``, or of another suffix of :data:`specenhance.audio.SUFFIXES`.
    - Otherwise the files are ``root/label/*.wav``.

    With ``multi_label`` and a table, a clip has any number of classes. Either ``label`` has them with ``;`` between them, and
    may be empty. Or the table has no column ``label``, and each column whose cells are all 0 or 1 is a class.

    If the layout gives no splits, the SHA-256 of a clip's path below ``root`` chooses its split: about 15% of the clips are
    for test, 15% for validation and the rest for training. A clip stays in its split when others are added or removed.
    But clips that belong together, of one speaker or one recording, can get different splits. A ``split`` column prevents
    that.

    Args:
        root: Folder of the recordings.
        csv: Path of the table. It is not relative to ``root``.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        classes: Labels in the order of their numbers. None takes the labels of all splits, sorted.
        sample_rate: Sample rate of the waveforms, in Hz.
        multi_label: Whether a clip has any number of classes.

    Raises:
        FileNotFoundError: for a missing folder, table, or file that the table names.
        ValueError: for a malformed table, a path in two rows, a label that is not in ``classes``, an unknown split, a
            label's folder without a file, or a split without a clip.

    >>> import tempfile, numpy as np, soundfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for label in ("cat", "dog"):
    ...         Path(root, "train", label).mkdir(parents=True)
    ...         soundfile.write(f"{root}/train/{label}/a.wav", np.zeros(1600), 16000)
    ...     data = AudioFolder(root, split="train")
    ...     waveform, label = data[1]
    >>> waveform.shape, data.classes[label]
    (torch.Size([1600]), 'dog')
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        csv: str | os.PathLike[str] | None = None,
        split: str = "train",
        classes: Sequence[str] | None = None,
        sample_rate: int = 16000,
        multi_label: bool = False,
    ) -> None:
        check_split(split)
        root = require_folder(Path(root), "the recordings")
        if csv is None:
            clips, self.passed_over = _from_folders(root)
        else:
            clips = _from_table(root, Path(csv), multi_label)
        found = sorted({label for clip in clips for label in clip.labels})
        labels = found if classes is None else list(classes)
        numbers = {label: number for number, label in enumerate(labels)}
        if len(numbers) < len(labels):
            raise ValueError(f"classes={labels}: expected each label once")
        for clip in clips:
            for label in clip.labels:
                if label not in numbers:
                    raise ValueError(
                        f"{clip.where}: label {label!r} of {clip.path} is none of the classes {', '.join(labels)}; "
                        "correct it, or add it to the classes"
                    )
        splits = [clip.split or hashed_split(clip.path) for clip in clips]
        chosen = [clip for clip, of in zip(clips, splits, strict=True) if of == split]
        if not chosen:
            sizes = ", ".join(f"{name} {count}" for name, count in Counter(splits).items()) or "none at all"
            raise ValueError(
                f"{csv or root}: no clip in the split {split!r} (clips: {sizes}); a 'split' column, or folders named "
                f"{', '.join(SPLITS)} around those of the labels, say which clip is in which split"
            )
        of = [tuple(sorted(numbers[label] for label in clip.labels)) for clip in chosen]
        paths = [root / clip.path for clip in chosen]
        super().__init__(labels, of if multi_label else [one for (one,) in of], paths, sample_rate)
        kinds = clips[0].groups
        self.groups = {kind: [clip.groups[kind] for clip in chosen] for kind in kinds}


class _Clip(NamedTuple):
    path: str  # below root, with "/" on every system
    labels: tuple[str, ...]
    split: str  # "" if the layout gives no splits
    where: str  # the row or folder that names the clip, for messages
    groups: Mapping[str, str] = MappingProxyType({})  # the further columns of the table


def _from_table(root: Path, table: Path, multi_label: bool = False) -> list[_Clip]:
    if not table.is_file() and (root / table).is_file():
        raise FileNotFoundError(f"{table}: no such table; did you mean {root / table}?")
    clips: dict[str, _Clip] = {}
    rows = list(read_table(table, ["path"] if multi_label else ["path", "label"]))
    columns = _class_columns(table, rows) if multi_label and rows and "label" not in rows[0][1] else []
    for where, row in rows:
        path, split = plain_path(row["path"]), split_named(row.get("split", ""))
        if "split" in row and split is None:
            raise ValueError(f"{where}: split {row['split']!r} of {path}: expected one of {', '.join(SPLITS)}")
        if path in clips:
            raise ValueError(f"{where}: {path} is already named in {clips[path].where}; remove one of the rows")
        if columns:
            labels = tuple(name for name in columns if row[name] == "1")
        elif multi_label:
            labels = tuple(dict.fromkeys(label.strip() for label in row["label"].split(";") if label.strip()))
        else:
            labels = (row["label"],)
        groups = {name: value for name, value in row.items() if name not in ("path", "label", "split", *columns)}
        clips[path] = _Clip(path, labels, split or "", where, groups)
    require_files((root / path for path in clips), named_in=table)
    return list(clips.values())


def _class_columns(table: Path, rows: Sequence[tuple[str, Mapping[str, str]]]) -> list[str]:
    """List the columns of a table that are classes: all of their cells are 0 or 1."""
    names = [name for name in rows[0][1] if name not in ("path", "split")]
    found = [name for name in names if all(row[name] in ("0", "1") for _, row in rows)]
    if not found:
        raise ValueError(
            f"{table}: no column 'label', and none that has only 0 and 1; expected labels such as a;b in a column 'label', or "
            "one column of 0 and 1 for each class"
        )
    return found


def _from_folders(root: Path) -> tuple[list[_Clip], list[str]]:
    """List the clips in the labels' folders, and the files and folders that are not read."""
    tops = subfolders(root)
    passed_over = others(root, tops)
    if not tops and passed_over:
        raise ValueError(
            f"{root}: holds {len(passed_over)} files and no folder; expected a folder for each class, {root}/LABEL/*.wav, or a "
            "table that names each file's label, --csv"
        )
    splits = {top: split_named(top) or "" for top in tops}
    if not all(splits.values()):
        named = [top for top in tops if splits[top] and subfolders(root / top)]
        if named:
            besides = ", ".join(top for top in tops if not splits[top])
            raise ValueError(
                f"{root}: holds {' and '.join(named)}, and beside them {besides}; expected folders of the splits "
                f"{', '.join(SPLITS)} only, or of classes only"
            )
        splits = {"": ""}
    clips = []
    for top, split in splits.items():
        labels = subfolders(root / top)
        passed_over += [f"{top}/{name}" for name in others(root / top, labels)] if top else []
        for label in labels:
            folder = root / top / label
            names = audio_names(folder)
            passed_over += [posixpath.join(top, label, name) for name in others(folder, names)]
            clips += [_Clip(posixpath.join(top, label, name), (label,), split, where=str(folder)) for name in names]
    return clips, passed_over
