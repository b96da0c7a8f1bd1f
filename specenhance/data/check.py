"""Checks of a data set before it is used: files that cannot be read, and sounds in two splits."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from specenhance._cores import cores
from specenhance.audio import AudioError, probe
from specenhance.data.base import AudioDataset

__all__ = ["Checked", "FaultsError", "check_sounds", "find_twins", "listed"]

SHOWN = 10  # maximum number of faults in a message


class Checked(NamedTuple):
    """The result of :func:`check_sounds`.

    Attributes:
        seconds: Length of each sound, in seconds; None for a sound that cannot be read.
        faults: Index of each sound that cannot be read, and the reason.

    >>> Checked([1.0, None], {1: "b.wav: no such audio file"}).good
    [0]
    """

    seconds: list[float | None]
    faults: dict[int, str]

    @property
    def good(self) -> list[int]:
        """The indices of the sounds that can be read."""
        return [i for i in range(len(self.seconds)) if i not in self.faults]


def check_sounds(data: AudioDataset, *, thorough: bool = False) -> Checked:
    """Check whether each sound of a data set can be read. Several files are checked at a time.

    A data set that makes its own sounds has no faults. Its first sound gives the length of all, unless it knows their lengths.

    Args:
        data: The data set.
        thorough: Whether to decode every file completely. Otherwise the length in the header is compared with what the file
            holds. A file is always decoded if its header states no length, or if its samples are floating-point numbers:
            only these can be invalid.

    Raises:
        ImportError: if a package that reads one of the files is missing.

    >>> import tempfile, numpy as np, soundfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     soundfile.write(f"{folder}/good.wav", np.zeros(800), 16000)
    ...     data = AudioDataset(["dog"], [0, 0], [Path(folder, "good.wav"), Path(folder, "none.wav")])
    ...     checked = check_sounds(data)
    >>> checked.seconds, checked.good
    ([0.05, None], [0])
    >>> checked.faults
    {1: '...none.wav: no such audio file; give the path of one sound file'}
    """
    if not data.paths:
        if len(data.seconds):
            return Checked([*data.seconds], _unreadable(data) if thorough and data.checksum else {})
        length = len(data.waveform(0)) / data.sample_rate if len(data) else None
        return Checked([length] * len(data), {})
    look = partial(_look, thorough=thorough, allow_truncated=data.allow_truncated)
    paths = list(dict.fromkeys(data.paths))  # of several parts of a file, the file is read once
    with ThreadPoolExecutor(min(32, 4 * cores())) as pool:  # they mostly wait for the disk
        of_file = dict(zip(paths, pool.map(look, paths), strict=True))
    found = [_of_part(data, i, of_file[path]) for i, path in enumerate(data.paths)]
    return Checked(
        [length if isinstance(length, float) else None for length in found],
        {i: fault for i, fault in enumerate(found) if isinstance(fault, str)},
    )


def _unreadable(data: AudioDataset) -> dict[int, str]:
    """Read every sound, and give the reason of each that cannot be read by its index."""
    faults = {}
    for i in range(len(data)):
        try:
            data.waveform(i)
        except (AudioError, OSError) as error:
            faults[i] = str(error)
    return faults


def _look(path: Path, thorough: bool, allow_truncated: bool) -> float | str:
    try:
        return float(probe(path, thorough=thorough, allow_truncated=allow_truncated).seconds or 0.0)
    except (AudioError, OSError) as error:
        return str(error)


def _of_part(data: AudioDataset, i: int, found: float | str) -> float | str:
    """Give the length of a sound, from that of its file."""
    if not data.spans or isinstance(found, str):
        return found
    start, end = data.spans[i]
    if start >= found:
        return f"{data.name(i)}: starts after the end of its file, which has {found:g} s; correct the row"
    return min(end, found) - start


def find_twins(parts: Mapping[str, AudioDataset], *, by_content: bool = False) -> Iterator[tuple[str, str]]:
    """Find sounds of the training split that are also in another split.

    A model would be tested on sounds that it has learned. Links to the same file are always found. Parts of one file are twins
    if they overlap.

    Args:
        parts: The splits by name, with ``"train"`` among them.
        by_content: Whether to find copies too. Files of equal size are read for this.

    Yields:
        The training sound and its twin, each as split and path: ``"train: a/b.wav"`` and ``"test: c/d.wav"``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = [Path(folder, "a.wav"), Path(folder, "b.wav")]
    ...     for path in paths:
    ...         _ = path.write_bytes(b"the same sound")
    ...     parts = {"train": AudioDataset(["dog"], [0], paths[:1]), "test": AudioDataset(["dog"], [0], paths[1:])}
    ...     list(find_twins(parts, by_content=True))
    [('train: ...a.wav', 'test: ...b.wav')]
    """
    learned: defaultdict[object, list[int]] = defaultdict(list)
    train = parts["train"]
    for i, path in enumerate(train.paths):
        stat = path.stat()
        learned[stat.st_dev, stat.st_ino].append(i)
        if by_content:
            learned[stat.st_size].append(i)
    told: set[str] = set()  # ESC-50 has the same clips in validation and test
    for name, data in parts.items():
        for i, path in enumerate(data.paths) if name != "train" else ():
            if data.name(i) in told:
                continue
            told.add(data.name(i))
            stat = path.stat()
            same = learned.get((stat.st_dev, stat.st_ino), [])
            if by_content and not same and stat.st_size in learned:
                own = _content(path)
                same = [other for other in learned[stat.st_size] if _content(train.paths[other]) == own]
            for other in [other for other in same if _overlap(_span(train, other), _span(data, i))][:1]:
                yield f"train: {train.name(other)}", f"{name}: {data.name(i)}"


def _span(data: AudioDataset, i: int) -> tuple[float, float]:
    return data.spans[i] if data.spans else (0.0, math.inf)


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _content(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


class FaultsError(ValueError):
    """Several faults in one error.

    Args:
        what: What is wrong.
        faults: The faults; :func:`listed` gives the first of them.
        cure: What to do about them.

    Attributes:
        lines: The lines of the message: what is wrong, the faults, and the cure.

    >>> print(FaultsError("1 file cannot be read:", ["a.wav: is empty"], "remove it"))
    1 file cannot be read:
      a.wav: is empty
    remove it
    """

    def __init__(self, what: str, faults: Sequence[str], cure: str) -> None:
        self.lines = [what, *listed(faults), cure]
        super().__init__("\n".join(self.lines))


def listed(faults: Sequence[str]) -> list[str]:
    """List the first ten faults, one per line, and the number of the others.

    >>> listed(["a.wav: is empty", "b.wav: is empty"])
    ['  a.wav: is empty', '  b.wav: is empty']
    """
    more = [f"... and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
    return [f"  {fault}" for fault in [*faults[:SHOWN], *more]]
