"""Long recordings with annotations: clips cut out of them on the fly, by tables of start, end and label."""

from __future__ import annotations

import math
import os
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from specenhance._choices import require
from specenhance.annotations import Annotation, read_annotations
from specenhance.audio import AudioError, probe
from specenhance.data.base import AudioDataset
from specenhance.data.layout import (
    HELD_OUT,
    SPLITS,
    check_split,
    hashed_split,
    plain_path,
    require_files,
    require_folder,
)
from specenhance.data.registry import register_data

__all__ = ["AnnotatedSounds"]

SplitBy = Literal["file", "time"]


class _Clip(NamedTuple):
    file: str
    start: float
    end: float
    labels: tuple[str, ...]


# 0 in a recipe stands for a value that is fitted to the training clips.
@register_data("annotations", frames=0, epochs=0, batch_size=0, crop="random", time_mask=16, freq_mask=16, shift=10)
class AnnotatedSounds(AudioDataset):
    """Parts of recordings, as annotations name them. Only the part that is asked for is read.

    The annotations are a table in one file (CSV, JSON lines, Parquet), a file of Raven or Audacity, or a folder of such files:
    see :func:`specenhance.annotations.read_annotations`.

    Without ``window``, each annotation is a clip. With it, each recording is cut into windows of that length. A window has the
    labels of the annotations that overlap it by at least ``overlap`` of the shorter of both; without ``multi_label`` it has the
    label that overlaps it most.

    ``split_by="file"`` assigns whole files: the SHA-256 of a file's path chooses its split, about 15% of the files for test and
    15% for validation. ``split_by="time"`` divides each recording: its last 15% test, the 15% before validate. Clips that lie
    across such a border are left out. ``groups`` has the kind ``"file"``.

    Args:
        root: Folder of the recordings.
        csv: The table, or the folder of tables. It is not relative to ``root``.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        sample_rate: Sample rate of the waveforms, in Hz.
        multi_label: Whether a clip has any number of classes.
        window: Length of the windows, in seconds. 0 takes each annotation as it is.
        hop: Time from one window to the next, in seconds. 0 is the window's length.
        overlap: Part of the shorter of window and annotation that counts as overlap, above 0, at most 1.
        background: Class of stretches without annotation. Empty leaves them out. With ``multi_label`` they are clips without a
            class, whatever the name. Without ``window`` they are as long as the median annotation.
        split_by: How clips are assigned to splits.

    Raises:
        FileNotFoundError: for a missing folder, table, or recording.
        ValueError: for a malformed table, an argument out of range, or a split without a clip.

    >>> import tempfile, numpy as np, soundfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     soundfile.write(f"{root}/a.wav", np.zeros(160000), 16000)
    ...     _ = Path(root, "t.csv").write_text("file,start,end,label\\na.wav,1,3,wren\\na.wav,2,4,rook\\n")
    ...     data = AnnotatedSounds(root, f"{root}/t.csv", "train", multi_label=True, window=2, split_by="time")
    ...     waveform, target = data[0]
    >>> data.classes, data.labels, data.spans, waveform.shape
    (['rook', 'wren'], [(1,), (0, 1)], [(0, 2), (2, 4)], torch.Size([32000]))
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        csv: str | os.PathLike[str],
        split: str = "train",
        sample_rate: int = 16000,
        multi_label: bool = False,
        window: float = 0.0,
        hop: float = 0.0,
        overlap: float = 0.5,
        background: str = "",
        split_by: SplitBy = "file",
    ) -> None:
        check_split(split)
        require("split_by", split_by, SplitBy)
        for name, value, most in (("window", window, math.inf), ("hop", hop, window), ("overlap", overlap, 1.0)):
            if not 0 <= value <= most or not math.isfinite(value) or (name == "overlap" and value == 0):
                raise ValueError(f"{name} = {value}: expected {_EXPECTED[name]}")
        root = require_folder(Path(root), "the recordings")
        of_file: dict[str, list[Annotation]] = defaultdict(list)
        for annotation in read_annotations(csv, sounds=root):
            file = _below(root, annotation.file)
            if annotation.end <= annotation.start:
                raise ValueError(
                    f"{csv}: {annotation.label!r} in {file} at {annotation.start:g} s has no length; expected an end after its "
                    "start"
                )
            of_file[file].append(annotation._replace(file=file))
        if not of_file:
            raise ValueError(f"{csv}: no annotation in it")
        found = {file: root / file for file in sorted(of_file)}
        require_files(found.values(), named_in=Path(csv))
        seconds = dict(zip(found, _lengths(list(found.values())), strict=True))
        length = window or statistics.median(one.end - one.start for rows in of_file.values() for one in rows)
        clips: list[_Clip] = []
        for file in found:
            parts: Iterable[_Clip]
            if window:
                parts = _windows(of_file[file], seconds[file], window, hop or window, overlap, multi_label, file)
            else:
                parts = [*_annotated(of_file[file], multi_label, csv), *_between(of_file[file], seconds[file], length)]
            clips += [clip for clip in parts if clip.labels or background]
        names = {label for clip in clips for label in clip.labels}
        if background and not multi_label:
            if background in names:
                raise ValueError(f"background = {background!r}: is a label of the annotations; expected another name")
            names.add(background)
            clips = [clip if clip.labels else clip._replace(labels=(background,)) for clip in clips]
        classes = sorted(names)
        numbers = {name: number for number, name in enumerate(classes)}
        if split_by == "time":
            splits = [_split_of_place(clip, seconds[clip.file]) for clip in clips]
        else:
            splits = [hashed_split(clip.file) for clip in clips]
        chosen = [clip for clip, of in zip(clips, splits, strict=True) if of == split]
        if not chosen:
            sizes = ", ".join(f"{name} {splits.count(name)}" for name in SPLITS)
            raise ValueError(
                f"{csv}: no clip in the split {split!r} (clips: {sizes}), from {len(found)} recordings; --set "
                "data_args.split_by=time divides each recording, and --folds 3 --group file the files"
            )
        labels = [tuple(sorted(numbers[label] for label in clip.labels)) for clip in chosen]
        super().__init__(
            classes,
            labels if multi_label else [one for (one,) in labels],
            [found[clip.file] for clip in chosen],
            sample_rate,
        )
        self.spans = [(clip.start, min(clip.end, seconds[clip.file])) for clip in chosen]
        self.groups = {"file": [clip.file for clip in chosen]}


_EXPECTED = {
    "window": "seconds, 0 to take each annotation as it is",
    "hop": "seconds, at most the window; 0 is the window's length",
    "overlap": "a part above 0, at most 1",
}


def _below(root: Path, file: str) -> str:
    """Give the path of a recording below the folder of all: that of the table, else its name, as Raven's tables have it."""
    path = root / plain_path(file)
    if not path.is_file():
        path = root / path.name
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.as_posix()


