"""Export formats by name: register, list and make them.

A format is a class with the attributes and methods of :class:`Format`. It is made without arguments.
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
"""A file that has been loaded again: it maps the input of the model to logits."""


class Format(Protocol):
    """A way to write a model to a file. :func:`register_format` has an example.

    Attributes:
        file: name of the file in a run folder, such as ``"model.onnx"``. All files of the format have its suffix.
        cure: advice for a model that cannot be written.
        is_page: whether it is a folder that shows people what the model does. Then ``write`` is given a folder, and a program
            with the outputs :data:`specenhance.deploy.program.OUTPUTS`. A format without it is a file.
    """

    file: str
    cure: str

    def require(self) -> None:
        """Raise ImportError if a package is missing. It is called before any work."""

    def write(self, program: torch.export.ExportedProgram, path: Path, about: Mapping[str, Any]) -> Callable[[], Run]:
        """Write a program and its metadata to a file. Return a function that loads the file.

        Args:
            program: the model, recorded by ``torch.export``. It has one input and, unless it is for a page, one output.
            path: the file to write.
            about: the metadata, by the keys of :data:`specenhance.deploy.metadata.SCHEMA`.
        """

    def finish(self, path: Path) -> None:
        """Write further files beside a file that has its final path."""


FORMATS: Registry[Format] = Registry("export format", "specenhance.deploy.formats", group="specenhance.formats")

Factory = TypeVar("Factory", bound=Callable[..., Any])


def register_format(name: str) -> Callable[[Factory], Factory]:
    """Make an export format known by name: a decorator of its class.

    Args:
        name: name of lower-case letters, digits, ``_``, ``-`` and ``.``.

    Raises:
        ValueError: if the name is malformed, or if another format has it.

    >>> @register_format("example_text")
    ... class Text:
    ...     file, cure = "model.txt", "choose another format"
    ...
    ...     def require(self): ...
    ...     def write(self, program, path, about):
    ...         path.write_text(str(program))
    ...         return lambda: torch.export.load(path)
    ...
    ...     def finish(self, path): ...
    >>> create_format("example_text").file
    'model.txt'
    """
    return FORMATS.register(name)


def list_formats() -> list[str]:
    """List the names that :func:`create_format` knows, sorted.

    >>> {"aoti", "onnx", "pt2"} <= set(list_formats())
    True
    """
    return FORMATS.names()


def create_format(name: str) -> Format:
    """Make a format by name.

    Args:
        name: one of :func:`list_formats`.

    Raises:
        ValueError: for an unknown name. The message has the nearest known names.

    >>> create_format("onnx").file
    'model.onnx'
    """
    return FORMATS.create(name)
