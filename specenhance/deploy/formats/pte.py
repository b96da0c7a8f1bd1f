"""Programs for ExecuTorch, on phones and boards. XNNPACK computes them. A JSON file beside each holds the metadata."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from specenhance._missing import missing
from specenhance.deploy.formats.beside import Beside
from specenhance.deploy.formats.registry import Run, register_format

__all__ = ["Pte"]


@register_format("pte")
class Pte(Beside):
    """A program of ExecuTorch, for one clip of a fixed length. See :class:`specenhance.deploy.formats.registry.Format`.

    >>> Pte().file
    'model.pte'
    """

    file = "model.pte"
    cure = "choose another backbone or format"

    def require(self) -> None:
        """Raise ImportError if a package is missing."""
        try:
            import executorch.exir
            import executorch.runtime  # noqa: F401
        except ImportError as error:
            raise missing(error, "pte needs a converter", "executorch") from error

    def write(self, program: torch.export.ExportedProgram, path: Path, about: Mapping[str, Any]) -> Callable[[], Run]:
        """Convert a program, see :class:`specenhance.deploy.formats.registry.Format`."""
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        self.about = about
        flatc = Path(sys.executable).with_name("flatc")  # of the package, which looks for it only on the path
        if flatc.is_file():
            os.environ.setdefault("FLATC_EXECUTABLE", str(flatc))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        path.write_bytes(lowered.to_executorch().buffer)

        return lambda: self.load(path)

    @staticmethod
    def load(path: Path) -> Run:
        """Open a file. It takes one clip of the fixed length."""
        from executorch.runtime import Runtime

        # The method reads from the program, which must live as long.
        program = Runtime.get().load_program(path)
        method = program.load_method("forward")
        assert method is not None

        def run(x: torch.Tensor, program: Any = program) -> torch.Tensor:
            return method.execute([x])[0].clone()

        return run
