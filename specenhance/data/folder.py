"""Anyone's own recordings: a folder of them with a CSV of labels, or one folder a class."""

from __future__ import annotations

import os
import posixpath
from collections import Counter, defaultdict
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from specenhance.data.base import AudioDataset
from specenhance.data.layout import (
    SPLITS,
    audio_names,
    check_split,
    read_table,
    require_files,
    require_folder,
    subfolders,
)

__all__ = ["AudioFolder"]


class AudioFolder(AudioDataset):
    """Recordings in a folder, labelled by a CSV or by the folders that they lie in.

    Three layouts:

    - with ``csv``: its columns are ``path`` (below ``root``, or absolute), ``label`` and, if it has a third, ``split``:
      ``train``, ``validation`` or ``test`` in each row;
    - without, and every folder in ``root`` is named ``train``, ``validation`` or ``test``:
      ``root/split/label/*.wav`` (or flac, ogg, mp3);
    - without, and it is not so: ``root/label/*.wav``.

    Where the layout gives no splits, they are made: of each label's n clips, in the order of the SHA-256 of their path
    below ``root``, the first n/10 test, the next n/10 validate (rounded, at least one each) and the rest train; all
    train where n < 3. The same paths give the same splits, in any order and on any machine; when clips come or go,
    others may change splits. Clips that belong together, of one speaker or cut from one recording, may end in two
    splits: a ``split`` column keeps them together.

    Args:
        root: the folder of the recordings.
        csv: the table, a path like any other (not below ``root``).
        split: ``"train"``, ``"validation"`` or ``"test"``.
        classes: the labels in the order of their numbers; None is all labels of all splits, sorted.
        sample_rate: the waveforms' rate, in Hz.

    Raises:
        FileNotFoundError: for a missing folder, table, or file that the table names.
        ValueError: for a malformed table, a path in two rows, a label that is not in ``classes``, an unknown split, a
            label's folder without a file, or a split without a clip.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        csv: str | os.PathLike[str] | None = None,
        split: str = "train",
        classes: Sequence[str] | None = None,
        sample_rate: int = 16000,
    ) -> None:
        check_split(split)
        root = require_folder(Path(root), "the recordings")
        clips = _from_folders(root) if csv is None else _from_table(root, Path(csv))
        labels = sorted({clip.label for clip in clips}) if classes is None else list(classes)
        numbers = {label: number for number, label in enumerate(labels)}
        if len(numbers) < len(labels):
            raise ValueError(f"classes={labels}: expected each label once")
        for clip in clips:
            if clip.label not in numbers:
                raise ValueError(
                    f"{clip.where}: label {clip.label!r} of {clip.path} is none of the classes {', '.join(labels)}; "
                    "correct it, or add it to the classes"
                )
        splits = [clip.split or made for clip, made in zip(clips, _make_splits(clips), strict=True)]
        chosen = [clip for clip, of in zip(clips, splits, strict=True) if of == split]
        if not chosen:
            sizes = ", ".join(f"{name} {count}" for name, count in Counter(splits).items()) or "none at all"
            raise ValueError(
                f"{csv or root}: no clip in the split {split!r} (clips: {sizes}); a 'split' column, or folders named "
                f"{', '.join(SPLITS)} around those of the labels, say which clip is in which split"
            )
        super().__init__(
            labels, [numbers[clip.label] for clip in chosen], [root / clip.path for clip in chosen], sample_rate
        )


class _Clip(NamedTuple):
    path: str  # below root, with "/" on every system
    label: str
    split: str  # "" where the layout does not say
    where: str  # what names it, for messages


def _from_table(root: Path, table: Path) -> list[_Clip]:
    if not table.is_file() and (root / table).is_file():
        raise FileNotFoundError(f"{table}: no such table; did you mean {root / table}?")
    clips: dict[str, _Clip] = {}
    for where, row in read_table(table, ["path", "label"]):
        path, split = posixpath.normpath(row["path"].replace("\\", "/")), row.get("split", "")
        if "split" in row and split not in SPLITS:
            raise ValueError(f"{where}: split {split!r} of {path}: expected one of {', '.join(SPLITS)}")
        if path in clips:
            raise ValueError(f"{where}: {path} is already named in {clips[path].where}; remove one of the rows")
        clips[path] = _Clip(path, row["label"], split, where)
    require_files((root / path for path in clips), named_in=table)
    return list(clips.values())


def _from_folders(root: Path) -> list[_Clip]:
    tops = subfolders(root)
    splits = tops if set(tops) <= set(SPLITS) else [""]
    return [
        _Clip(posixpath.join(split, label, name), label, split, where=str(root / split / label))
        for split in splits
        for label in subfolders(root / split)
        for name in audio_names(root / split / label)
    ]


def _make_splits(clips: Sequence[_Clip]) -> list[str]:
    by_label: defaultdict[str, list[int]] = defaultdict(list)
    for i, clip in enumerate(clips):
        by_label[clip.label].append(i)
    splits = ["train"] * len(clips)
    for members in by_label.values():
        members.sort(key=lambda i: sha256(clips[i].path.encode()).digest())
        tenth = 0 if len(members) < 3 else max(1, (len(members) + 5) // 10)
        for i in members[:tenth]:
            splits[i] = "test"
        for i in members[tenth : 2 * tenth]:
            splits[i] = "validation"
    return splits
