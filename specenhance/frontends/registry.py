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


def create_frontend(name: str, in_chans: int = 1, **kwargs: Any) -> nn.Module:
    """Make a front end by name.

    Args:
        name: One of :func:`list_frontends`; ``tfe<n>`` accepts any n >= 1.
        in_chans: The channels C of the spectrogram.
        **kwargs: Further arguments of the front end, e.g. ``kernel_size=17, channels=None, backend="auto"`` for a TFE.

    Returns:
        The module. Its attribute ``made_with`` holds these arguments and the name.

    Raises:
        ValueError: for an unknown name; the message has the nearest known names.
        TypeError: for an argument that this front end does not have; the message has those that it has.

    >>> create_frontend("tfe2", kernel_size=9).made_with
    {'name': 'tfe2', 'in_chans': 1, 'kernel_size': 9}
    """
    return FRONTENDS.create(name, in_chans=in_chans, **kwargs)
