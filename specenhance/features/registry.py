"""Feature modules by name: register one, make one, list them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import nn

from specenhance._registry import Registry

__all__ = ["FEATURES", "create_features", "list_features", "register_features"]

FEATURES: Registry[nn.Module] = Registry("features", "specenhance.features")

Factory = TypeVar("Factory", bound=Callable[..., nn.Module])


def register_features(name: str, *, listed: Iterable[int] = ()) -> Callable[[Factory], Factory]:
    """Make a feature module known by name: a decorator of its class, or of a function that makes it.

    Args:
        name: Lower-case letters, digits, ``_``, ``-`` and ``.``, with at most one ``{n}``, which stands for any whole number
            n >= 1; the class gets the number as ``n=``.
        listed: The numbers n that :func:`list_features` shows.

    Raises:
        ValueError: for a malformed name, and for one that another feature module has.

    >>> @register_features("example_frames")
    ... class Frames(nn.Module):
    ...     sample_rate = 16000
    ...
    ...     def forward(self, waveform, lengths=None):
    ...         return waveform.unfold(-1, 400, 160)[:, None]
    >>> create_features("example_frames").made_with
    {'name': 'example_frames'}
    """
    return FEATURES.register(name, listed=listed)


def list_features() -> list[str]:
    """List the names that :func:`create_features` knows, sorted. Entry points are listed, not loaded.

    >>> {"kaldi", "logmel", "trainable_mel"} <= set(list_features())
    True
    """
    return FEATURES.names()


def create_features(name: str, **kwargs: Any) -> nn.Module:
    """Make a feature module by name.

    Args:
        name: One of :func:`list_features`.
        **kwargs: The arguments of the module's class, e.g. ``frames=512, mean=-6.63, std=5.36``.

    Returns:
        The module. Its attribute ``made_with`` holds these arguments and the name.

    Raises:
        ValueError: for an unknown name; the message has the nearest known names.
        TypeError: for an argument that the class does not have; the message has those that it has.

    >>> create_features("kaldi", frames=512).made_with
    {'name': 'kaldi', 'frames': 512}
    """
    return FEATURES.create(name, **kwargs)
