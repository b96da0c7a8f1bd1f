"""A run's model as one file for other machines: ONNX, PyTorch's own pt2, or a package compiled ahead of time."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from specenhance._checksum import BLANK, KEY, seal
from specenhance._choices import Format, Input, require
from specenhance._files import atomic_path, check_output, write_text
from specenhance._missing import missing
from specenhance._version import __version__
from specenhance.data import AudioDataset
from specenhance.data.layout import SPLITS
from specenhance.deploy.metadata import INPUTS
from specenhance.models.adapter import FrontendModel
from specenhance.training.build import open_split
from specenhance.training.recipe import Recipe
from specenhance.training.store import load_stored

__all__ = ["FORMATS", "INPUTS", "OPSET", "accuracy", "export", "labels_path"]

FORMATS: dict[Format, str] = {"onnx": "model.onnx", "pt2": "model.pt2", "aoti": "model-aoti.pt2"}
"""Each format, and the name of the file in a run folder."""
OPSET = 18
"""The ONNX operators' version: the oldest that PyTorch's exporter writes without converting."""

TOLERANCE = 1e-4  # of the largest logit, or of 1
ROUNDING = (
    10  # times the rounding of training: a file may be so far from PyTorch where float32 is that far from float64
)

MOST_CHOOSING = 1000  # clips by which INT8's candidates are judged

_log = logging.getLogger(__name__)


class WaveformModel(nn.Module):
    """A model with features that take any number of samples, a fixed number of frames being made of them."""

    def __init__(self, model: FrontendModel) -> None:
        super().__init__()
        self.model = model
        features = model.features
        self.samples = features.window_length + (features.frames - 1) * features.hop_length

    def forward(self, waveform: Tensor) -> Tensor:
        """Map waveforms ``(B, samples)`` to logits ``(B, classes)``."""
        features = self.model.features
        wave = waveform
        if features.zero_mean:
            wave = wave - wave.mean(dim=-1, keepdim=True)
        spec = features._normalised_log_mel(nn.functional.pad(wave, (0, self.samples))[:, : self.samples])
        ends = features.window_length + features.hop_length * torch.arange(features.frames)
        padding = (0 - features.mean) / (2 * features.std)
        spec = torch.where((ends <= waveform.shape[1])[:, None], spec, padding)
        return self.model.classify(spec.unsqueeze(1))


class SpectrogramModel(nn.Module):
    """A model without its features."""

    def __init__(self, model: FrontendModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Map spectrograms ``(B, 1, T, F)``, normalised, to logits ``(B, classes)``."""
        return self.model.classify(spectrogram)


