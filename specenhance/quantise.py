"""INT8: several ways to quantise an ONNX file's backbone, and the one that costs least on clips that calibrate nothing."""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, create_calibrator
from onnxruntime.quantization.shape_inference import quant_pre_process

__all__ = ["SCOPES", "Judged", "choose", "interval", "judge", "latencies", "quantise"]

SCOPES = "pkg.torch.onnx.name_scopes"
"""The key of a node's metadata that names the modules it comes from."""

RANGES: dict[str, tuple[CalibrationMethod, dict[str, Any]]] = {
    "min-max": (CalibrationMethod.MinMax, {}),
    "percentile 99.999": (CalibrationMethod.Percentile, {"percentile": 99.999}),
    "percentile 99.99": (CalibrationMethod.Percentile, {"percentile": 99.99}),
    "entropy": (CalibrationMethod.Entropy, {}),
}
"""Ways to find the range of what flows through an operator."""

OPERATORS = ["Conv", "Gemm", "MatMul"]
AT_ONCE = 8  # clips whose intermediate results are held together

Clip = tuple[np.ndarray, int]  # waveform (samples,), label


class Judged(NamedTuple):
    """A model on a set of clips.

    Attributes:
        right: whether each clip is taken for what it is ``(clips,)``.
        divergence: mean Kullback-Leibler divergence of its probabilities from those of the first model, nats.
    """

    right: np.ndarray
    divergence: float

    @property
    def accuracy(self) -> float:
        """The part of the clips that is right, in [0, 1]."""
        return float(self.right.mean())


def quantise(
    path: Path,
    folder: Path,
    calibration: Callable[[], Iterable[np.ndarray]],
    choosing: Iterable[Clip],
    say: Callable[[str], None],
) -> Path:
    """Quantise a file's backbone in several ways; give the file of the one that :func:`choose` chooses.

    Args:
        path: the ONNX file, in float32, with the scopes of its nodes.
        folder: for the candidates, empty.
        calibration: gives the waveforms ``(samples,)`` by which ranges are measured, the loudest first, at each call anew.
        choosing: clips that calibrate nothing.
        say: called with a line for each candidate.
    """
    prepared = folder / "prepared.onnx"
    quant_pre_process(path, prepared)
    outside, floats = _operators(path, prepared)
    ranges = {name: _ranges(prepared, name, calibration(), folder) for name in RANGES}
    files = {"float32": path}
    for left, names in floats.items():
        for method, found in ranges.items():
            files[method + left] = folder / f"{len(files)}.onnx"
            quantizer = QDQQuantizer(
                onnx.load(prepared),
                per_channel=True,
                reduce_range=False,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QUInt8,
                tensors_range=found,
                nodes_to_quantize=[],
                nodes_to_exclude=outside + names,
                op_types_to_quantize=OPERATORS,
                extra_options={},
            )
            quantizer.quantize_model()
            quantizer.model.save_model_to_file(str(files[method + left]))
    judged = judge(files, choosing)
    float32 = judged.pop("float32")
    for name, result in judged.items():
        say(f"  {name}: {result.accuracy:.2%}, divergence {result.divergence:.4f}")
    best = choose(float32, judged)
    say(f"taken: {best} (float32: {float32.accuracy:.2%} of these {len(float32.right)} clips)")
    return files[best]


def choose(float32: Judged, candidates: dict[str, Judged]) -> str:
    """Name the candidate that loses least accuracy against float32, a gain counting as no loss.

    Among equals the least divergence decides: with few clips most are equals, and it sees what an accuracy in steps of a whole
    clip does not.
    """
    return min(
        candidates,
        key=lambda name: (max(float32.accuracy - candidates[name].accuracy, 0.0), candidates[name].divergence),
    )


def _operators(path: Path, prepared: Path) -> tuple[list[str], dict[str, list[str]]]:
    """List the operators outside the backbone, and by name the sets of those inside that may stay in float32."""
    inside = {
        node.name
        for node in onnx.load(path).graph.node
        if any(entry.key == SCOPES and "backbone" in entry.value for entry in node.metadata_props)
    }
    outside: list[onnx.NodeProto] = []
    mine: list[onnx.NodeProto] = []
    for node in onnx.load(prepared).graph.node:
        if node.op_type in OPERATORS:
            # Preparing loses the scopes, and lengthens the names of operators that it joins.
            (mine if node.name.split("/MatMulAddFusion")[0] in inside else outside).append(node)
    depthwise = [node.name for node in mine if any(entry.name == "group" and entry.i > 1 for entry in node.attribute)]
    floats = {"": [], ", depthwise in float32": depthwise} if depthwise else {"": []}
    first = [node.name for node in mine[:1]]
    end = ", depthwise and first in float32" if depthwise else ", first in float32"
    return [node.name for node in outside], floats | {end: [*depthwise, *first]}


