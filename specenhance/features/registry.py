"""Feature modules by name: register one, make one, list them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from specenhance._registry import Registry

__all__ = ["FEATURES", "create_features", "list_features", "register_features"]

FEATURES: Registry[nn.Module] = Registry("features", "specenhance.features")

Factory = TypeVar("Factory", bound=Callable[..., Any])


def register_features(name: str) -> Callable[[Factory], Factory]:
    """Make a feature module known by name, as a decorator of its class or of a function that makes it.

    Args:
        name: lower-case letters, digits, ``_``, ``-`` and ``.``.

    Raises:
        ValueError: if the name is malformed or already taken by another factory.
    """
    return FEATURES.register(name)


def list_features() -> list[str]:
    """List the names that :func:`create_features` knows, sorted; those of entry points are listed without loading them.

    >>> list_features()
    ['kaldi', 'logmel', 'trainable_mel']
    """
    return FEATURES.names()


def create_features(name: str, **kwargs: Any) -> nn.Module:
    """Make a feature module by name.

    Args:
        name: one of :func:`list_features`.
        **kwargs: what the module's class takes, e.g. ``frames=512, mean=-6.63, std=5.36``.

    Returns:
        The module; its attribute ``made_with`` holds these arguments, the name among them.

    Raises:
        ValueError: for an unknown name; the message has the nearest known ones.
        TypeError: for an argument that the class does not take; the message has those that it does.

    >>> create_features("kaldi", frames=512).made_with
    {'name': 'kaldi', 'frames': 512}
    """
    return FEATURES.create(name, **kwargs)
