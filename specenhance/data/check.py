"""Finding the files of a data set that cannot be read, all at once and before anything depends on them."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from specenhance.audio import AudioError, probe
from specenhance.data.base import AudioDataset
from specenhance.data.ready import ReadyDataset

__all__ = ["Checked", "FaultsError", "check_sounds", "find_twins", "listed"]

SHOWN = 10  # faults listed in a message


class Checked(NamedTuple):
    """What a look at the sounds of a data set found.

    Attributes:
        seconds: the length of each sound, None for one that cannot be read.
        faults: what is wrong with those that cannot, by their index.
    """

    seconds: list[float | None]
    faults: dict[int, str]

    @property
    def good(self) -> list[int]:
        """The indices of the sounds that can be read."""
        return [i for i in range(len(self.seconds)) if i not in self.faults]


def check_sounds(data: AudioDataset, *, thorough: bool = False) -> Checked:
    """Look at every sound of a data set, several at a time.

    Args:
        data: the data set; one that makes its own sounds has no faults, and its first sound stands for the lengths of all.
        thorough: decode every file whole. Otherwise only headers are read and measured against what is there, and the samples
            of files of floating-point numbers, which alone can be no sound.

    Raises:
        ImportError: where a package that reads one of the files is missing.
    """
    if not data.paths:
        if isinstance(data, ReadyDataset):
            return Checked([*data.seconds], {})
        length = len(data.waveform(0)) / data.sample_rate if len(data) else None
        return Checked([length] * len(data), {})
    look = partial(_look, thorough=thorough, allow_truncated=data.allow_truncated)
    with ThreadPoolExecutor(
        min(32, 4 * (os.cpu_count() or 1))
    ) as pool:  # they wait for the disk more than they compute
        found = list(pool.map(look, data.paths))
    return Checked(
        [length if isinstance(length, float) else None for length in found],
        {i: fault for i, fault in enumerate(found) if isinstance(fault, str)},
    )


def _look(path: Path, thorough: bool, allow_truncated: bool) -> float | str:
    try:
        return float(probe(path, thorough=thorough, allow_truncated=allow_truncated).seconds or 0.0)
    except (AudioError, OSError) as error:
        return str(error)


def find_twins(parts: Mapping[str, AudioDataset], *, by_content: bool = False) -> Iterator[tuple[str, str]]:
    """Find sounds that train and also validate or test: one file under two names, so that a model is tested on what it knows.

    Args:
        parts: the splits by name, ``"train"`` among them.
        by_content: find copies too, by reading files of equal size.

    Yields:
        Pairs of paths with their splits, ``"train: a/b.wav"`` and ``"test: c/d.wav"``.
    """
    learned: defaultdict[object, list[Path]] = defaultdict(list)
    for path in parts["train"].paths:
        stat = path.stat()
        learned[stat.st_dev, stat.st_ino].append(path)
        if by_content:
            learned[stat.st_size].append(path)
    told: set[Path] = set()  # ESC-50 tests what it validates
    for name, data in parts.items():
        for path in data.paths if name != "train" else ():
            if path in told:
                continue
            told.add(path)
            stat = path.stat()
            same = learned.get((stat.st_dev, stat.st_ino), [])
            if by_content and not same and stat.st_size in learned:
                own = _content(path)
                same = [other for other in learned[stat.st_size] if _content(other) == own]
            for other in same[:1]:
                yield f"train: {other}", f"{name}: {path}"


def _content(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


class FaultsError(ValueError):
    """Several faults at once.

    Attributes:
        lines: what is wrong, the faults, and the cure, a line each.
    """

    def __init__(self, what: str, faults: Sequence[str], cure: str) -> None:
        self.lines = [what, *listed(faults), cure]
        super().__init__("\n".join(self.lines))


def listed(faults: Sequence[str]) -> list[str]:
    """Give each of the first few faults a line of its own."""
    more = [f"... and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
    return [f"  {fault}" for fault in [*faults[:SHOWN], *more]]
