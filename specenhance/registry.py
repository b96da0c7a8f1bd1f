"""Front ends by name: register one, make one, list them.

A front end is a module that maps a spectrogram ``(B, C, T, F)`` to one of the same shape and dtype. Another package adds
its own with :func:`register_frontend`, or by an entry point in the group ``specenhance.frontends``, which is loaded when
its name is first asked for::

    [project.entry-points."specenhance.frontends"]
    my_frontend = "my_package.my_module:MyFrontend"
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple, TypeVar

from torch import nn

__all__ = ["create_frontend", "list_frontends", "register_frontend"]

ENTRY_POINT_GROUP = "specenhance.frontends"

Factory = TypeVar("Factory", bound=Callable[..., nn.Module])


class _Entry(NamedTuple):
    factory: Callable[..., nn.Module]
    names: tuple[str, ...]  # what list_frontends shows


_registry: dict[str, _Entry] = {}


def register_frontend(name: str, *, listed: Iterable[int] = ()) -> Callable[[Factory], Factory]:
    """Make a front end known by name, as a decorator of its class or of a function that makes it.

    The factory is called as ``factory(in_chans=..., **kwargs)`` and returns a module. A name that holds ``{n}``
    (``"tfe{n}"``) stands for any whole number n >= 1 there, which the factory is given as ``n=``.

    Args:
        name: lower-case letters, digits, ``_``, ``-`` and ``.``, with at most one ``{n}``.
        listed: for a name with ``{n}``, the numbers that :func:`list_frontends` shows.

    Raises:
        ValueError: if the name is malformed or already taken by another factory.
    """
    if not re.fullmatch(r"[a-z0-9_.\-]*(\{n\})?[a-z0-9_.\-]*", name) or not name:
        raise ValueError(
            f"front end name {name!r}: expected lower-case letters, digits, '_', '-', '.' and at most one '{{n}}'"
        )
    names = tuple(name.replace("{n}", str(n)) for n in listed) if "{n}" in name else (name,)

    def decorate(factory: Factory) -> Factory:
        _load_own()  # their names are taken, whoever comes first
        found = _lookup(name)
        taken = _registry[name].factory if name in _registry else found and found[0]
        # The same definition may come again: a notebook cell run twice, a module reloaded.
        if taken is not None and _origin(taken) != _origin(factory):
            raise ValueError(
                f"front end {name!r} is already registered by {'.'.join(_origin(taken))}; choose another name"
            )
        _registry[name] = _Entry(factory, names)
        return factory

    return decorate


def list_frontends() -> list[str]:
    """List the names that :func:`create_frontend` knows, sorted; those of entry points are listed without loading them."""
    _load_own()
    names = {name for entry in _registry.values() for name in entry.names}
    return sorted(names | {point.name for point in _entry_points()})


def create_frontend(name: str, in_chans: int = 1, **kwargs: Any) -> nn.Module:
    """Make a front end by name.

    Args:
        name: one of :func:`list_frontends`; ``tfe<n>`` takes any n >= 1.
        in_chans: channels C of the spectrogram.
        **kwargs: what the front end takes besides, e.g. ``kernel_size=17, channels=None, backend="auto"`` for a TFE.

    Returns:
        The module; its attribute ``created_as`` holds these arguments, the name among them.

    Raises:
        ValueError: for an unknown name; the message has the nearest known ones.
        TypeError: for an argument that this front end does not take; the message has those that it does.
    """
    factory, numbers = _resolve(name)
    if twice := numbers.keys() & kwargs.keys():
        raise TypeError(f"front end {name!r}: the name says {', '.join(twice)} already; leave it out")
    arguments = {"in_chans": in_chans, **kwargs}
    kwargs = {**numbers, **arguments}
    signature = inspect.signature(factory)
    try:
        signature.bind(**kwargs)
    except TypeError as error:
        raise TypeError(f"front end {name!r}: {error}; it takes {', '.join(signature.parameters)}") from None
    frontend = factory(**kwargs)
    frontend.created_as = {"name": name, **arguments}  # type: ignore[assignment]  # for what makes it again
    return frontend


def _resolve(name: str) -> tuple[Callable[..., nn.Module], dict[str, int]]:
    _load_own()
    found = _lookup(name)
    if found is None:
        for point in _entry_points():
            if point.name == name:
                loaded = point.load()
                # Loading may have registered it by the decorator; else the entry point is the factory itself.
                found = _lookup(name) or (register_frontend(name)(loaded), {})
                break
    if found is None:
        known = list_frontends()
        near = difflib.get_close_matches(str(name).lower(), known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(f"unknown front end {name!r}: {hint}known: {', '.join(known)}{_any_number()}")
    return found


def _lookup(name: str) -> tuple[Callable[..., nn.Module], dict[str, int]] | None:
    if name in _registry and "{n}" not in name:
        return _registry[name].factory, {}
    for pattern, entry in _registry.items():
        if "{n}" in pattern:
            match = re.fullmatch(re.escape(pattern).replace(r"\{n\}", r"([1-9]\d*)"), name)
            if match:
                return entry.factory, {"n": int(match.group(1))}
    return None


def _any_number() -> str:
    patterns = [name.replace("{n}", "<n>") for name in _registry if "{n}" in name]
    return f", and {', '.join(patterns)} for any n >= 1" if patterns else ""


def _load_own() -> None:
    # Here, not at the top: the front ends import this module to register themselves.
    import specenhance.frontends  # noqa: F401


def _entry_points() -> Iterable[EntryPoint]:
    return entry_points(group=ENTRY_POINT_GROUP)


def _origin(factory: Callable[..., nn.Module]) -> tuple[str, str]:
    return factory.__module__, getattr(factory, "__qualname__", repr(factory))  # a functools.partial has no name
