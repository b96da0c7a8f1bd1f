"""Teachers by name. A name is ``PREFIX:REST``, such as ``ast:MIT/ast-finetuned-audioset-10-10-0.4593``.

A factory is called as ``factory(rest, classes, frames=T, bins=F)``. ``rest`` is the part after the colon. ``classes`` are the
names of the student's classes. The factory gives a module, or any callable, that maps the student's spectrograms
``(B, 1, T, F)`` to logits ``(B, classes)`` in the order of those names.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor

from specenhance._imports import import_modules
from specenhance._registry import Registry

__all__ = ["TEACHERS", "create_teacher", "is_teacher_name", "list_teachers", "register_teacher"]

TEACHERS: Registry[Callable[..., Tensor]] = Registry(
    "teacher", "specenhance.distillation", group="specenhance.teachers"
)

FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")  # MODULE:FUNCTION

Factory = TypeVar("Factory", bound=Callable[..., Any])


def register_teacher(name: str) -> Callable[[Factory], Factory]:
    """Make a teacher known by its prefix: a decorator of its class, or of a function that makes it.

    It is called with what follows the prefix, and with those of the arguments ``classes``, ``frames``, ``bins`` and
    ``sample_rate`` of :func:`create_teacher` that it names.

    Args:
        name: The prefix: lower-case letters, digits, ``_``, ``-`` and ``.``.

    Raises:
        ValueError: for a malformed name, and for a name that another teacher has.

    >>> import torch
    >>> @register_teacher("example_zeros")
    ... def zeros(rest, classes):
    ...     return lambda spec: spec.new_zeros(len(spec), len(classes))
    >>> teacher = create_teacher("example_zeros:", ["yes", "no"], frames=64, bins=32, sample_rate=16000)
    >>> teacher(torch.ones(1, 1, 64, 32))
    tensor([[0., 0.]])
    """
    return TEACHERS.register(name)


def list_teachers() -> list[str]:
    """List the prefixes that :func:`create_teacher` knows, sorted.

    >>> {"ast", "timm"} <= set(list_teachers())
    True
    """
    return TEACHERS.names()


def is_teacher_name(name: str) -> bool:
    """Say whether a name is ``PREFIX:REST`` of a teacher, or ``MODULE:FUNCTION``. Otherwise it is the path of a run folder.

    Args:
        name: The name.

    >>> is_teacher_name("ast:folder"), is_teacher_name("my_module:teacher"), is_teacher_name("runs/teacher")
    (True, True, False)
    """
    prefix, colon, _ = name.partition(":")
    return bool(colon) and (prefix in list_teachers() or FUNCTION.fullmatch(name) is not None)


def create_teacher(name: str, classes: Sequence[str], *, frames: int, bins: int, sample_rate: int) -> Any:
    """Make a teacher by name: a function that gives logits of the student's spectrograms, unless it says something else.

    A teacher may have the attribute ``hears``: ``"spectrogram"``, ``"waveform"`` for one that is called with waveforms
    ``(B, samples)``, or ``"clip"`` for one whose method ``values(paths)`` gives values of clips by their files. With the
    attribute ``needs_head`` true, it gives an embedding ``(B, D)``, and training fits a head on it
    (:func:`specenhance.distillation.head.fit_head`).

    Args:
        name: ``PREFIX:REST``. The prefix is one of :func:`list_teachers`. Or ``MODULE:FUNCTION``: the function of a module that
            is installed or lies in the current folder. It is called as a registered one is, with an empty ``REST``.
        classes: The names of the student's classes. The teacher's logits have this order.
        frames: The frames T of the student's spectrograms.
        bins: The bins F of the student's spectrograms.
        sample_rate: The sample rate of the student's waveforms, in Hz.

    Raises:
        ValueError: for an unknown prefix, or a teacher that does not know these classes.
        ImportError: if a package that the teacher needs is missing.

    >>> create_teacher("timm:test_resnet", ["yes", "no"], frames=64, bins=32, sample_rate=16000)
    Traceback (most recent call last):
    ValueError: teacher = 'timm:test_resnet' does not say that it has learned these classes (yes, no, ...): train it, ...
    """
    prefix, _, rest = name.partition(":")
    if prefix not in list_teachers() and FUNCTION.fullmatch(name):
        factory, rest = _function(prefix, rest), ""
    else:
        factory, _ = TEACHERS.find(prefix)
    known = {"classes": list(classes), "frames": frames, "bins": bins, "sample_rate": sample_rate}
    named = inspect.signature(factory).parameters
    return factory(rest, **{argument: value for argument, value in known.items() if argument in named})


def _function(module: str, name: str) -> Callable[..., Any]:
    """Import the function of a user's module."""
    given = f"teacher = {f'{module}:{name}'!r}"
    try:
        import_modules([module])
        found = getattr(sys.modules[module], name)
    except ImportError as error:
        known = ", ".join(list_teachers())
        raise ValueError(
            f"{given}: {error.__cause__}; expected MODULE:FUNCTION, or one of {known} before the colon"
        ) from error
    except AttributeError as error:
        raise ValueError(f"{given}: {error}") from error
    if not callable(found):
        raise ValueError(f"{given}: is {type(found).__name__}; expected a function that makes a teacher")
    return found
