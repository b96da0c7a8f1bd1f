"""Data sets by name: register one, open one, list them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from specenhance._registry import Registry
from specenhance.data.base import AudioDataset
from specenhance.data.layout import check_split

__all__ = ["DATA", "data_folds", "list_data", "open_data", "recipe_defaults", "register_data", "takes"]

OPTIONS = ("split", "sample_rate", "root", "csv", "fold", "seed", "multi_label")
"""What :func:`open_data` gives to every data set that takes it."""

NO_ARGUMENTS: Mapping[str, Any] = MappingProxyType({})

DATA: Registry[AudioDataset] = Registry("data set", "specenhance.data")

Factory = TypeVar("Factory", bound=Callable[..., AudioDataset])


def register_data(name: str, *, folds: int = 0, hidden: bool = False, **defaults: Any) -> Callable[[Factory], Factory]:
    """Make a data set known by name: a decorator of its class, or of a function that opens it.

    The class or function gets ``split`` (``"train"``, ``"validation"`` or ``"test"``) and ``sample_rate`` in Hz. It also
    gets ``root``, ``csv``, ``fold``, ``seed`` and ``multi_label``, if it takes them. Its further arguments are ``data_args`` of
    a recipe. A data set that takes no ``root`` needs no files. If it has an attribute ``own_defaults``, a function of ``root``,
    that gives further defaults of a recipe.

    Args:
        name: Lower-case letters, digits, ``_``, ``-`` and ``.``.
        folds: Number of folds. A data set with folds takes ``fold``, a number from 1.
        hidden: Whether :func:`list_data` leaves it out.
        **defaults: Fields of :class:`specenhance.training.Recipe` that have another default for this data set.

    Raises:
        ValueError: for a malformed name, and for one that another data set has.

    >>> import torch
    >>> @register_data("example_silence", epochs=3)
    ... class Silence(AudioDataset):
    ...     def __init__(self, split: str, sample_rate: int = 16000) -> None:
    ...         super().__init__(["nothing"], [0] * 10, sample_rate=sample_rate)
    ...
    ...     def waveform(self, i):
    ...         return torch.zeros(self.sample_rate)
    >>> open_data("example_silence", "test", sample_rate=8000)[0][0].shape
    torch.Size([8000])
    """

    def decorate(factory: Factory) -> Factory:
        factory.folds, factory.recipe_defaults = folds, defaults  # type: ignore[attr-defined]
        return DATA.register(name, hidden=hidden)(factory)

    return decorate


def list_data() -> list[str]:
    """List the names that :func:`open_data` knows, sorted. Entry points are listed, not loaded.

    >>> list_data()
    ['annotations', 'audioset', 'audioset_full', 'esc50', 'folder', 'fsd50k', 'shards', 'speech_commands', 'synthetic']
    """
    return DATA.names()


def open_data(name: str, split: str, *, arguments: Mapping[str, Any] = NO_ARGUMENTS, **options: Any) -> AudioDataset:
    """Open one split of a data set by name.

    Args:
        name: One of :func:`list_data`.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        arguments: Further arguments of the data set, ``data_args`` of a recipe.
        **options: ``sample_rate``, ``root``, ``csv``, ``fold``, ``seed``, ``multi_label``. Those that the data set does not
            take are ignored.

    Raises:
        ValueError: for an unknown name, split or argument, or files that do not fit the data set's layout.
        FileNotFoundError: for files that are missing.

    >>> len(open_data("synthetic", "test"))
    1000
    """
    check_split(split)
    known = [key for key in inspect.signature(DATA.find(name)[0]).parameters if key not in (*OPTIONS, "classes")]
    for key in arguments:
        if key not in known:
            raise ValueError(f"data_args.{key}: the data set {name!r} takes {', '.join(known) or 'no such arguments'}")
    given = {key: value for key, value in options.items() if takes(name, key)}
    data = DATA.create(name, split=split, **given, **arguments)
    fold = options.get("fold")
    if fold and data_folds(name) and not data.paths and not data.names:  # each fold numbers its sounds from 0
        data.names = [f"{data.name(i)} of fold {fold}" for i in range(len(data))]
    return data


def takes(name: str, option: str) -> bool:
    """Tell whether a data set takes an option of :func:`open_data`.

    Raises:
        ValueError: for an unknown name.

    >>> takes("esc50", "fold"), takes("synthetic", "fold")
    (True, False)
    """
    return option in inspect.signature(DATA.find(name)[0]).parameters


def data_folds(name: str) -> int:
    """Count the folds of a data set: 0 if it has none.

    Raises:
        ValueError: for an unknown name.

    >>> data_folds("esc50"), data_folds("synthetic")
    (5, 0)
    """
    return getattr(DATA.find(name)[0], "folds", 0)


def recipe_defaults(name: str, root: str = "") -> dict[str, Any]:
    """Give the fields of a recipe that have another default for a data set.

    Args:
        name: One of :func:`list_data`.
        root: The data set's folder, if it has defaults of its own. Empty asks only for those of all data sets of this name.

    Raises:
        ValueError: for an unknown name.

    >>> recipe_defaults("esc50")["frames"]
    512
    """
    factory = DATA.find(name)[0]
    own = getattr(factory, "own_defaults", None)
    return {**getattr(factory, "recipe_defaults", {}), **(own(root) if own is not None and root else {})}