def _ranges(prepared: Path, name: str, clips: Iterable[np.ndarray], folder: Path) -> Any:
    """Measure ranges in bounded memory: a few clips at a time, which the calibrators merge."""
    method, settings = RANGES[name]
    augmented = str(folder / "augmented.onnx")
    with contextlib.redirect_stdout(io.StringIO()):  # the calibrators print
        calibrator = create_calibrator(prepared, OPERATORS, augmented, method, extra_options=settings)
        rest = iter(clips)
        while group := list(islice(rest, AT_ONCE)):
            calibrator.collect_data(_Reader(group))
        return calibrator.compute_data()


class _Reader:
    """A few clips as onnxruntime's calibrators read them."""

    def __init__(self, clips: Sequence[np.ndarray]) -> None:
        self.clips = iter(clips)

    def get_next(self) -> dict[str, np.ndarray] | None:
        clip = next(self.clips, None)
        return None if clip is None else {"waveform": clip[None]}


def judge(files: dict[str, Path], clips: Iterable[Clip]) -> dict[str, Judged]:
    """Classify each clip by each file, the first of which the others are compared with; clips are read once."""
    sessions = {name: session(path) for name, path in files.items()}
    right: dict[str, list[bool]] = {name: [] for name in files}
    divergence = dict.fromkeys(files, 0.0)
    for waveform, label in clips:
        reference: np.ndarray | None = None
        for name, model in sessions.items():
            logarithms = _log_softmax(model.run(None, {"waveform": waveform[None]})[0][0].astype(np.float64))
            reference = logarithms if reference is None else reference
            right[name].append(int(logarithms.argmax()) == label)
            divergence[name] += float((np.exp(reference) * (reference - logarithms)).sum())
    return {name: Judged(np.array(right[name]), divergence[name] / len(right[name])) for name in files}


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def session(path: Path) -> onnxruntime.InferenceSession:
    """Open an ONNX file for one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def interval(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Give 95% limits of the accuracy that is lost from one model to another, both judged on the same clips.

    Args:
        before: whether the first is right on each clip ``(clips,)``.
        after: whether the second is.

    Returns:
        The limits of the loss, in [-1, 1]; a gain is negative.

    Source: Agresti and Min, "Simple improved confidence intervals for comparing matched proportions", Statistics in Medicine 24
    (2005): Wald's interval after half a clip is added to each cell of the 2 x 2 table.
    """
    lost, gained = float((before & ~after).sum()) + 0.5, float((~before & after).sum()) + 0.5
    clips = len(before) + 2
    loss = (lost - gained) / clips
    error = math.sqrt(lost + gained - (lost - gained) ** 2 / clips) / clips
    return max(loss - 1.96 * error, -1.0), min(loss + 1.96 * error, 1.0)


def latencies(files: Sequence[Path], samples: int, runs: int = 50, seconds: float = 10.0) -> list[float]:
    """Time files on one clip of so many samples, one thread, in turns: the median of each, in seconds.

    There are ``runs`` turns, fewer (but three) once ``seconds`` are over.
    """
    clip = {"waveform": (0.1 * np.random.default_rng(0).standard_normal((1, samples))).astype(np.float32)}
    sessions = [session(path) for path in files]
    times = [list[float]() for _ in files]
    for turn in _turns(runs + 3, seconds):
        for model, own in zip(sessions, times, strict=True):
            began = time.perf_counter()
            model.run(None, clip)
            if turn >= 3:  # the first ones warm up
                own.append(time.perf_counter() - began)
    return [float(np.median(own)) for own in times]


def _turns(most: int, seconds: float) -> Iterator[int]:
    end = time.perf_counter() + seconds
    for turn in range(most):
        if turn >= 6 and time.perf_counter() > end:
            return
        yield turn
