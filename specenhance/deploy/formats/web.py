"""A web page: a folder that listens in a browser, without a server and without a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from specenhance.deploy.formats.onnx import Onnx
from specenhance.deploy.formats.registry import Run, register_format
from specenhance.deploy.web.onnxruntime_web import runtime_files
from specenhance.deploy.web.page import write_page

__all__ = ["Web"]


@register_format("web")
class Web(Onnx):
    """A folder with a page and a model. See :class:`specenhance.deploy.formats.registry.Format`.

    >>> Web().file
    'page'
    """

    file = "page"
    is_page = True

    def require(self) -> None:
        """Raise an error if a package is missing, or onnxruntime-web cannot be had."""
        super().require()
        self.runtime = runtime_files()

    def write(self, program: torch.export.ExportedProgram, path: Path, about: Mapping[str, Any]) -> Callable[[], Run]:
        """Write a program, see :class:`specenhance.deploy.formats.registry.Format`."""
        from specenhance.deploy.runtime import OnnxModel

        model = path / "model.onnx"
        load = super().write(program, model, about)
        run = load()
        write_page(path, model, OnnxModel(model).metadata, self.runtime)
        model.unlink()  # it is in the page's model.js
        return lambda: run

    def finish(self, path: Path) -> None:
        """Do nothing: nothing is written beside the folder."""
