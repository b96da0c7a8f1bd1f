"""Front ends by name: register one, make one, list them.

A front end is a module that maps a spectrogram ``(B, C, T, F)`` to one ``(B, C', T, F)`` of the same dtype. Names joined by
``+`` are a chain of front ends, such as ``"clipnorm+tfe4"``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import nn

from specenhance._registry import ArgumentsError, Registry
from specenhance.frontends.base import out_channels
from specenhance.frontends.chain import chain

__all__ = ["FRONTENDS", "check_frontend", "create_frontend", "list_frontends", "register_frontend"]

FRONTENDS: Registry[nn.Module] = Registry("front end", "specenhance.frontends")

Factory = TypeVar("Factory", bound=Callable[..., nn.Module])


def register_frontend(name: str, *, listed: Iterable[int] = ()) -> Callable[[Factory], Factory]:
    """Make a front end known by name: a decorator of its class, or of a function that makes it.

    Args:
        name: Lower-case letters, digits, ``_``, ``-`` and ``.``, with at most one ``{n}``. Such a name (``"tfe{n}"``) stands
            for any whole number n >= 1; the class gets the number as ``n=``.
        listed: The numbers n that :func:`list_frontends` shows.

    Raises:
        ValueError: for a malformed name, and for one that another front end has.

    >>> @register_frontend("example_gain")
    ... class Gain(nn.Module):
    ...     def __init__(self, in_chans: int = 1, gain: float = 1.0) -> None:
    ...         super().__init__()
    ...         self.gain = gain
    ...
    ...     def forward(self, spec):
    ...         return self.gain * spec
    >>> create_frontend("example_gain", gain=2.0).made_with
    {'name': 'example_gain', 'in_chans': 1, 'gain': 2.0}
    """
    return FRONTENDS.register(name, listed=listed)


def list_frontends() -> list[str]:
    """List the names that :func:`create_frontend` knows, sorted. Entry points are listed, not loaded.

    >>> "tfe4" in list_frontends()
    True
    """
    return FRONTENDS.names()


def check_frontend(name: str) -> None:
    """Check the name of a front end, or those of a chain, without making it.

    Raises:
        ValueError: for an unknown name; the message has the nearest known names.

    >>> check_frontend("clipnorm+tfe4")
    >>> check_frontend("clipnorm+tfee4")
    Traceback (most recent call last):
    ValueError: unknown front end 'tfee4': did you mean 'tfe4' ...
    """
    for link in name.split("+"):
        FRONTENDS.find(link)


def create_frontend(name: str, in_chans: int = 1, *, bins: int | None = None, **kwargs: Any) -> nn.Module:
    """Make a front end, or a chain of front ends, by name.

    Args:
        name: One of :func:`list_frontends`. ``tfe<n>`` accepts any n >= 1. Names joined by ``+`` are a chain, whose first link
            gets the spectrogram.
        in_chans: The channels C of the spectrogram.
        bins: The number of frequency bins F. A front end that does not need it does not get it.
        **kwargs: Further arguments of the front end, e.g. ``kernel_size=17, channels=None, backend="auto"`` for a TFE. Those
            of a chain are a dictionary for each link, under its name.

    Returns:
        The module. Its attribute ``made_with`` holds these arguments and the name.

    Raises:
        ValueError: for an unknown name; the message has the nearest known names.
        TypeError: for an argument that this front end does not have; the message has those that it has.

    >>> create_frontend("tfe2", kernel_size=9).made_with
    {'name': 'tfe2', 'in_chans': 1, 'kernel_size': 9}
    >>> create_frontend("clipnorm+tfe2", tfe2={"kernel_size": 9}).made_with
    {'name': 'clipnorm+tfe2', 'in_chans': 1, 'tfe2': {'kernel_size': 9}}
    """
    names = name.split("+")
    if len(names) == 1:
        return FRONTENDS.create(name, in_chans=in_chans, **_with_bins(name, bins, kwargs))
    if unknown := kwargs.keys() - set(names):
        raise ArgumentsError(
            f"front end {name!r}: no link is called {', '.join(sorted(unknown))}; the arguments of a chain are a dictionary "
            f"for each link, such as {names[-1]}={{...}}"
        )
    links: list[nn.Module] = []
    chans = in_chans
    for link in names:
        arguments = kwargs.get(link, {})
        if not isinstance(arguments, dict):
            raise ArgumentsError(
                f"front end {name!r}: {link}={arguments!r}: expected a dictionary of the link's arguments"
            )
        links.append(FRONTENDS.create(link, in_chans=chans, **_with_bins(link, bins, arguments)))
        chans = out_channels(links[-1], chans)
    made: Any = chain(links)
    made.made_with = {"name": name, "in_chans": in_chans, **({} if bins is None else {"bins": bins}), **kwargs}
    return made


def _with_bins(name: str, bins: int | None, arguments: dict[str, Any]) -> dict[str, Any]:
    factory, _ = FRONTENDS.find(name)
    takes = "bins" in inspect.signature(factory).parameters
    return arguments if bins is None or not takes else {"bins": bins, **arguments}
