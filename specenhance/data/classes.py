"""Class names: bring the classes of a data set into the order of a model's."""

from __future__ import annotations

from collections.abc import Sequence

from specenhance.data.base import AudioDataset

__all__ = ["with_classes"]

SHOWN = 8  # maximum number of names in a message


def with_classes(data: AudioDataset, classes: Sequence[str], of: str) -> AudioDataset:
    """Give the data set with its labels numbered by ``classes``.

    If the order is already the same, this is the data set itself. Otherwise it is a copy.

    Args:
        data: The data set.
        classes: Class names of a model, in the order of its logits.
        of: Name of the model for the message, such as ``"the run runs/a"``.

    Raises:
        ValueError: if the names are not the same. The message lists the names that only one side has.

    >>> data = AudioDataset(["cat", "dog"], [0, 1, 1])
    >>> with_classes(data, ["dog", "cat"], of="the run runs/a").labels
    [1, 0, 0]
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
