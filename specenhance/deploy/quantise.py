"""INT8: several ways to quantise an ONNX file's backbone, and the one that costs least on clips that calibrate nothing."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorsData
from onnxruntime.quantization.calibrate import HistogramCollector
from onnxruntime.quantization.shape_inference import quant_pre_process

from specenhance.deploy.runtime import open_session

__all__ = ["SCOPES", "Judged", "choose", "interval", "judge", "latencies", "measure_ranges", "quantise"]

SCOPES = "pkg.torch.onnx.name_scopes"
"""The key of a node's metadata that names the modules it comes from."""

BINS, LEVELS = 512, 128  # of a histogram, and what entropy merges them into

RANGES: dict[str, tuple[str, float] | None] = {
    "min-max": None,
    "percentile 99.999": ("percentile", 99.999),
    "percentile 99.99": ("percentile", 99.99),
    "entropy": ("entropy", 0.0),
}
"""Ways to find the range of what flows through an operator: onnxruntime's name of what computes it from a histogram, and the
percentile."""

OPERATORS = ["Conv", "Gemm", "MatMul"]
SMALLEST = 1e-30  # values that are all nearer to 0 have no histogram

_log = logging.getLogger(__name__)

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
) -> Path:
    """Quantise a file's backbone in several ways; give the file of the one that :func:`choose` chooses.

    Args:
        path: the ONNX file, in float32, with the scopes of its nodes.
        folder: for the candidates, empty.
        calibration: gives the waveforms ``(samples,)`` by which ranges are measured, at each call anew.
        choosing: clips that calibrate nothing.
    """
    prepared = folder / "prepared.onnx"
    quant_pre_process(path, prepared)
    inside, outside, floats = _operators(path, prepared)
    ranges = measure_ranges(prepared, inside, calibration)
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
        _log.info(f"  {name}: {result.accuracy:.2%}, divergence {result.divergence:.4f}")
    best = choose(float32, judged)
    _log.info(f"taken: {best} (float32: {float32.accuracy:.2%} of these {len(float32.right)} clips)")
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


def _operators(path: Path, prepared: Path) -> tuple[list[onnx.NodeProto], list[str], dict[str, list[str]]]:
    """Give the backbone's operators, the names of those outside it, and the sets of those inside that may stay in float32."""
    scoped = {
        node.name
        for node in onnx.load(path).graph.node
        if any(entry.key == SCOPES and "backbone" in entry.value for entry in node.metadata_props)
    }
    inside: list[onnx.NodeProto] = []
    outside: list[str] = []
    for node in onnx.load(prepared).graph.node:
        if node.op_type in OPERATORS:
            # Preparing loses the scopes, and lengthens the names of operators that it joins.
            if node.name.split("/MatMulAddFusion")[0] in scoped:
                inside.append(node)
            else:
                outside.append(node.name)
    depthwise = [node.name for node in inside if any(entry.name == "group" and entry.i > 1 for entry in node.attribute)]
    first = [node.name for node in inside[:1]]
    if not depthwise:
        return inside, outside, {"": [], ", first in float32": first}
    floats = {"": [], ", depthwise in float32": depthwise, ", depthwise and first in float32": [*depthwise, *first]}
    return inside, outside, floats


def measure_ranges(
    prepared: Path, operators: Sequence[onnx.NodeProto], clips: Callable[[], Iterable[np.ndarray]]
) -> dict[str, TensorsData]:
    """Measure the range of all that flows into and out of operators, in each way of :data:`RANGES`.

    One clip is held at a time, so that memory does not grow with their number: a first pass finds the extremes, a second one
    fills histograms between them.

    Args:
        prepared: the ONNX file.
        operators: some of its nodes.
        clips: gives waveforms ``(samples,)``, the same at each call.
    """
    model = onnx.load(prepared)
    constants = {constant.name for constant in model.graph.initializer}
    names = sorted({name for node in operators for name in (*node.input, *node.output) if name} - constants)
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    augmented = prepared.with_name("augmented.onnx")
    onnx.save(model, augmented)
    session = open_session(augmented, threads=1)

    def flows() -> Iterator[tuple[str, np.ndarray]]:
        for clip in clips():
            yield from zip(names, session.run(names, {"waveform": clip[None]}), strict=True)

    extremes = dict.fromkeys(names, (np.float32(np.inf), np.float32(-np.inf)))
    for name, values in flows():
        low, high = extremes[name]
        extremes[name] = min(low, values.min()), max(high, values.max())
    sizes = {name: max(abs(low), abs(high)) for name, (low, high) in extremes.items()}
    edges = {
        name: np.linspace(-size, size, BINS + 1, dtype=np.float32) for name, size in sizes.items() if size > SMALLEST
    }
    counts = {name: np.zeros(BINS, np.int64) for name in edges}
    for name, values in flows():
        if name in edges:
            counts[name] += np.histogram(values, BINS, range=(-float(sizes[name]), float(sizes[name])))[0]
    found = {}
    for way, method in RANGES.items():
        ranges = {name: tuple(map(np.asarray, limits)) for name, limits in extremes.items()}
        if method is not None:
            collector = HistogramCollector(method[0], False, BINS, LEVELS, method[1], "same")
            collector.histogram_dict = {
                name: (counts[name], edges[name], *extremes[name], sizes[name]) for name in edges
            }
            with contextlib.redirect_stdout(io.StringIO()):  # it prints
                ranges |= {name: limits[:2] for name, limits in collector.compute_collection_result().items()}
        found[way] = TensorsData(CalibrationMethod.MinMax, ranges)  # here: pairs, however they were found
    return found


def judge(files: dict[str, Path], clips: Iterable[Clip]) -> dict[str, Judged]:
    """Classify each clip by each file, the first of which the others are compared with; clips are read once."""
    sessions = {name: open_session(path, threads=1) for name, path in files.items()}
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
    """Time files on one clip of so many samples, one thread, in turns of random order: the median of each, in seconds.

    There are ``runs`` turns, fewer (but three) once ``seconds`` are over.
    """
    rng = np.random.default_rng(0)
    clip = {"waveform": (0.1 * rng.standard_normal((1, samples))).astype(np.float32)}
    sessions = [open_session(path, threads=1) for path in files]
    times = [list[float]() for _ in files]
    for turn in _turns(runs + 3, seconds):
        for i in rng.permutation(len(sessions)):
            began = time.perf_counter()
            sessions[i].run(None, clip)
            if turn >= 3:  # the first ones warm up
                times[i].append(time.perf_counter() - began)
    return [float(np.median(own)) for own in times]


def _turns(most: int, seconds: float) -> Iterator[int]:
    end = time.perf_counter() + seconds
    for turn in range(most):
        if turn >= 6 and time.perf_counter() > end:
            return
        yield turn
