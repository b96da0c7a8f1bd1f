"""PyTorch's own files: ``torch.export.load`` reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from specenhance.deploy.formats.registry import Run, register_format

__all__ = ["Pt2"]


@register_format("pt2")
class Pt2:
    """A program of ``torch.export``, with the extra file ``specenhance.json``."""

    file = "model.pt2"
    cure = "choose another backbone or format"

    def require(self) -> None:
        """Need nothing but PyTorch."""

    def write(self, program: torch.export.ExportedProgram, path: Path, about: Mapping[str, Any]) -> Callable[[], Run]:
        """Write a program; see :class:`specenhance.deploy.formats.registry.Format`."""
        torch.export.save(program, path, extra_files={"specenhance.json": json.dumps(about, indent=1)})
        return lambda: torch.export.load(path).module()

    def finish(self, path: Path) -> None:
        """Write nothing beside it."""