def export(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    format: Format = "onnx",
    input: Input = "waveform",
    int8: bool = False,
    calibration: int = 300,
    max_loss: float = 1.0,
    force: bool = False,
    root: Path | None = None,
    csv: Path | None = None,
) -> Path:
    """Write the model of a finished run as one file, after it was found to give what PyTorch gives.

    The batch is dynamic. So is the number of samples of a waveform; of a spectrogram, the frames are where the backbone
    allows it. The file says what it is, under the keys :data:`specenhance.deploy.metadata.SCHEMA` (ONNX: ``metadata_props``;
    pt2: the extra file ``specenhance.json``; aoti: ``get_metadata()``). ONNX also holds a checksum of itself, and gets a JSON
    file beside it with all that it says of itself, for readers that cannot see its metadata: :func:`labels_path`.

    Args:
        run: the run folder.
        out: the file, ``.onnx`` or ``.pt2``, in a folder that is there; in the run folder if left out.
        format: ``"onnx"``, ``"pt2"`` (``torch.export.load``) or ``"aoti"`` (``torch._inductor.aoti_load_package``), which is
            compiled for the processor it is made on.
        input: ``"waveform"`` ``(B, samples)``, or ``"spectrogram"`` ``(B, 1, T, F)``, normalised.
        int8: for ONNX from waveforms: the backbone's convolutions and matrix products in 8-bit integers, quantised by
            :func:`specenhance.deploy.quantise.quantise`.
        calibration: training clips by which the range of what flows through them is measured.
        max_loss: of accuracy on the test clips, in points, that ``int8`` may cost.
        force: write the file whatever it costs.
        root: the data set's folder, for ``int8``, if it has moved.
        csv: the data set's table, for ``int8``, if it has moved.

    Raises:
        FileNotFoundError, ValueError: as :func:`specenhance.training.store.load_stored` does; ValueError for an unknown
            format or input, a backbone that cannot be exported, a file that gives something else than PyTorch, or one in
            INT8 that loses more than ``max_loss``.
        OSError: where no file can be made.
        ImportError: for ONNX, where packages are missing; the message says which.
    """
    _check(format, input, int8, max_loss)
    model, classes, recipe = load_stored(run)
    name = "model-int8.onnx" if int8 else FORMATS[format]
    path = Path(run) / name if out is None else Path(out)
    if path.suffix != Path(name).suffix:
        raise ValueError(
            f"out = {str(path)!r}: expected a file's name that ends in {Path(name).suffix}, such as {name}"
        )
    check_output(path)
    clips = _clips_of(recipe.moved_to(root, csv), classes, calibration) if int8 else None
    module = (WaveformModel(model) if input == "waveform" else SpectrogramModel(model)).eval()
    about = _about(model, classes, recipe, input)
    program, sizes = _program(module, _examples(model, input)[0])
    _log.info(f"{input} ({', '.join(sizes)}) to logits (batch, {len(classes)})")
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's and onnxruntime's, of their own insides
        load = _write(format, program, temporary, about)
        worst = _compare(load(), module, _examples(model, input, frames="frames" in sizes), path)
        _log.info(f"gives what PyTorch gives, to {worst:.1e}")
        if clips is not None:
            allowed = None if force else max_loss
            _to_int8(temporary, path, clips, about | {"int8": True}, allowed)
    if format == "onnx":
        from specenhance.deploy.runtime import OnnxModel

        write_text(labels_path(path), json.dumps(OnnxModel(path).metadata, indent=1, ensure_ascii=False) + "\n")
    _log.info(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return path


def labels_path(model: str | os.PathLike[str]) -> Path:
    """Name the JSON file beside an ONNX file: ``model.labels.json`` beside ``model.onnx``, so that each model has its own."""
    return Path(model).with_suffix(".labels.json")


def accuracy(path: str | os.PathLike[str], data: AudioDataset) -> float:
    """Give the part of the clips, in [0, 1], that an ONNX file takes for what they are, each clip as long as it is."""
    from specenhance.deploy.runtime import OnnxModel

    model = OnnxModel(path)
    clips = _read(data, range(len(data)))
    return sum(int(model.probabilities(waveform).argmax()) == label for waveform, label in clips) / len(data)


def _read(data: AudioDataset, numbers: Iterable[int]) -> Iterator[tuple[np.ndarray, int]]:
    for i in numbers:
        waveform, label = data[int(i)]
        yield waveform.numpy(), label


class _Clips(NamedTuple):
    """The clips that INT8 needs: a data set and the numbers of its clips, each."""

    calibration: tuple[AudioDataset, list[int]]
    choosing: tuple[AudioDataset, list[int]]
    named: str  # what the choosing clips are
    test: AudioDataset


def _clips_of(recipe: Recipe, classes: list[str], calibration: int) -> _Clips:
    """Choose clips that calibrate, others that choose among candidates, and the test clips, which do neither."""
    train, validation, test = (open_split(recipe, split, classes) for split in SPLITS)
    order = [int(i) for i in np.random.default_rng(0).permutation(len(train))]
    if set(validation.paths) & set(test.paths):  # a data set without validation clips
        if len(order) < 2:
            raise ValueError(f"{recipe.root}: 1 training clip; INT8 needs one that calibrates and another that chooses")
        used = min(calibration, max(1, len(order) * 3 // 4))
        choosing, named = (train, order[used:][:MOST_CHOOSING]), "training clips that calibrate nothing"
        return _Clips((train, order[:used]), choosing, named, test)
    chosen = [int(i) for i in np.random.default_rng(0).permutation(len(validation))[:MOST_CHOOSING]]
    return _Clips((train, order[:calibration]), (validation, chosen), "validation clips", test)


def _check(format: Format, input: Input, int8: bool, max_loss: float) -> None:
    require("format", format, Format)
    require("input", input, Input)
    if int8 and (format, input) != ("onnx", "waveform"):
        raise ValueError(f"int8 with format = {format!r} and input = {input!r}: expected 'onnx' and 'waveform'")
    if not 0 <= max_loss <= 100:
        raise ValueError(f"max_loss = {max_loss}: expected points of accuracy, from 0 to 100")
    if format == "onnx":
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise missing(error, "ONNX needs more packages", "onnx", "onnxruntime", "onnxscript") from error


def _about(model: FrontendModel, classes: list[str], recipe: Recipe, input: Input) -> dict[str, Any]:
    features = model.features
    return {
        "specenhance": __version__,
        "input": input,
        "classes": classes,
        "sample_rate": features.sample_rate,
        "samples": features.window_length + (features.frames - 1) * features.hop_length,
        "clip_seconds": recipe.clip_seconds,
        "frames": features.frames,
        "bins": recipe.bins,
        "hop_seconds": features.hop_seconds,
        "features": recipe.features,
        "mean": features.mean,
        "std": features.std,
        "normalisation": "(x - mean) / (2 * std)",
        "frontend": recipe.frontend,
        "backbone": recipe.backbone,
        "int8": False,
    }


def _examples(model: FrontendModel, input: Input, frames: bool = False) -> list[Tensor]:
    """Make inputs of several sizes: noise at two levels, a chirp, silence; for spectrograms other lengths if asked for."""
    draw = torch.Generator().manual_seed(0)
    features = model.features
    whole = features.window_length + (features.frames - 1) * features.hop_length
    if input == "spectrogram":
        sizes = [(2, features.frames), (1, features.frames), (3, features.frames)]
        sizes += [(2, 2 * features.frames), (1, 3 * features.frames)] if frames else []  # as patches would have it
        return [0.4 * torch.randn(B, 1, T, len(features.frequencies), generator=draw) for B, T in sizes]
    time = torch.arange(whole) / features.sample_rate
    chirp = 0.3 * torch.sin(2 * torch.pi * (100 + 1000 * time) * time)
    noises = [
        level * torch.randn(B, samples, generator=draw)
        for B, samples, level in (
            (2, whole, 0.1),
            (1, whole // 2, 0.01),
            (3, 2 * whole, 0.1),
            (1, features.window_length // 2, 0.1),
        )
    ]
    return [*noises, chirp[None], torch.zeros(1, whole)]


def _program(module: nn.Module, example: Tensor) -> tuple[torch.export.ExportedProgram, tuple[str, ...]]:
    """Trace a model, with the batch and as many other sizes dynamic as it allows; give its input's sizes too."""
    sizes: dict[int, Any] = {0: torch.export.Dim("batch")}
    if example.ndim == 2:
        sizes[1] = torch.export.Dim("samples")
    elif _takes(module, torch.cat([example, example], dim=2)):
        sizes[2] = torch.export.Dim.AUTO  # frames
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, (example,), dynamic_shapes=(sizes,))
    except Exception as error:  # torch.export's errors have no common base
        raise ValueError(f"the model cannot be exported ({_reason(error)}); choose another backbone") from error
    return program, tuple(name for _, name in _axes(program))


def _axes(program: torch.export.ExportedProgram) -> list[tuple[str, str]]:
    """Pair what the program calls each size of its input, a symbol or a number, with a name, or that number."""
    (node,) = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    shape = node.meta["val"].shape
    names = ("batch", "samples") if len(shape) == 2 else ("batch", "1", "frames", "bins")
    return [
        (str(size), name if isinstance(size, torch.SymInt) and size.node.maybe_as_int() is None else str(size))
        for name, size in zip(names, shape, strict=True)
    ]


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


@torch.no_grad()
def _takes(module: nn.Module, x: Tensor) -> bool:
    try:
        module(x)
    except (ValueError, RuntimeError, AssertionError):  # what a backbone of a fixed size raises, ours or not
        return False
    return True


Loader = Callable[[], Callable[[Tensor], Tensor]]


def _write(format: Format, program: torch.export.ExportedProgram, path: Path, about: dict[str, Any]) -> Loader:
    """Write a file of a format; give what loads it."""
    try:
        return WRITERS[format](program, path, about)
    except OSError:  # of the disk
        raise
    except Exception as error:  # nor have the writers' errors a common base
        cure = "install a C++ compiler such as g++" if format == "aoti" else "choose another backbone or format"
        raise ValueError(f"{format} cannot be written ({_reason(error)}); {cure}") from error


def _write_onnx(program: torch.export.ExportedProgram, path: Path, about: dict[str, Any]) -> Loader:
    (name,) = program.graph_signature.user_inputs
    with torch.no_grad():
        made = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, input_names=[str(name)], output_names=["logits"], verbose=False
        )
    assert made is not None
    made.save(path, external_data=False)
    _name_axes(path, dict(_axes(program)))
    _sign(path, about)

    def load() -> Callable[[Tensor], Tensor]:
        from specenhance.deploy.runtime import OnnxModel

        model = OnnxModel(path)
        return lambda x: torch.from_numpy(model.logits(x.numpy()))

    return load


def _name_axes(path: Path, axes: dict[str, str]) -> None:
    """Give the sizes of an ONNX file's input and outputs their names, in place of the exporter's symbols."""
    import onnx

    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param in axes:
                size.dim_param = axes[size.dim_param]
    onnx.save(model, path)


def _sign(path: Path, about: dict[str, Any]) -> None:
    """Write what a model is into its ONNX file, take out where its code lay on this machine, check it and seal it."""
    import onnx

    from specenhance.deploy.quantise import SCOPES

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in (about | {KEY: BLANK}).items()})
    for node in model.graph.node:
        scopes = [entry for entry in node.metadata_props if entry.key == SCOPES]
        del node.metadata_props[:]
        node.metadata_props.extend(scopes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    seal(path)


def _write_pt2(program: torch.export.ExportedProgram, path: Path, about: dict[str, Any]) -> Loader:
    torch.export.save(program, path, extra_files={"specenhance.json": json.dumps(about, indent=1)})
    return lambda: torch.export.load(path).module()


def _write_aoti(program: torch.export.ExportedProgram, path: Path, about: dict[str, Any]) -> Loader:
    texts = {key: json.dumps(value) for key, value in about.items()}
    torch._inductor.aoti_compile_and_package(
        program, package_path=str(path), inductor_configs={"aot_inductor.metadata": texts}
    )
    return lambda: torch._inductor.aoti_load_package(str(path))


WRITERS: dict[Format, Callable[[torch.export.ExportedProgram, Path, dict[str, Any]], Loader]] = {
    "onnx": _write_onnx,
    "pt2": _write_pt2,
    "aoti": _write_aoti,
}


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
        expected, got = train(x), written(x)
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


def _to_int8(path: Path, out: Path, clips: _Clips, about: dict[str, Any], allowed: float | None) -> None:
    """Put the INT8 form of a file in its place, unless that loses more points of accuracy than are allowed."""
    from specenhance.deploy.quantise import interval, judge, latencies, quantise

    train, numbers = clips.calibration
    _log.info(f"INT8, ranges of {len(numbers)} training clips; accuracy on {len(clips.choosing[1])} {clips.named}:")
    with tempfile.TemporaryDirectory() as folder:
        best = quantise(
            path,
            Path(folder),
            lambda: (waveform for waveform, _ in _read(train, numbers)),
            _read(*clips.choosing),
        )
        _sign(best, about)
        tested = judge({"float32": path, "INT8": best}, _read(clips.test, range(len(clips.test))))
        before, after = (result.right for result in tested.values())
        loss, count = 100 * float(before.mean() - after.mean()), len(before)
        low, high = (100 * limit for limit in interval(before, after))
        _log.info(
            f"accuracy on {count} test clips: float32 {before.mean():.2%}, INT8 {after.mean():.2%}, loss {loss:.2f} points "
            f"(95% interval {low:.1f} to {high:.1f}); one clip is {100 / count:.2g} points"
        )
        if allowed is not None and loss > allowed:
            few = " these are too few clips to show so small a loss;" if 100 / count > allowed else ""
            raise ValueError(
                f"{out}: not written, INT8 loses {loss:.2f} points on {count} test clips, more than {allowed:g};{few} "
                f"--max-loss {math.ceil(loss)} or --force takes it, and a larger --calibration may lose less"
            )
        float32, int8 = latencies([path, best], about["samples"])
        _log.info(
            f"one clip, one thread: float32 {1e3 * float32:.2f} ms, INT8 {1e3 * int8:.2f} ms (medians of interleaved runs); "
            f"float32 {path.stat().st_size / 1e6:.1f} MB, INT8 {best.stat().st_size / 1e6:.1f} MB"
        )
        shutil.copyfile(best, path)
