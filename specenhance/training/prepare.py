"""What comes before the first step of a run: clips found, looked at and written down, the recipe fitted to them."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch

from specenhance.data import AudioDataset
from specenhance.data.check import FaultsError, check_sounds, find_twins, listed
from specenhance.training.build import build_features, build_splits
from specenhance.training.defaults import PERCENTILE, fitted
from specenhance.training.manifest import Manifest, make_manifest
from specenhance.training.recipe import FITTED, Recipe

__all__ = ["Prepared", "Sounds", "check", "dead_filters", "look_at", "prepare"]

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class Sounds:
    """The splits of a data set after a look at their files.

    Attributes:
        parts: the splits by name, with all their files.
        seconds: the length of each file; None for one that cannot be read.
        faults: what is wrong with those that cannot.
        made: the length of a sound that the data set makes itself; None for one of files.
    """

    parts: dict[str, AudioDataset]
    seconds: dict[Path, float | None]
    faults: dict[Path, str]
    made: float | None = None

    def readable(self) -> dict[str, AudioDataset]:
        """Give the splits with the files that can be read alone."""
        return {
            name: data.subset([i for i, path in enumerate(data.paths) if path not in self.faults])
            if self.faults
            else data
            for name, data in self.parts.items()
        }

    def lengths(self, split: str) -> list[float]:
        """Give the lengths of the sounds of a split that can be read, in seconds."""
        data = self.parts[split]
        if self.made is not None:
            return [self.made] * len(data)
        return [length for path in data.paths if (length := self.seconds[path]) is not None]


class Prepared(NamedTuple):
    """A recipe that leaves nothing to the data, and the manifest of its clips."""

    recipe: Recipe
    manifest: Manifest


def look_at(recipe: Recipe, *, thorough: bool = False) -> Sounds:
    """Open the splits of a recipe and look at every file once; say what was passed over.

    Args:
        recipe: names the data set.
        thorough: decode every file whole.

    Raises:
        FileNotFoundError, ValueError: as the data set does.
    """
    parts = build_splits(recipe)
    passed_over = parts["train"].passed_over
    if passed_over:
        _log_all(f"{recipe.root}: {len(passed_over)} files and folders are passed over:", listed(passed_over))
    sounds = Sounds(parts, {}, {})
    for name, data in parts.items():
        if not data.paths:
            sounds.made = check_sounds(data).seconds[0]
            continue
        new = [i for i, path in enumerate(data.paths) if path not in sounds.seconds]  # ESC-50 tests what it validates
        if len(new) > 2000:
            _log.info(f"looking at {len(new):,} files of the split {name!r}")
        fresh = data.subset(new)
        found = check_sounds(fresh, thorough=thorough)
        sounds.seconds |= dict(zip(fresh.paths, found.seconds, strict=True))
        sounds.faults |= {fresh.paths[i]: fault for i, fault in found.faults.items()}
    return sounds


def prepare(recipe: Recipe) -> Prepared:
    """Look at the clips of a recipe, fit it to them, and say what is to be trained on what.

    Args:
        recipe: of one run; the bad files of one with ``skip_bad`` are left out.

    Raises:
        FileNotFoundError, ValueError: as the data set does; for files that cannot be read, all of them at once; for one
            class; for a split of which no file is left; and for a file that trains and also validates or tests.
    """
    # Whoever leaves files out does not want to meet another one in the middle of training.
    sounds = look_at(recipe, thorough=recipe.skip_bad)
    if sounds.faults:
        faults = list(sounds.faults.values())
        if not recipe.skip_bad:
            raise FaultsError(
                f"{len(faults)} files cannot be used:",
                faults,
                "Mend or remove them, or train without them: --skip-bad",
            )
        _log_all(f"{len(faults)} files cannot be used and are left out:", listed(faults))
    twins = list(find_twins(sounds.readable()))
    if twins:
        raise FaultsError(
            f"{len(twins)} sounds train and also validate or test, under two names:",
            [" and ".join(twin) for twin in twins],
            "Keep each in one split",
        )
    _check_classes(sounds)
    whole = fitted(recipe, sounds.lengths("train"))
    _tell_fitted(recipe, whole, sounds)
    _check_filters(whole)
    return Prepared(whole, make_manifest(whole, sounds.parts, sounds.seconds, sounds.faults))


def check(recipe: Recipe) -> int:
    """Read every sound of a recipe's data set whole, and say what was found.

    Returns:
        The number of faults: files that cannot be used, and sounds that train and also validate or test.

    Raises:
        FileNotFoundError, ValueError: as the data set does.
    """
    sounds = look_at(recipe, thorough=True)
    twins = list(find_twins(sounds.readable(), by_content=True))
    for name, data in sounds.parts.items():
        lengths = sounds.lengths(name)
        seconds = f", {min(lengths):.2f} to {max(lengths):.2f} s, {sum(lengths) / 60:.1f} min in all" if lengths else ""
        _log.info(f"{name}: {len(data):,} sounds of {len(set(data.labels))} classes{seconds}")
    if sounds.faults:
        _log_all(f"{len(sounds.faults)} files cannot be used:", [f"  {fault}" for fault in sounds.faults.values()])
    if twins:
        _log_all(f"{len(twins)} sounds train and also validate or test:", [f"  {a} and {b}" for a, b in twins])
    if not sounds.faults and not twins:
        _log.info("nothing is wrong with them")
    return len(sounds.faults) + len(twins)


def _log_all(first: str, lines: Iterable[str]) -> None:
    for line in (first, *lines):
        _log.info(line)


def _check_classes(sounds: Sounds) -> None:
    train = sounds.parts["train"]
    if len(train.classes) < 2:
        raise ValueError(
            f"one class only, {train.classes[0]!r}: there is nothing to tell apart; add another one, such as background"
        )
    for name, data in sounds.parts.items():
        if not sounds.lengths(name):
            raise ValueError(f"no file of the split {name!r} can be read: all of its {len(data)} are left out")
        there = Counter(
            label for i, label in enumerate(data.labels) if not data.paths or sounds.seconds[data.paths[i]] is not None
        )
        missing = [name for label, name in enumerate(data.classes) if not there[label]]
        if missing and name == "train":
            _log.warning(
                f"{len(missing)} classes have no training clip and will never be named: "
                f"{', '.join(map(repr, missing))}; add clips, or say which clips train by a 'split' column or folders"
            )
        elif missing:
            _log.info(f"{len(missing)} classes have no clip in the split {name!r}: {', '.join(map(repr, missing[:8]))}")


def _tell_fitted(recipe: Recipe, whole: Recipe, sounds: Sounds) -> None:
    lengths = sounds.lengths("train")
    changed = [name for name in FITTED if getattr(recipe, name) != getattr(whole, name)]
    if changed:
        _log.info(
            f"fitted to {len(lengths):,} training clips of {min(lengths):.2f} to {max(lengths):.2f} s, {PERCENTILE}% of them "
            f"at most {whole.clip_seconds:.2f} s: {', '.join(f'{name} = {getattr(whole, name)}' for name in changed)}"
        )


def dead_filters(mel: torch.Tensor) -> int:
    """Count the filters of a filter bank ``(K, F)`` that let nothing through, being narrower than the transform's bins."""
    return int((mel == 0).all(0).sum())


def _check_filters(recipe: Recipe) -> None:
    def dead(bins: int) -> int:
        mel = getattr(build_features(recipe.replace(bins=bins)), "mel", None)
        return 0 if mel is None else dead_filters(mel)

    count = dead(recipe.bins)
    if count > recipe.bins // 50:  # a few at the low end are usual: of 128 at 16 kHz one
        enough = next((bins for bins in range(recipe.bins, 3, -1) if not dead(bins)), 4)
        _log.warning(
            f"{count} of {recipe.bins} mel filters at {recipe.sample_rate} Hz are too narrow to hear anything; "
            f"--set bins={enough} has none of those"
        )
