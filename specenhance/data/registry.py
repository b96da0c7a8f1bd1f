"""Data sets by name: register one, open one, list them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from specenhance._registry import Registry
from specenhance.data.base import AudioDataset
from specenhance.data.layout import check_split

__all__ = ["DATA", "data_folds", "list_data", "open_data", "recipe_defaults", "register_data", "takes"]

DATA: Registry[AudioDataset] = Registry("data set", "specenhance.data")

Factory = TypeVar("Factory", bound=Callable[..., AudioDataset])


def register_data(name: str, *, folds: int = 0, hidden: bool = False, **defaults: Any) -> Callable[[Factory], Factory]:
    """Make a data set known by name, as a decorator of its class or of a function that opens it.

    The factory is called with ``split`` (``"train"``, ``"validation"`` or ``"test"``), ``sample_rate`` in Hz, and those of
    ``root``, ``csv``, ``fold`` and ``seed`` that it takes. A data set that takes no ``root`` needs no files.

    Args:
        name: lower-case letters, digits, ``_``, ``-`` and ``.``.
        folds: how many folds it has; its factory takes ``fold``, from 1 on.
        hidden: whether :func:`list_data` leaves it out.
        **defaults: fields of a recipe that differ from :class:`specenhance.training.Recipe`'s own for this data set.

    Raises:
        ValueError: if the name is malformed or already taken.
    """

    def decorate(factory: Factory) -> Factory:
        factory.folds, factory.recipe_defaults = folds, defaults  # type: ignore[attr-defined]
        return DATA.register(name, hidden=hidden)(factory)

    return decorate


def list_data() -> list[str]:
    """List the names that :func:`open_data` knows, sorted.

    >>> list_data()
    ['esc50', 'folder', 'speech_commands', 'synthetic']
    """
    return DATA.names()


def open_data(name: str, split: str, **options: Any) -> AudioDataset:
    """Open one split of a data set by name.

    Args:
        name: one of :func:`list_data`.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        **options: ``sample_rate``, ``root``, ``csv``, ``fold``, ``seed``; those that the data set does not take are left out.

    Raises:
        ValueError: for an unknown name or split.
        FileNotFoundError, ValueError: as the data set does, for files that are missing or do not fit its layout.

    >>> len(open_data("synthetic", "test"))
    1000
    """
    check_split(split)
    return DATA.create(name, split=split, **{key: value for key, value in options.items() if takes(name, key)})


def takes(name: str, option: str) -> bool:
    """Say whether a data set takes an option of :func:`open_data`; raises ValueError for an unknown name."""
    return option in inspect.signature(DATA.find(name)[0]).parameters


def data_folds(name: str) -> int:
    """Count the folds of a data set: 0 for one that has none; raises ValueError for an unknown name."""
    return getattr(DATA.find(name)[0], "folds", 0)


def recipe_defaults(name: str) -> dict[str, Any]:
    """Give the fields of a recipe that differ for a data set; raises ValueError for an unknown name."""
    return dict(getattr(DATA.find(name)[0], "recipe_defaults", {}))
