"""Export a model to one file for other machines: ONNX, PyTorch's own pt2, or a package compiled ahead of time."""

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
from specenhance._files import atomic_folder, atomic_path, check_output
from specenhance._registry import name_of
from specenhance._version import __version__
from specenhance.deploy.formats.registry import Format, Run, create_format
from specenhance.deploy.metadata import INPUTS
from specenhance.deploy.program import SpectrogramModel, WaveformModel, examples, fitted, reason, record, record_fixed
from specenhance.deploy.web.page import check_place
from specenhance.features.base import MelFeatures
from specenhance.models.adapter import FrontendModel

if TYPE_CHECKING:
    from specenhance.deploy.fixed_mask import MaskClips
    from specenhance.deploy.int8 import Clips

__all__ = ["INPUTS", "default_name", "export"]

TOLERANCE = 1e-4  # maximum difference of the logits, relative to the largest logit, or to 1 if that is smaller
# Some models round more than that. A file may differ this many times as much as PyTorch's float32 differs from float64.
ROUNDING = 10

_log = logging.getLogger(__name__)


def export(
    model: FrontendModel,
    path: str | os.PathLike[str],
    *,
    format: str = "onnx",
    input: Input = "waveform",
    int8: Clips | None = None,
    fixed_mask: MaskClips | None = None,
    clip_seconds: float | None = None,
) -> Path:
    """Write a model to one file. The file is kept only if its logits are those of PyTorch, apart from rounding.

    The batch size of the file is dynamic. The number of samples of a waveform is dynamic too. The number of frames of a
    spectrogram is dynamic if the backbone allows it. A tflite or pte file takes one clip of ``clip_seconds``.

    The file has metadata under the keys of :data:`specenhance.deploy.metadata.SCHEMA`. ONNX has them in ``metadata_props``, pt2
    in the extra file ``specenhance.json``, and aoti in ``get_metadata()``. An ONNX file also holds a checksum of itself. The
    same metadata are written to a JSON file beside it, for programs that cannot read the metadata of ONNX. For tflite and pte
    that JSON file is the only place.

    Args:
        model: maps waveforms to logits, with features of specenhance. It knows its classes (``model.classes``).
        path: the file to write, with the suffix of the format. Its folder exists. For ``"web"`` a folder, in which only an
            older page is replaced.
        format: one of :func:`specenhance.deploy.formats.registry.list_formats`: ``"onnx"``, ``"pt2"`` (read by
            ``torch.export.load``), ``"tflite"`` (read by LiteRT), ``"pte"`` (read by ExecuTorch), ``"web"`` (a page for
            browsers) or ``"aoti"`` (read by ``torch._inductor.aoti_load_package``). An aoti file is compiled for the processor
            that writes it.
        input: input of the file: ``"waveform"`` ``(B, samples)``, or a normalised ``"spectrogram"`` ``(B, 1, T, F)``.
        int8: clips that are needed to convert the backbone to 8-bit integers, see
            :func:`specenhance.deploy.int8_candidates.quantise`. Only for ONNX from waveforms. None keeps float32.
        fixed_mask: clips on which the front end's mask is shown to be the same for every clip. The file then has that mask as a
            constant, see :func:`specenhance.deploy.fixed_mask.fix_mask`. None keeps the mask as it is.
        clip_seconds: usual length of the training clips, in seconds, for programs that cut a stream into windows. It is the
            length that a tflite or pte file takes.

    Returns:
        The path of the file.

    Raises:
        ValueError: for an unknown format or input, a path with another suffix, a model without classes or without such
            features, a backbone that cannot be exported, a mask that depends on the clip (for ``fixed_mask``), a file whose
            logits differ from PyTorch's, or an INT8 file that loses more accuracy than ``int8.max_loss``.
        OSError: if no file can be written there.
        ImportError: if packages for the format are missing. The message names them.

    Example (it takes a few seconds, so it does not run as a test)::

        backbone = timm.create_model("tf_efficientnetv2_b0", in_chans=1, num_classes=2)
        model = with_frontend(backbone, "tfe2", features=KaldiFbank(frames=96))
        model.classes = ["no", "yes"]
        export(model, "model.onnx")
    """
    writer = check(format, input, int8=int8 is not None)
    path = Path(path)
    is_page = _is_page(writer)
    if is_page:
        path = Path(os.path.abspath(path))  # "." has no name
        check_place(path)
    else:
        name = default_name(format, input=input, int8=int8 is not None)
        if path.suffix != Path(name).suffix:
            raise ValueError(
                f"out = {str(path)!r}: expected a file's name that ends in {Path(name).suffix}, such as {name}"
            )
        check_output(path)
    if int8 is not None and model.thresholds:
        raise ValueError(
            "int8 with a multi-label model: its conversion is chosen and judged by accuracy, which such a model does not have; "
            "export it in float32, without --int8"
        )
    model = model.eval()
    about = _about(model, input, clip_seconds)
    if fixed_mask is not None:
        from specenhance.deploy.fixed_mask import fix_mask

        model, about["fixed_mask"] = fix_mask(model, fixed_mask)
    module = (WaveformModel(model, shows=is_page) if input == "waveform" else SpectrogramModel(model)).eval()
    clips = examples(model, input)
    if getattr(writer, "fixed", False):
        if clip_seconds is not None and input == "waveform":
            about["samples"] = min(max(round(clip_seconds * about["sample_rate"]), 1), about["samples"])
        clips = [fitted(x, about["samples"]) for x in clips]
        program = record_fixed(module, clips[0])
        sizes = tuple(map(str, clips[0].shape))
    else:
        program, sizes = record(module, clips[0])
        clips = examples(model, input, frames="frames" in sizes)
    _log.info(f"{input} ({', '.join(sizes)}) to logits ({sizes[0]}, {len(about['classes'])})")
    with (atomic_folder if is_page else atomic_path)(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch and onnxruntime warn about their own code
        load = _written(format, writer, program, temporary, about)
        worst = _compare(load(), module, clips, path)
        _log.info(f"gives what PyTorch gives, to {worst:.1e}")
        if int8 is not None:
            from specenhance.deploy.int8 import to_int8

            to_int8(temporary, path, int8, about | {"int8": True})
    writer.finish(path)
    size = sum(file.stat().st_size for file in (path.iterdir() if is_page else [path]))
    _log.info(f"{path}: {size / 1e6:.1f} MB")
    return path


def default_name(format: str, *, input: Input = "waveform", int8: bool = False) -> str:
    """Return the name of a format's file in a run folder.

    Args:
        format: one of :func:`specenhance.deploy.formats.registry.list_formats`. It is ignored if ``int8`` is true.
        input: input of the file, ``"waveform"`` or ``"spectrogram"``.
        int8: whether the file is in 8-bit integers.

    Raises:
        ValueError: for an unknown format.

    >>> default_name("pt2", input="spectrogram")
    'model-spectrogram.pt2'
    >>> default_name("onnx", int8=True)
    'model-int8.onnx'
    """
    if int8:
        return "model-int8.onnx"
    name = create_format(format).file
    return name if input == "waveform" else name.replace("model", f"model-{input}", 1)


def check(format: str, input: Input, *, int8: bool) -> Format:
    """Check that an export is possible, before any work. Return the format.

    Args:
        format: one of :func:`specenhance.deploy.formats.registry.list_formats`.
        input: input of the file, ``"waveform"`` or ``"spectrogram"``.
        int8: whether the file is in 8-bit integers.

    Raises:
        ValueError: for an unknown format or input, for INT8 with another format than ONNX or another input than waveforms, and
            for a page with another input than waveforms.
        ImportError: if packages for the format are missing.

    >>> check("pt2", "waveform", int8=False).file
    'model.pt2'
    >>> check("pt2", "waveform", int8=True)
    Traceback (most recent call last):
    ValueError: int8 with format = 'pt2' and input = 'waveform': expected 'onnx' and 'waveform'
    """
    writer = create_format(format)
    require("input", input, Input)
    if int8 and (format, input) != ("onnx", "waveform"):
        raise ValueError(f"int8 with format = {format!r} and input = {input!r}: expected 'onnx' and 'waveform'")
    if _is_page(writer) and input != "waveform":
        raise ValueError(f"format = {format!r} with input = {input!r}: a page hears sound; expected 'waveform'")
    writer.require()
    return writer


def _is_page(writer: Format) -> bool:
    return getattr(writer, "is_page", False)


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
        "thresholds": model.thresholds,
        "sample_rate": features.sample_rate,
        "samples": features.samples,
        "clip_seconds": clip_seconds,
        "frames": features.frames,
        "bins": len(features.frequencies),
        "hop_seconds": features.hop_seconds,
        "features": name_of(features),
        "mean": features.mean,
        "std": features.std,
        "normalisation": "(x - mean) / (2 * std)",
        "frontend": name_of(model.frontend),
        "fixed_mask": None,
        "backbone": backbone.get("architecture") or type(model.backbone).__name__,
        "int8": False,
    }


def _written(
    name: str, writer: Format, program: torch.export.ExportedProgram, path: Path, about: Mapping[str, Any]
) -> Callable[[], Run]:
    """Write a file in a format. Return a function that loads it."""
    try:
        return writer.write(program, path, about)
    except OSError:  # such as a full disk
        raise
    except Exception as error:  # the writers' errors have no common base
        raise ValueError(f"{name} cannot be written ({reason(error)}); {writer.cure}") from error


@torch.no_grad()
def _compare(
    written: Callable[[Tensor], Tensor], module: WaveformModel | SpectrogramModel, examples: list[Tensor], path: Path
) -> float:
    """Return the maximum difference between the logits of the file and those of PyTorch, relative to the largest logit."""
    model: FrontendModel = module.model
    # The reference uses the features of training, because the exported ones are written in another way.
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
    """Return a model's logits in float64, with the features of training."""
    model: FrontendModel = copy.deepcopy(module.model).double()
    return (model if isinstance(module, WaveformModel) else model.classify)(x.double())
