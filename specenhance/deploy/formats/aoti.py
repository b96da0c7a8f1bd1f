"""Packages that are compiled ahead of time for this kind of processor. C++ and Python can run them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from specenhance.deploy.formats.registry import Run, register_format

__all__ = ["Aoti"]


@register_format("aoti")
class Aoti:
    """A package of AOTInductor, with metadata. See :class:`specenhance.deploy.formats.registry.Format`.

    >>> Aoti().file
    'model-aoti.pt2'
    """

    file = "model-aoti.pt2"
    cure = "install a C++ compiler such as g++"

    def require(self) -> None:
        """Check nothing: no other package is needed. PyTorch itself reports a missing C++ compiler."""

    def write(self, program: torch.export.ExportedProgram, path: Path, about: Mapping[str, Any]) -> Callable[[], Run]:
        """Compile a program, see :class:`specenhance.deploy.formats.registry.Format`."""
        texts = {key: json.dumps(value) for key, value in about.items()}
        torch._inductor.aoti_compile_and_package(
            program, package_path=str(path), inductor_configs={"aot_inductor.metadata": texts}
        )
        return lambda: torch._inductor.aoti_load_package(str(path))

    def finish(self, path: Path) -> None:
        """Do nothing: no file is written beside it."""
