"""A model as one file for other machines: ONNX, PyTorch's own pt2, or a package compiled ahead of time."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from specenhance._choices import Input, require
from specenhance._files import atomic_path, check_output
from specenhance._version import __version__
from specenhance.deploy.formats.registry import Format, Run, create_format
from specenhance.deploy.metadata import INPUTS
from specenhance.deploy.program import SpectrogramModel, WaveformModel, examples, reason, record
from specenhance.features.base import MelFeatures
from specenhance.models.adapter import FrontendModel

if TYPE_CHECKING:
    from specenhance.deploy.int8 import Clips

__all__ = ["INPUTS", "default_name", "export"]

TOLERANCE = 1e-4  # of the largest logit, or of 1
# Times the rounding of training: a file may be so far from PyTorch where float32 is that far from float64.
ROUNDING = 10

_log = logging.getLogger(__name__)


def export(
    model: FrontendModel,
    path: str | os.PathLike[str],
    *,
    format: str = "onnx",
    input: Input = "waveform",
    int8: Clips | None = None,
    clip_seconds: float | None = None,
) -> Path:
    """Write a model as one file, after it was found to give what PyTorch gives.

    The batch is dynamic. So is the number of samples of a waveform; of a spectrogram, the frames are where the backbone
    allows it. The file says what it is, under the keys :data:`specenhance.deploy.metadata.SCHEMA` (ONNX: ``metadata_props``;
    pt2: the extra file ``specenhance.json``; aoti: ``get_metadata()``). ONNX also holds a checksum of itself, and gets a JSON
    file beside it with all that it says of itself, for readers that cannot see its metadata.

    Args:
        model: from waveforms to logits, with one of specenhance's features, and its classes (``model.classes``).
        path: the file, with the format's suffix, in a folder that is there.
        format: one of :func:`specenhance.deploy.formats.registry.list_formats`: ``"onnx"``, ``"pt2"``
            (``torch.export.load``) or ``"aoti"`` (``torch._inductor.aoti_load_package``), which is compiled for the processor
            it is made on.
        input: ``"waveform"`` ``(B, samples)``, or ``"spectrogram"`` ``(B, 1, T, F)``, normalised.
        int8: for ONNX from waveforms: the clips by which the backbone's convolutions and matrix products are brought to 8-bit
            integers, by :func:`specenhance.deploy.quantise.quantise`.
        clip_seconds: the usual length of the clips that it was trained on, for readers that cut a stream into windows.

    Raises:
        ValueError: for an unknown format or input, a path of another suffix, a model without classes or without such
            features, a backbone that cannot be exported, a file that gives something else than PyTorch, or one in INT8 that
            loses more than ``int8.max_loss``.
        OSError: where no file can be made.
        ImportError: where packages for the format are missing; the message says which.
    """
    writer = check(format, input, int8=int8 is not None)
    path = Path(path)
    name = default_name(format, input=input, int8=int8 is not None)
    if path.suffix != Path(name).suffix:
        raise ValueError(
            f"out = {str(path)!r}: expected a file's name that ends in {Path(name).suffix}, such as {name}"
        )
    check_output(path)
    model = model.eval()
    about = _about(model, input, clip_seconds)
    module = (WaveformModel(model) if input == "waveform" else SpectrogramModel(model)).eval()
    program, sizes = record(module, examples(model, input)[0])
    _log.info(f"{input} ({', '.join(sizes)}) to logits (batch, {len(about['classes'])})")
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's and onnxruntime's, of their own insides
        load = _written(format, writer, program, temporary, about)
        worst = _compare(load(), module, examples(model, input, frames="frames" in sizes), path)
        _log.info(f"gives what PyTorch gives, to {worst:.1e}")
        if int8 is not None:
            from specenhance.deploy.int8 import to_int8

            to_int8(temporary, path, int8, about | {"int8": True})
    writer.finish(path)
    _log.info(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return path


def default_name(format: str, *, input: Input = "waveform", int8: bool = False) -> str:
    """Name the file of a format in a run folder.

    >>> default_name("onnx", int8=True)
    'model-int8.onnx'
    """
    if int8:
        return "model-int8.onnx"
    name = create_format(format).file
    return name if input == "waveform" else name.replace("model", f"model-{input}", 1)


def check(format: str, input: Input, *, int8: bool) -> Format:
    """Refuse what cannot be exported, before any work; give the format.

    Raises:
        ValueError: for an unknown format or input, and for INT8 with another format than ONNX or another input than waveforms.
        ImportError: where packages for the format are missing.
    """
    writer = create_format(format)
    require("input", input, Input)
    if int8 and (format, input) != ("onnx", "waveform"):
        raise ValueError(f"int8 with format = {format!r} and input = {input!r}: expected 'onnx' and 'waveform'")
    writer.require()
    return writer


def _about(model: FrontendModel, input: Input, clip_seconds: float | None) -> dict[str, Any]:
    features = model.features
    if not isinstance(features, MelFeatures) or features.frames is None:
        raise ValueError(
            f"features {type(features).__name__}: only those of specenhance with a number of frames can be exported; make the "
            "model with features=KaldiFbank(frames=...), say"
        )
    if model.classes is None:
        raise ValueError("the model does not know its classes; give their names, model.classes = [...]")
    backbone = getattr(model.backbone, "pretrained_cfg", None) or {}
    return {
        "specenhance": __version__,
        "input": input,
        "classes": model.classes,
        "sample_rate": features.sample_rate,
        "samples": features.samples,
        "clip_seconds": clip_seconds,
        "frames": features.frames,
        "bins": len(features.frequencies),
        "hop_seconds": features.hop_seconds,
        "features": _name_of(features),
        "mean": features.mean,
        "std": features.std,
        "normalisation": "(x - mean) / (2 * std)",
        "frontend": _name_of(model.frontend),
        "backbone": backbone.get("architecture") or type(model.backbone).__name__,
        "int8": False,
    }


def _name_of(part: Any) -> str:
    return getattr(part, "made_with", {}).get("name", type(part).__name__)


def _written(
    name: str, writer: Format, program: torch.export.ExportedProgram, path: Path, about: Mapping[str, Any]
) -> Callable[[], Run]:
    """Write a file of a format; give what loads it."""
    try:
        return writer.write(program, path, about)
    except OSError:  # of the disk
        raise
    except Exception as error:  # the writers' errors have no common base
        raise ValueError(f"{name} cannot be written ({reason(error)}); {writer.cure}") from error


@torch.no_grad()
def _compare(
    written: Callable[[Tensor], Tensor], module: WaveformModel | SpectrogramModel, examples: list[Tensor], path: Path
) -> float:
    """Give the largest difference between the file's logits and those of training, as a part of the largest logit."""
    model: FrontendModel = module.model
    # The features as they were in training, not the form that is exported.
    train = model if isinstance(module, WaveformModel) else model.classify
    worst = 0.0
    for x in examples:
        expected = train(x)
        try:
            got = written(x)
        except Exception as error:  # onnxruntime's have no common base
            raise ValueError(
                f"{path}: not written, it cannot compute {tuple(x.shape)} ({reason(error)}); choose another backbone or format"
            ) from error
        if got.shape != expected.shape:
            shapes = f"{tuple(got.shape)} for {tuple(x.shape)}, and PyTorch {tuple(expected.shape)}"
            raise ValueError(f"{path}: not written, it would give {shapes}; choose another backbone or format")
        difference = _difference(got, expected)
        if not (difference <= TOLERANCE or difference <= ROUNDING * _difference(expected, _exact(module, x))):
            raise ValueError(
                f"{path}: not written, its logits for {tuple(x.shape)} differ from PyTorch's by {difference:.1e} of the "
                f"largest, more than {TOLERANCE} and more than rounding explains; choose another backbone or format"
            )
        worst = max(worst, difference)
    return worst


def _difference(logits: Tensor, expected: Tensor) -> float:
    return ((logits - expected).abs().max() / expected.abs().max().clamp(min=1)).item()


def _exact(module: WaveformModel | SpectrogramModel, x: Tensor) -> Tensor:
    """Give a model's logits in float64, as training's features have them."""
    model: FrontendModel = copy.deepcopy(module.model).double()
    return (model if isinstance(module, WaveformModel) else model.classify)(x.double())
