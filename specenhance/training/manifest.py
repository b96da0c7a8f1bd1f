"""The manifest of a run: the classes in their order, and each clip with its split, label, size and length."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from specenhance._files import write_text
from specenhance.data import AudioDataset
from specenhance.data.base import Label
from specenhance.data.check import FaultsError
from specenhance.data.classes import with_classes
from specenhance.training.recipe import RECIPE, Recipe

__all__ = ["MANIFEST", "Clip", "Manifest", "as_trained", "load_manifest", "make_manifest", "save_manifest"]

MANIFEST = "clips.jsonl"


class Clip(NamedTuple):
    """One sound of a data set.

    Attributes:
        split: ``"train"``, ``"validation"`` or ``"test"``.
        path: path of the file, relative to the data set's folder, with ``/`` on every system. It is absolute if the file is
            outside of that folder. A part of a file has its place after it, such as ``a.wav#t=1.5,2``.
        label: name of the class. Of a multi-label data set the list of all its classes.
        size: size of the file, in bytes.
        seconds: length in seconds. None for a clip that is left out.
        left_out: reason why the clip is left out. "" for a clip that is used.

    >>> Clip("train", "yes/a.wav", label="yes", size=32044, seconds=1.0).left_out
    ''
    """

    split: str
    path: str
    label: str | list[str]
    size: int
    seconds: float | None
    left_out: str = ""


class Manifest(NamedTuple):
    """The clips of a run, and the names of its classes in their order.

    Attributes:
        classes: names of the classes.
        clips: the clips, if they have files.
        checksum: what changes if clips without files change, see :class:`specenhance.data.AudioDataset`. Empty if nothing does.

    >>> Manifest(["no", "yes"], [Clip("train", "yes/a.wav", "yes", 32044, 1.0)]).classes
    ['no', 'yes']
    """

    classes: list[str]
    clips: list[Clip]
    checksum: str = ""


def make_manifest(
    recipe: Recipe,
    parts: Mapping[str, AudioDataset],
    seconds: Mapping[str, float | None],
    faults: Mapping[str, str],
) -> Manifest:
    """Make the manifest of a data set's splits. It has no clips if the data set makes its own sounds.

    Args:
        recipe: the recipe. Paths in the manifest are relative to its ``root``.
        parts: the splits by name.
        seconds: the length of each sound by its name, in seconds. None for one that cannot be read.
        faults: the names of the sounds that are left out, each with the reason.

    >>> from specenhance.data import SyntheticSounds
    >>> data = SyntheticSounds("train")
    >>> manifest = make_manifest(Recipe(), {"train": data}, {}, {})
    >>> manifest.classes == data.classes, manifest.clips
    (True, [])
    """
    clips = [
        Clip(
            split,
            _below(path, recipe.root) + data.fragment(i),
            _named(data, data.labels[i]),
            path.stat().st_size,
            seconds[data.name(i)],
            faults.get(data.name(i), ""),
        )
        for split, data in parts.items()
        for i, path in enumerate(data.paths)  # a data set that makes its own sounds has none
    ]
    return Manifest(parts["train"].classes, clips, parts["train"].checksum)


def save_manifest(manifest: Manifest, run: Path) -> None:
    """Write a manifest into a run folder, as one line of JSON for the classes, and one line for each clip.

    Args:
        manifest: the manifest.
        run: the run folder.

    >>> import tempfile
    >>> manifest = Manifest(["no", "yes"], [Clip("train", "yes/a.wav", "yes", 32044, 1.0)])
    >>> with tempfile.TemporaryDirectory() as run:
    ...     save_manifest(manifest, Path(run))
    ...     load_manifest(Path(run)) == manifest
    True
    """
    first = {"classes": manifest.classes} | ({"checksum": manifest.checksum} if manifest.checksum else {})
    lines = [json.dumps(first), *(json.dumps(clip._asdict()) for clip in manifest.clips)]
    write_text(run / MANIFEST, "\n".join(lines) + "\n")


def load_manifest(run: Path) -> Manifest | None:
    """Read the manifest of a run. Return None if the run folder has none yet.

    Args:
        run: the run folder.

    Raises:
        ValueError: for a file that :func:`save_manifest` did not write.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as run:
    ...     print(load_manifest(Path(run)))
    None
    """
    path = run / MANIFEST
    if not path.is_file():
        return None
    try:
        first, *lines = path.read_text(encoding="utf-8").splitlines()
        about = json.loads(first)
        return Manifest(about["classes"], [Clip(**json.loads(line)) for line in lines], about.get("checksum", ""))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); start the training anew") from error


def as_trained(
    manifest: Manifest, recipe: Recipe, parts: Mapping[str, AudioDataset], run: Path
) -> dict[str, AudioDataset]:
    """Return the splits as the run was trained on them. Labels are the run's. Clips that the run left out are left out.

    Args:
        manifest: the manifest of the run.
        recipe: the recipe. Paths in the manifest are relative to its ``root``.
        parts: the splits as they are now.
        run: the run folder, for the message.

    Raises:
        ValueError: if clips are new or missing, or have another label, size or split. The message lists them.

    >>> from specenhance.data import SyntheticSounds
    >>> parts = {"train": SyntheticSounds("train")}
    >>> manifest = make_manifest(Recipe(), parts, {}, {})
    >>> len(as_trained(manifest, Recipe(), parts, Path("run"))["train"])
    1000
    """
    if manifest.checksum != parts["train"].checksum:
        raise ValueError(
            f"{run}: the shards in {recipe.root} are not those that it was trained on, their index is another; restore them, "
            f"or start a new run: specenhance train --recipe {run / RECIPE}"
        )
    named = {name: with_classes(data, manifest.classes, f"the run {run}") for name, data in parts.items()}
    then = {(clip.split, clip.path): clip for clip in manifest.clips}
    now = {
        (split, _below(path, recipe.root) + data.fragment(i)): (_named(data, data.labels[i]), path.stat().st_size)
        for split, data in named.items()
        for i, path in enumerate(data.paths)
    }
    changes = _changes(then, now)
    if changes:
        raise FaultsError(
            f"{run}: its clips in {recipe.root} are not those that it was trained on:",
            changes,
            f"Restore them, or start a new run: specenhance train --recipe {run / RECIPE}",
        )
    left_out = {place for place, clip in then.items() if clip.left_out}
    return {
        split: data.subset(
            [
                i
                for i, path in enumerate(data.paths)
                if (split, _below(path, recipe.root) + data.fragment(i)) not in left_out
            ]
        )
        if left_out
        else data
        for split, data in named.items()
    }


def _changes(
    then: Mapping[tuple[str, str], Clip], now: Mapping[tuple[str, str], tuple[str | list[str], int]]
) -> Sequence[str]:
    splits_then: dict[str, list[str]] = {}
    splits_now: dict[str, list[str]] = {}
    for splits, places in ((splits_then, then), (splits_now, now)):
        for split, path in places:
            splits.setdefault(path, []).append(split)
    changes = []
    for path in sorted(splits_then.keys() | splits_now.keys()):
        before, after = splits_then.get(path), splits_now.get(path)
        if before is None or after is None:
            changes.append(f"{path}: {'new' if before is None else 'gone'}")
        elif before != after:
            changes.append(f"{path}: was to {' and '.join(before)}, now {' and '.join(after)}")
        else:
            clip, (label, size) = then[before[0], path], now[before[0], path]
            if clip.label != label:
                changes.append(f"{path}: was {clip.label!r}, now {label!r}")
            elif clip.size != size:
                changes.append(f"{path}: had {clip.size:,} bytes, now {size:,}")
    return changes


def _named(data: AudioDataset, label: Label) -> str | list[str]:
    return [data.classes[one] for one in label] if isinstance(label, tuple) else data.classes[label]


def _below(path: Path, root: str) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return Path(os.path.abspath(path)).as_posix()
