"""TFLite files for LiteRT, on phones and boards. A JSON file beside each holds the metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from specenhance._missing import missing
from specenhance.deploy.formats.beside import Beside
from specenhance.deploy.formats.registry import Run, register_format

__all__ = ["TFLite"]


@register_format("tflite")
class TFLite(Beside):
    """A TFLite file, for one clip of a fixed length. See :class:`specenhance.deploy.formats.registry.Format`.

    >>> TFLite().file
    'model.tflite'
    """

    file = "model.tflite"
    cure = "choose another backbone or format"

    def require(self) -> None:
        """Raise ImportError if a package is missing."""
        try:
            import ai_edge_litert.interpreter  # noqa: F401
            import litert_torch  # noqa: F401
        except ImportError as error:
            raise missing(error, "TFLite needs a converter", "litert-torch") from error

    def write(self, program: torch.export.ExportedProgram, path: Path, about: Mapping[str, Any]) -> Callable[[], Run]:
        """Convert a program, see :class:`specenhance.deploy.formats.registry.Format`."""
        import litert_torch

        ((example,), _) = program.example_inputs
        self.about = about
        litert_torch.convert(program.module(), (example,)).export(str(path))
        return lambda: self.load(path)

    @staticmethod
    def load(path: Path) -> Run:
        """Open a file on one thread. It takes one clip of the fixed length."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(path), num_threads=1)
        interpreter.allocate_tensors()
        (given,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()

        def run(x: torch.Tensor) -> torch.Tensor:
            interpreter.set_tensor(given["index"], x.numpy())
            interpreter.invoke()
            return torch.from_numpy(interpreter.get_tensor(logits["index"]))

        return run
