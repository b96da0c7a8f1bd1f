"""One way to keep things by name: front ends, features, data sets, teachers and export formats are each one :class:`Registry`.

A room of the library registers its own things file by file; another package adds its own by the same decorator, or by an entry
point in the registry's group, which is loaded when its name is first asked for::

    [project.entry-points."specenhance.frontends"]
    gain = "my_package.my_module:Gain"
"""

from __future__ import annotations

import difflib
import functools
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, NamedTuple, TypeVar

from specenhance._imports import HINT

__all__ = ["ArgumentsError", "Registry", "name_of"]

T = TypeVar("T")
Factory = TypeVar("Factory", bound=Callable[..., Any])

NAME = re.compile(r"[a-z0-9_.\-]*(\{n\})?[a-z0-9_.\-]*")


class ArgumentsError(TypeError, ValueError):
    """Arguments that a named thing does not take. To Python a wrong call, to a user of the command line a wrong value."""


class _Entry(NamedTuple):
    factory: Callable[..., Any]
    names: tuple[str, ...]  # what `names` lists


class Registry(Generic[T]):
    """Factories by name.

    Args:
        kind: what is kept, for messages, such as ``"front end"``.
        room: the package of the library whose files register its own.
        group: of entry points; the room's name if left out.
    """

    def __init__(self, kind: str, room: str, group: str | None = None) -> None:
        self.kind, self.room, self.group = kind, room, group or room
        self._entries: dict[str, _Entry] = {}
        self._loaded = False

    def register(self, name: str, *, listed: Iterable[int] = (), hidden: bool = False) -> Callable[[Factory], Factory]:
        """Make a thing known by name, as a decorator of its class or of a function that makes it.

        What is made has an attribute ``made_with``: a dictionary of the name, under ``"name"``, and of the arguments. So has
        what a registered class makes when it is called itself.

        Args:
            name: lower-case letters, digits, ``_``, ``-`` and ``.``, with at most one ``{n}``: such a name (``"tfe{n}"``)
                stands for any whole number n >= 1 there, which the factory is given as ``n=``.
            listed: for a name with ``{n}``, the numbers that :meth:`names` shows.
            hidden: whether :meth:`names` leaves it out, because a user does not choose it by name.

        Raises:
            ValueError: if the name is malformed or already taken by another factory.
        """
        if not NAME.fullmatch(name) or not name:
            raise ValueError(
                f"{self.kind} name {name!r}: expected lower-case letters, digits, '_', '-', '.' and at most one '{{n}}'"
            )
        names = tuple(name.replace("{n}", str(n)) for n in listed) if "{n}" in name else () if hidden else (name,)

        def decorate(factory: Factory) -> Factory:
            if not factory.__module__.startswith(f"{self.room}."):  # one file of the room may import another
                self._load_own()  # their names are taken, whoever comes first
            found = self._lookup(name)
            taken = self._entries[name].factory if name in self._entries else found and found[0]
            # The same definition may come again: a notebook cell run twice, a module reloaded.
            if taken is not None and _origin(taken) != _origin(factory):
                raise ValueError(
                    f"{self.kind} {name!r} is already registered by {'.'.join(_origin(taken))}; choose another name"
                )
            if inspect.isclass(factory):
                _remember(factory, name)
            self._entries[name] = _Entry(factory, names)
            return factory

        return decorate

    def names(self) -> list[str]:
        """List the names that :meth:`create` knows, sorted; those of entry points are listed without loading them."""
        self._load_own()
        names = {name for entry in self._entries.values() for name in entry.names}
        return sorted(names | {point.name for point in self._points()})

    def find(self, name: str) -> tuple[Callable[..., T], dict[str, int]]:
        """Give the factory of a name, and the number that the name holds, under ``"n"``, if it holds one.

        Raises:
            ValueError: for an unknown name; the message has the nearest known ones.
        """
        self._load_own()
        found = self._lookup(name)
        if found is None:
            for point in self._points():
                if point.name == name:
                    loaded = point.load()
                    # Loading may have registered it by the decorator; else the entry point is the factory itself.
                    found = self._lookup(name) or (self.register(name)(loaded), {})
                    break
        if found is None:
            known = self.names()
            near = difflib.get_close_matches(str(name).lower(), known, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
            raise ValueError(
                f"unknown {self.kind} {name!r}: {hint}known: {', '.join(known)}{self._any_number()} ({HINT})"
            )
        return found

    def create(self, name: str, **arguments: Any) -> T:
        """Make a thing by name; its attribute ``made_with`` holds the arguments, the name among them.

        Raises:
            ValueError: for an unknown name; the message has the nearest known ones.
            TypeError: for an argument that its factory does not take; the message has those that it does.
        """
        factory, numbers = self.find(name)
        if twice := numbers.keys() & arguments.keys():
            raise ArgumentsError(f"{self.kind} {name!r}: the name says {', '.join(twice)} already; leave it out")
        signature = inspect.signature(factory)
        try:
            signature.bind(**numbers, **arguments)
        except TypeError as error:
            raise ArgumentsError(
                f"{self.kind} {name!r}: {error}; it takes {', '.join(signature.parameters) or 'none'}"
            ) from None
        made: Any = factory(**numbers, **arguments)
        made.made_with = {"name": name, **arguments}
        return made

    def _lookup(self, name: str) -> tuple[Callable[..., Any], dict[str, int]] | None:
        if name in self._entries and "{n}" not in name:
            return self._entries[name].factory, {}
        for pattern, entry in self._entries.items():
            if "{n}" in pattern:
                match = re.fullmatch(re.escape(pattern).replace(r"\{n\}", r"([1-9]\d*)"), name)
                if match:
                    return entry.factory, {"n": int(match.group(1))}
        return None

    def _any_number(self) -> str:
        patterns = [name.replace("{n}", "<n>") for name in self._entries if "{n}" in name]
        return f", and {', '.join(patterns)} for any n >= 1" if patterns else ""

    def _load_own(self) -> None:
        if self._loaded:
            return
        self._loaded = True  # before: the files that are imported register themselves
        for module in pkgutil.iter_modules(import_module(self.room).__path__, f"{self.room}."):
            import_module(module.name)

    def _points(self) -> Iterable[EntryPoint]:
        return entry_points(group=self.group)


def name_of(made: Any) -> str:
    """Give the name that a registry knows a thing by, or the name of its class.

    >>> name_of(object())
    'object'
    """
    return getattr(made, "made_with", {}).get("name", type(made).__name__)


def _remember(kind: type, name: str) -> None:
    """Have a class write what it was made with into its objects, once."""
    own_init = vars(kind).get("__init__")
    if own_init is None or hasattr(own_init, "remembers"):
        return
    signature = inspect.signature(own_init)

    @functools.wraps(own_init)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        own_init(self, *args, **kwargs)
        if type(self) is kind:
            given = dict(list(signature.bind(self, *args, **kwargs).arguments.items())[1:])  # without self
            for parameter in signature.parameters.values():
                if parameter.kind is parameter.VAR_KEYWORD:
                    given |= given.pop(parameter.name, {})
            named = name.replace("{n}", str(given.pop("n", ""))) if "n" in given else name
            if "{n}" not in named:
                vars(self)["made_with"] = {"name": named, **given}

    init.remembers = name  # type: ignore[attr-defined]
    kind.__init__ = init  # type: ignore[misc]


def _origin(factory: Callable[..., Any]) -> tuple[str, str]:
    return factory.__module__, getattr(factory, "__qualname__", repr(factory))  # a functools.partial has no name
