"""Export formats by name: register one, list them.

A format is a class without arguments, of :class:`Format`'s attributes and methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor

from specenhance._registry import Registry

__all__ = ["FORMATS", "Format", "Run", "create_format", "list_formats", "register_format"]

Run: TypeAlias = Callable[[Tensor], Tensor]
"""A written file, loaded again: from the input of the model to logits."""


class Format(Protocol):
    """How a model becomes a file.

    Attributes:
        file: the name of the file in a run folder, such as ``"model.onnx"``; its suffix is that of all its files.
        cure: what may help where a model cannot be written.
    """

    file: str
    cure: str

    def require(self) -> None:
        """Raise ImportError where a package is missing; called before any work."""

    def write(self, program: torch.export.ExportedProgram, path: Path, about: Mapping[str, Any]) -> Callable[[], Run]:
        """Write a program to a path, with what it says of itself; give what loads the file.

        Args:
            program: the model, recorded by ``torch.export``: one input, one output.
            path: the file.
            about: the metadata, by the keys of :data:`specenhance.deploy.metadata.SCHEMA`.
        """

    def finish(self, path: Path) -> None:
        """Write what stands beside a file that is in its place."""


FORMATS: Registry[Format] = Registry("export format", "specenhance.deploy.formats", group="specenhance.formats")

Factory = TypeVar("Factory", bound=Callable[..., Any])


def register_format(name: str) -> Callable[[Factory], Factory]:
    """Make an export format known by name, as a decorator of its class.

    Args:
        name: lower-case letters, digits, ``_``, ``-`` and ``.``.

    Raises:
        ValueError: if the name is malformed or already taken by another class.
    """
    return FORMATS.register(name)


def list_formats() -> list[str]:
    """List the names that :func:`create_format` knows, sorted.

    >>> list_formats()
    ['aoti', 'onnx', 'pt2']
    """
    return FORMATS.names()


def create_format(name: str) -> Format:
    """Make a format by name.

    Raises:
        ValueError: for an unknown name; the message has the nearest known ones.

    >>> create_format("onnx").file
    'model.onnx'
    """
    return FORMATS.create(name)
