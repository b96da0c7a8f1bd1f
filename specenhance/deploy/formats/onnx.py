"""ONNX files with metadata and a checksum. A JSON file beside each holds the same metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from specenhance._checksum import BLANK, KEY, seal
from specenhance._files import write_text
from specenhance._missing import missing
from specenhance.deploy.formats.registry import Run, register_format
from specenhance.deploy.program import OUTPUTS, axes

__all__ = ["OPSET", "Onnx", "labels_path", "sign"]

OPSET = 18
"""Version of the ONNX operators. It is the oldest one that PyTorch's exporter writes without a conversion."""


@register_format("onnx")
class Onnx:
    """An ONNX file, for onnxruntime. See :class:`specenhance.deploy.formats.registry.Format`.

    >>> Onnx().file
    'model.onnx'
    """

    file = "model.onnx"
    cure = "choose another backbone or format"

    def require(self) -> None:
        """Raise ImportError if a package is missing."""
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise missing(error, "ONNX needs more packages", "onnx", "onnxruntime", "onnxscript") from error

    def write(self, program: torch.export.ExportedProgram, path: Path, about: Mapping[str, Any]) -> Callable[[], Run]:
        """Write a program, see :class:`specenhance.deploy.formats.registry.Format`."""
        (name,) = program.graph_signature.user_inputs
        with torch.no_grad():
            made = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=[str(name)],
                output_names=list(OUTPUTS[: len(program.graph_signature.user_outputs)]),
                verbose=False,
            )
        assert made is not None
        made.save(path, external_data=False)
        _name_axes(path, dict(axes(program)))
        sign(path, about)

        def load() -> Run:
            from specenhance.deploy.runtime import OnnxModel

            model = OnnxModel(path)
            return lambda x: torch.from_numpy(model.logits(x.numpy()))

        return load

    def finish(self, path: Path) -> None:
        """Write the metadata to a JSON file beside it, for programs that cannot read the metadata of ONNX."""
        from specenhance.deploy.runtime import OnnxModel

        write_text(labels_path(path), json.dumps(OnnxModel(path).metadata, indent=1, ensure_ascii=False) + "\n")


def labels_path(model: str | os.PathLike[str]) -> Path:
    """Return the path of the JSON file beside an ONNX file. Each ONNX file in a folder has a JSON file of its own.

    Args:
        model: the ONNX file.

    >>> labels_path("model-int8.onnx").name
    'model-int8.labels.json'
    """
    return Path(model).with_suffix(".labels.json")


def _name_axes(path: Path, axes: dict[str, str]) -> None:
    """Replace the exporter's symbols for the sizes of inputs and outputs by names."""
    import onnx

    model = onnx.load(path)
    # The exporter's sizes of inner values may be right only for the example (a size of 1). onnxruntime would rely on them.
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param in axes:
                size.dim_param = axes[size.dim_param]
    onnx.save(model, path)


def sign(path: Path, about: Mapping[str, Any]) -> None:
    """Write metadata and a checksum into an ONNX file, and check it. Paths of this machine's code are removed.

    Args:
        path: the file. It is overwritten.
        about: the metadata, by the keys of :data:`specenhance.deploy.metadata.SCHEMA`.

    >>> import onnx, tempfile
    >>> graph = '<ir_version: 8, opset_import: ["": 18]> g (float[N] x) => (float[N] y) {y = Add(x, x)}'
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "double.onnx"
    ...     onnx.save(onnx.parser.parse_model(graph), path)
    ...     sign(path, {"input": "waveform"})
    ...     [entry.key for entry in onnx.load(path).metadata_props]
    ['input', 'sha256']
    """
    import onnx

    from specenhance.deploy.int8_candidates import SCOPES

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in {**about, KEY: BLANK}.items()})
    for node in model.graph.node:
        scopes = [entry for entry in node.metadata_props if entry.key == SCOPES]
        del node.metadata_props[:]
        node.metadata_props.extend(scopes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    seal(path)
