"""ONNX files, with metadata and a checksum, and beside each what it says of itself as JSON."""

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
from specenhance.deploy.program import axes

__all__ = ["OPSET", "Onnx", "labels_path", "sign"]

OPSET = 18
"""Version of the ONNX operators: the oldest that PyTorch's exporter writes without converting."""


@register_format("onnx")
class Onnx:
    """A file for onnxruntime."""

    file = "model.onnx"
    cure = "choose another backbone or format"

    def require(self) -> None:
        """Raise ImportError where a package is missing."""
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise missing(error, "ONNX needs more packages", "onnx", "onnxruntime", "onnxscript") from error

    def write(self, program: torch.export.ExportedProgram, path: Path, about: Mapping[str, Any]) -> Callable[[], Run]:
        """Write a program; see :class:`specenhance.deploy.formats.registry.Format`."""
        (name,) = program.graph_signature.user_inputs
        with torch.no_grad():
            made = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=[str(name)],
                output_names=["logits"],
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
        """Write the metadata beside the file, for readers that cannot see a graph's."""
        from specenhance.deploy.runtime import OnnxModel

        write_text(labels_path(path), json.dumps(OnnxModel(path).metadata, indent=1, ensure_ascii=False) + "\n")


def labels_path(model: str | os.PathLike[str]) -> Path:
    """Name the JSON file beside an ONNX file: ``model.labels.json`` beside ``model.onnx``, so that each model has its own.

    >>> labels_path("model-int8.onnx").name
    'model-int8.labels.json'
    """
    return Path(model).with_suffix(".labels.json")


def _name_axes(path: Path, axes: dict[str, str]) -> None:
    """Give the sizes of an ONNX file's input and outputs their names, in place of the exporter's symbols."""
    import onnx

    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param in axes:
                size.dim_param = axes[size.dim_param]
    onnx.save(model, path)


def sign(path: Path, about: Mapping[str, Any]) -> None:
    """Write what a model is into its ONNX file, take out where its code lay on this machine, check it and seal it."""
    import onnx

    from specenhance.deploy.quantise import SCOPES

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in {**about, KEY: BLANK}.items()})
    for node in model.graph.node:
        scopes = [entry for entry in node.metadata_props if entry.key == SCOPES]
        del node.metadata_props[:]
        node.metadata_props.extend(scopes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    seal(path)
