"""The preparation of a run: find and check its clips, fit the recipe to them, and make their manifest."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import torch

from specenhance.data import AudioDataset
from specenhance.data.base import classes_of
from specenhance.data.check import FaultsError, check_sounds, find_twins, listed
from specenhance.training.build import build_features, build_splits
from specenhance.training.defaults import PERCENTILE, fitted
from specenhance.training.given import NOTHING, Given
from specenhance.training.manifest import Manifest, make_manifest
from specenhance.training.recipe import FITTED, Recipe

__all__ = ["Prepared", "Sounds", "check", "dead_filters", "look_at", "prepare"]

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class Sounds:
    """The splits of a data set after a check of their files.

    Attributes:
        parts: the splits by name, with all their files.
        seconds: length of each sound by its name, in seconds. None for one that cannot be read.
        faults: the fault of each sound that cannot be read, by its name.
        made: lengths of the sounds of each split that has no files, in seconds.
    """

    parts: dict[str, AudioDataset]
    seconds: dict[str, float | None]
    faults: dict[str, str]
    made: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    def readable(self) -> dict[str, AudioDataset]:
        """Return the splits with only the files that can be read."""
        return {
            name: data.subset([i for i in range(len(data)) if data.name(i) not in self.faults]) if self.faults else data
            for name, data in self.parts.items()
        }

    def lengths(self, split: str) -> list[float]:
        """Return the lengths of the sounds of a split, in seconds, without files that cannot be read."""
        data = self.parts[split]
        if split in self.made:
            return self.made[split]
        return [length for i in range(len(data)) if (length := self.seconds[data.name(i)]) is not None]


class Prepared(NamedTuple):
    """A recipe with all fields filled in, and the manifest of its clips."""

    recipe: Recipe
    manifest: Manifest


def look_at(recipe: Recipe, given: Given = NOTHING, *, thorough: bool = False) -> Sounds:
    """Open the splits of a recipe and check every file once. Log what is ignored in the folder.

    Args:
        recipe: names the data set.
        given: the data set, if the caller has it as an object.
        thorough: whether to decode every file completely.

    Raises:
        FileNotFoundError, ValueError: as the data set does.
    """
    parts = build_splits(recipe, given)
    passed_over = parts["train"].passed_over
    if passed_over:
        _log_all(f"{recipe.root}: {len(passed_over)} files and folders are ignored:", listed(passed_over))
    sounds = Sounds(parts, {}, {})
    for name, data in parts.items():
        if not data.paths:
            # Shards hold only sounds that could be used when they were made: skip_bad need not read them all again.
            found = check_sounds(data, thorough=thorough and not recipe.skip_bad)
            sounds.made[name] = [length for length in found.seconds if length is not None]
            sounds.faults |= {data.name(i): fault for i, fault in found.faults.items()}
            continue
        # The splits of ESC-50 for validation and test are the same.
        new = [i for i in range(len(data)) if data.name(i) not in sounds.seconds]
        if len(new) > 2000:
            _log.info(f"looking at {len(new):,} files of the split {name!r}")
        fresh = data.subset(new)
        found = check_sounds(fresh, thorough=thorough)
        sounds.seconds |= {fresh.name(i): length for i, length in enumerate(found.seconds)}
        sounds.faults |= {fresh.name(i): fault for i, fault in found.faults.items()}
    return sounds


def prepare(recipe: Recipe, given: Given = NOTHING) -> Prepared:
    """Check the clips of a recipe, fit the recipe to them, and log what was found.

    Args:
        recipe: the recipe of one run. With ``skip_bad``, files that cannot be used are left out.
        given: its data set, if the caller has it as an object.

    Raises:
        FileNotFoundError, ValueError: as the data set does. Also for files that cannot be read, which the message lists, for
            a single class, for a split without a usable file, and for a sound that trains and also validates or tests.
    """
    # With skip_bad, a file must not turn out to be bad in the middle of training.
    sounds = look_at(recipe, given, thorough=recipe.skip_bad)
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
    """Read every sound of a recipe's data set completely, and log what was found.

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
        classes = {one for label in data.labels for one in classes_of(label)}
        _log.info(f"{name}: {len(data):,} sounds of {len(classes)} classes{seconds}")
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
    if len(train.classes) < (1 if train.multi_label else 2):
        raise ValueError(
            f"only one class, {train.classes[0]!r}: expected at least two; add another one, such as background"
        )
    for name, data in sounds.parts.items():
        if not sounds.lengths(name):
            raise ValueError(f"no file of the split {name!r} can be read: all of its {len(data)} are left out")
        there = Counter(
            one
            for i, label in enumerate(data.labels)
            if not data.paths or sounds.seconds[data.name(i)] is not None
            for one in classes_of(label)
        )
        if not there:
            raise ValueError(f"no clip of the split {name!r} has a class; label some")
        missing = [name for label, name in enumerate(data.classes) if not there[label]]
        if missing and name == "train":
            _log.warning(
                f"{len(missing)} classes have no training clip and will never be predicted: "
                f"{', '.join(map(repr, missing))}; add clips, or assign some to the training split by a 'split' column or by "
                "folders"
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
    """Count the filters of a filter bank ``(K, F)`` that are all zero, because they are narrower than the transform's bins."""
    return int((mel == 0).all(0).sum())


def _check_filters(recipe: Recipe) -> None:
    def dead(bins: int) -> int:
        mel = getattr(build_features(recipe.replace(bins=bins)), "mel", None)
        return 0 if mel is None else dead_filters(mel)

    count = dead(recipe.bins)
    if count > recipe.bins // 50:  # a few at low frequencies are usual: 1 of 128 at 16 kHz
        enough = next((bins for bins in range(recipe.bins, 3, -1) if not dead(bins)), 4)
        _log.warning(
            f"{count} of {recipe.bins} mel filters at {recipe.sample_rate} Hz are so narrow that they are all zero; "
            f"--set bins={enough} has none of these"
        )
