"""Front ends by name: register one, make one, list them.

A front end is a module that maps a spectrogram ``(B, C, T, F)`` to one of the same shape and dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import nn

from specenhance._registry import Registry

__all__ = ["FRONTENDS", "create_frontend", "list_frontends", "register_frontend"]

FRONTENDS: Registry[nn.Module] = Registry("front end", "specenhance.frontends")

Factory = TypeVar("Factory", bound=Callable[..., Any])


def register_frontend(name: str, *, listed: Iterable[int] = ()) -> Callable[[Factory], Factory]:
    """Make a front end known by name, as a decorator of its class or of a function that makes it.

    Args:
        name: lower-case letters, digits, ``_``, ``-`` and ``.``, with at most one ``{n}``: such a name (``"tfe{n}"``)
            stands for any whole number n >= 1 there, which the factory is given as ``n=``.
        listed: for a name with ``{n}``, the numbers that :func:`list_frontends` shows.

    Raises:
        ValueError: if the name is malformed or already taken by another factory.
    """
    return FRONTENDS.register(name, listed=listed)


def list_frontends() -> list[str]:
    """List the names that :func:`create_frontend` knows, sorted; those of entry points are listed without loading them.

    >>> "tfe4" in list_frontends()
    True
    """
    return FRONTENDS.names()


def create_frontend(name: str, in_chans: int = 1, **kwargs: Any) -> nn.Module:
    """Make a front end by name.

    Args:
        name: one of :func:`list_frontends`; ``tfe<n>`` takes any n >= 1.
        in_chans: channels C of the spectrogram.
        **kwargs: what the front end takes besides, e.g. ``kernel_size=17, channels=None, backend="auto"`` for a TFE.

    Returns:
        The module; its attribute ``made_with`` holds these arguments, the name among them.

    Raises:
        ValueError: for an unknown name; the message has the nearest known ones.
        TypeError: for an argument that this front end does not take; the message has those that it does.

    >>> create_frontend("tfe2", kernel_size=9).made_with
    {'name': 'tfe2', 'in_chans': 1, 'kernel_size': 9}
    """
    return FRONTENDS.create(name, in_chans=in_chans, **kwargs)
