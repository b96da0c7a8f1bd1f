"""Teachers by name: ``PREFIX:REST`` names one, such as ``ast:MIT/ast-finetuned-audioset-10-10-0.4593``.

A factory is called as ``factory(rest, classes, frames=T, bins=F)`` with what follows the colon and the names of the student's
classes. It gives a module, or any callable, from the student's spectrograms ``(B, 1, T, F)`` to logits ``(B, classes)`` in the
order of those names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor

from specenhance._registry import Registry

__all__ = ["TEACHERS", "create_teacher", "is_teacher_name", "list_teachers", "register_teacher"]

TEACHERS: Registry[Callable[..., Tensor]] = Registry(
    "teacher", "specenhance.distillation", group="specenhance.teachers"
)

Factory = TypeVar("Factory", bound=Callable[..., Any])


def register_teacher(name: str) -> Callable[[Factory], Factory]:
    """Make a teacher known by name, as a decorator of its class or of a function that makes it.

    Args:
        name: lower-case letters, digits, ``_``, ``-`` and ``.``.

    Raises:
        ValueError: if the name is malformed or already taken by another factory.
    """
    return TEACHERS.register(name)


def list_teachers() -> list[str]:
    """List the prefixes that :func:`create_teacher` knows, sorted.

    >>> list_teachers()
    ['ast', 'timm']
    """
    return TEACHERS.names()


def is_teacher_name(name: str) -> bool:
    """Say whether a name is ``PREFIX:REST`` of a teacher, and not the path of a run folder.

    >>> is_teacher_name("ast:folder"), is_teacher_name("runs/teacher")
    (True, False)
    """
    prefix, colon, _ = name.partition(":")
    return bool(colon) and prefix in list_teachers()


def create_teacher(name: str, classes: Sequence[str], *, frames: int, bins: int) -> Callable[..., Any]:
    """Make a teacher by name.

    Args:
        name: ``PREFIX:REST``, the prefix one of :func:`list_teachers`.
        classes: the names of the student's classes; the teacher's logits come in this order.
        frames: T of the student's spectrograms.
        bins: F of the student's spectrograms.

    Raises:
        ValueError: for an unknown prefix, or a teacher that does not know these classes.
        ImportError: where a package that the teacher needs is missing.
    """
    prefix, _, rest = name.partition(":")
    factory, _ = TEACHERS.find(prefix)
    return factory(rest, list(classes), frames=frames, bins=bins)
