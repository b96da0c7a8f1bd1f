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
    """A program of ``torch.export``, with metadata in ``specenhance.json``.

    See :class:`specenhance.deploy.formats.registry.Format`.

    >>> import tempfile
    >>> program = torch.export.export(torch.nn.ReLU(), (torch.zeros(2),))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load = Pt2().write(program, Path(folder) / "relu.pt2", {"input": "waveform"})
    ...     run = load()
    >>> run(torch.tensor([-1.0, 1.0]))
    tensor([0., 1.])
    """

    file = "model.pt2"
    cure = "choose another backbone or format"

    def require(self) -> None:
        """Check nothing: only PyTorch is needed."""

    def write(self, program: torch.export.ExportedProgram, path: Path, about: Mapping[str, Any]) -> Callable[[], Run]:
        """Write a program, see :class:`specenhance.deploy.formats.registry.Format`."""
        torch.export.save(program, path, extra_files={"specenhance.json": json.dumps(about, indent=1)})
        return lambda: torch.export.load(path).module()

    def finish(self, path: Path) -> None:
        """Do nothing: no file is written beside it."""