def _lengths(paths: Sequence[Path]) -> list[float]:
    """Measure the length of each recording, in seconds. One that cannot be read has no end here; the run's check names it."""

    def length(path: Path) -> float:
        try:
            return probe(path).seconds or math.inf
        except (AudioError, OSError):
            return math.inf

    with ThreadPoolExecutor() as pool:
        return list(pool.map(length, paths))


def _annotated(rows: Sequence[Annotation], multi_label: bool, table: object) -> Iterator[_Clip]:
    """Make a clip of each stretch. With ``multi_label``, labels of one stretch are one clip."""
    labels: dict[tuple[str, float, float], list[str]] = defaultdict(list)
    for row in rows:
        labels[row.file, row.start, row.end].append(row.label)
    for (file, start, end), named in labels.items():
        several = tuple(dict.fromkeys(named))
        if len(several) > 1 and not multi_label:
            raise ValueError(
                f"{table}: {file}, {start:g} to {end:g} s has the labels {', '.join(several)}; expected one, or --multi-label"
            )
        yield _Clip(file, start, end, several)


def _between(rows: Sequence[Annotation], seconds: float, length: float) -> Iterator[_Clip]:
    """Cut the stretches without annotation into clips of a length. A rest that is shorter is left out."""
    place = 0.0
    for row in [*sorted(rows, key=lambda row: row.start), None]:
        end = seconds if row is None else row.start
        while math.isfinite(end) and place + length <= end:
            yield _Clip(rows[0].file, place, place + length, ())
            place += length
        place = max(place, 0.0 if row is None else row.end)


def _windows(
    rows: Sequence[Annotation], seconds: float, window: float, hop: float, overlap: float, several: bool, file: str
) -> Iterator[_Clip]:
    """Cut a recording into windows, and give each the labels of the annotations that overlap it enough."""
    end = max(row.end for row in rows) if math.isinf(seconds) else seconds
    rows = sorted(rows, key=lambda row: row.start)
    first = 0  # annotations before it have ended
    for number in range(max(1, math.floor((end - window) / hop + 1e-9) + 1)):
        start = number * hop
        while first < len(rows) and rows[first].end <= start:
            first += 1
        shared: dict[str, float] = defaultdict(float)
        for row in rows[first:]:
            if row.start >= start + window:
                break
            both = min(row.end, start + window) - max(row.start, start)
            if both > 0 and both >= overlap * min(window, row.end - row.start) - 1e-9:
                shared[row.label] += both
        labels = sorted(shared) if several else sorted(shared, key=lambda label: (-shared[label], label))[:1]
        yield _Clip(file, start, start + window, tuple(labels))


def _split_of_place(clip: _Clip, seconds: float) -> str:
    """Give the split of a clip by its place in its recording; "" across a border."""
    borders = [0.0, (1 - 2 * HELD_OUT) * seconds, (1 - HELD_OUT) * seconds, math.inf]
    for split, (start, end) in zip(SPLITS, pairwise(borders), strict=True):
        if start - 1e-9 <= clip.start and clip.end <= end + 1e-9:
            return split
    return ""
