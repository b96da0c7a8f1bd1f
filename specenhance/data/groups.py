"""Folds by group: clips of one speaker, recording, site or device stand and fall together, so none is in two folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from specenhance.data.base import AudioDataset, joined

__all__ = ["CLIP", "fold_split", "group_folds", "groups_of", "kind_of"]

CLIP = "clip"  # the kind of group that has one clip


def groups_of(data: AudioDataset, kind: str = "") -> list[str]:
    """List the group of each clip.

    Args:
        data: The data set.
        kind: What makes a group, a key of ``data.groups`` such as ``"speaker"``, or ``"clip"`` for each clip by itself, under
            its name. The default is the only kind that the data set has.

    Raises:
        ValueError: for a kind that the data set does not have, or no kind where it has none or several.

    >>> data = AudioDataset(["yes"], [0, 0])
    >>> groups_of(data, "clip")
    ['clip 0', 'clip 1']
    >>> data.groups = {"speaker": ["ann", "bob"]}
    >>> groups_of(data)
    ['ann', 'bob']
    """
    if kind == CLIP:
        return [data.name(i) for i in range(len(data))]
    known = ", ".join([*data.groups, CLIP])
    if not kind:
        if len(data.groups) != 1:
            raise ValueError(f"group is missing: expected what must not be in two folds, one of {known}")
        (kind,) = data.groups
    if kind not in data.groups:
        raise ValueError(
            f"group = {kind!r}: the data set has no such groups; expected one of {known}. For data = 'folder' each further "
            f"column of the CSV is a kind of group"
        )
    return list(data.groups[kind])


def kind_of(data: AudioDataset, asked: str = "") -> str:
    """Say what makes a group of a data set.

    Args:
        data: The data set.
        asked: The kind that was asked for.

    Returns:
        The kind that was asked for; else the only kind that the data set has; else ``"clip"``.

    >>> kind_of(AudioDataset(["yes"], [0]))
    'clip'
    """
    return asked or (next(iter(data.groups)) if len(data.groups) == 1 else CLIP)


def group_folds(groups: Sequence[str], folds: int) -> list[int]:
    """Divide clips into folds of like size, so that no group is in two.

    The largest group comes first, then the others by size and name; each goes to the fold that has the fewest clips so far. So
    the folds depend only on the groups, not on their order.

    Args:
        groups: The group of each clip.
        folds: The number of folds, 3 or more: one tests, one validates, the others train.

    Returns:
        The fold of each clip, from 1.

    Raises:
        ValueError: for fewer than 3 folds, or fewer groups than folds.

    >>> group_folds(["a", "a", "a", "b", "c", "d"], 3)
    [1, 1, 1, 2, 3, 2]
    """
    sizes = Counter(groups)
    if folds < 3:
        raise ValueError(f"folds = {folds}: expected 3 or more, because one tests, one validates and the others train")
    if len(sizes) < folds:
        raise ValueError(
            f"folds = {folds}: expected at most {len(sizes)}, the number of groups; no group is in two folds"
        )
    clips, of = [0] * folds, {}
    for group in sorted(sizes, key=lambda name: (-sizes[name], name)):
        fold = clips.index(min(clips))
        clips[fold] += sizes[group]
        of[group] = fold + 1
    return [of[group] for group in groups]


def fold_split(parts: Sequence[AudioDataset], kind: str, folds: int, fold: int, split: str) -> AudioDataset:
    """Take a split from all clips of a data set, divided into folds by group.

    Args:
        parts: The splits that the data set itself has.
        kind: As for :func:`groups_of`.
        folds: The number of folds.
        fold: The fold that is tested, from 1. The next one validates, all others train.
        split: ``"train"``, ``"validation"`` or ``"test"``.

    Returns:
        The split. A clip has the same name and the same groups in every fold, and no other clip has this name.

    Raises:
        ValueError: as :func:`groups_of` and :func:`group_folds`.

    >>> data = AudioDataset(["yes"], [0] * 4)
    >>> data.groups = {"speaker": ["ann", "bob", "eve", "ann"]}
    >>> tested = fold_split([data], "speaker", folds=3, fold=1, split="test")
    >>> tested.groups, groups_of(tested, "clip")
    ({'speaker': ['ann', 'ann']}, ['clip 0', 'clip 3'])
    """
    whole = joined(parts)
    place = group_folds(groups_of(whole, kind), folds)
    validates = fold % folds + 1
    named = {fold: "test", validates: "validation"}
    chosen = [i for i, of in enumerate(place) if named.get(of, "train") == split]
    return whole.subset(chosen)
