"""Classes by their names: a model's and a data set's brought to one order, or refused."""

from __future__ import annotations

from collections.abc import Sequence

from specenhance.data.base import AudioDataset

__all__ = ["with_classes"]

SHOWN = 8  # names listed in a message


def with_classes(data: AudioDataset, classes: Sequence[str], of: str) -> AudioDataset:
    """Give a data set whose labels are numbered as ``classes`` are: the same one, or a copy where the order differs.

    Args:
        data: the data set.
        classes: the names that a model knows, in its order.
        of: what knows them, for the message, such as ``"the run runs/a"``.

    Raises:
        ValueError: where the names are not the same; the message lists what either side has alone.
    """
    if list(classes) == data.classes:
        return data
    if sorted(classes) != sorted(data.classes):
        ours, theirs = set(data.classes), set(classes)
        sides = [
            f"{side} has {_listed(sorted(names))}"
            for side, names in (("only the data", ours - theirs), (f"only {of}", theirs - ours))
            if names
        ]
        raise ValueError(
            f"the classes are not those of {of}: the data has {len(data.classes)} ({_listed(data.classes)}), {of} has "
            f"{len(classes)} ({_listed(classes)}); {'; '.join(sides) or 'one stands twice'}. Give data of the same classes"
        )
    number = {name: i for i, name in enumerate(classes)}
    return data.renumbered(list(classes), [number[name] for name in data.classes])


def _listed(names: Sequence[str]) -> str:
    more = [f"{len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return ", ".join([*map(repr, names[:SHOWN]), *more])
