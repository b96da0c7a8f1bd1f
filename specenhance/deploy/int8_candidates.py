"""Quantise the backbone of an ONNX file to INT8 in several ways, and choose the way that changes its results least."""

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
"""Key of a node's metadata. Its value names the PyTorch modules that the node comes from."""

BINS, LEVELS = 512, 128  # bins of a histogram, and the number of levels that the entropy method merges them into

RANGES: dict[str, tuple[str, float] | None] = {
    "min-max": None,
    "percentile 99.999": ("percentile", 99.999),
    "percentile 99.99": ("percentile", 99.99),
    "entropy": ("entropy", 0.0),
}
"""Ways to find the range of an operator's values: onnxruntime's name of the method that reads it from a histogram, and the
percentile. None takes the minimum and the maximum."""

OPERATORS = ["Conv", "Gemm", "MatMul"]
SMALLEST = 1e-30  # no histogram is made of values whose absolute values are all below this

_log = logging.getLogger(__name__)

Clip = tuple[np.ndarray, int]  # waveform (samples,), label


class Judged(NamedTuple):
    """The result of a model on a set of clips.

    Attributes:
        right: whether each clip is classified right, ``(clips,)``.
        divergence: mean Kullback-Leibler divergence of the probabilities from those of the first model, in nats.

    >>> Judged(np.array([True, True, False, True]), divergence=0.1).accuracy
    0.75
    """

    right: np.ndarray
    divergence: float

    @property
    def accuracy(self) -> float:
        """The part of the clips that is classified right, in [0, 1]."""
        return float(self.right.mean())


def quantise(
    path: Path,
    folder: Path,
    calibration: Callable[[], Iterable[np.ndarray]],
    choosing: Iterable[Clip],
) -> Path:
    """Quantise the backbone of an ONNX file in several ways, and choose one by :func:`choose`.

    The ways differ in how ranges are found (:data:`RANGES`), and in the operators that stay in float32: none, the first one, or
    the depthwise convolutions.

    Args:
        path: an ONNX file in float32 that takes waveforms. Its nodes have :data:`SCOPES`.
        folder: an empty folder for the candidates.
        calibration: returns the waveforms ``(samples,)`` that measure ranges. Each call returns the same ones.
        choosing: the clips that choose: waveforms ``(samples,)`` with their labels. They must not be calibration clips.

    Returns:
        The path of the chosen file, in ``folder``.
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
    best = choose(judged)
    _log.info(f"chosen: {best} (float32: {float32.accuracy:.2%} of these {len(float32.right)} clips)")
    return files[best]


def choose(candidates: dict[str, Judged]) -> str:
    """Return the name of the candidate whose probabilities diverge least from those of float32.

    Accuracy does not choose. The accuracies of candidates differ by a few clips, which is chance, and a model that is right
    where float32 is wrong is a changed model all the same.

    Args:
        candidates: the result of each candidate on the same clips, by name.

    >>> right = np.array([True, True, False])
    >>> choose({"a": Judged(right, 0.1), "b": Judged(~right, 0.3), "c": Judged(right, 0.2)})
    'a'
    """
    return min(candidates, key=lambda name: candidates[name].divergence)


def _operators(path: Path, prepared: Path) -> tuple[list[onnx.NodeProto], list[str], dict[str, list[str]]]:
    """Return the operators of the backbone, the names of the others, and the sets of names that may stay in float32."""
    scoped = {
        node.name
        for node in onnx.load(path).graph.node
        if any(entry.key == SCOPES and "backbone" in entry.value for entry in node.metadata_props)
    }
    inside: list[onnx.NodeProto] = []
    outside: list[str] = []
    for node in onnx.load(prepared).graph.node:
        if node.op_type in OPERATORS:
            # quant_pre_process drops the scopes, and appends to the names of operators that it joins.
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
    """Measure the range of the inputs and outputs of operators, in each way of :data:`RANGES`.

    Only one clip is in memory at a time. A first pass finds the minimum and the maximum of each value. A second pass counts
    histograms between them.

    Args:
        prepared: the ONNX file. A copy with more outputs, ``augmented.onnx``, is written beside it.
        operators: nodes of the file.
        clips: returns waveforms ``(samples,)``. Each call returns the same ones.

    Returns:
        For each way: the range of each input and output, by its name in the file. Constants are left out.

    >>> import tempfile
    >>> graph = "g (float[B, N] waveform) => (float[B, N] logits) {logits = Neg(waveform)}"
    >>> model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 18]>' + graph)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "model.onnx"
    ...     onnx.save(model, path)
    ...     ranges = measure_ranges(path, model.graph.node, lambda: [np.float32([-1, 3])])
    >>> [float(limit) for limit in ranges["min-max"]["logits"].range_value]
    [-3.0, 1.0]
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
            with contextlib.redirect_stdout(io.StringIO()):  # onnxruntime prints here
                ranges |= {name: limits[:2] for name, limits in collector.compute_collection_result().items()}
        found[way] = TensorsData(CalibrationMethod.MinMax, ranges)  # MinMax says that ranges are pairs
    return found


def judge(files: dict[str, Path], clips: Iterable[Clip]) -> dict[str, Judged]:
    """Classify clips by several ONNX files. Each clip is read once.

    Args:
        files: ONNX files that take waveforms, by name. The divergence of each is measured from the first one.
        clips: waveforms ``(samples,)`` with their labels, at least one.

    >>> import tempfile
    >>> graph = "g (float[B, N] waveform) => (float[B, N] logits) {logits = Identity(waveform)}"
    >>> model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 18]>' + graph)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "model.onnx"
    ...     onnx.save(model, path)
    ...     judge({"float32": path}, [(np.float32([0, 1]), 1), (np.float32([0, 1]), 0)])["float32"].accuracy
    0.5
    """
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
    """Return the 95% interval of the accuracy that is lost from one model to another, measured on the same clips.

    Args:
        before: whether the first model classifies each clip right, ``(clips,)`` bool.
        after: whether the second model classifies each clip right, ``(clips,)`` bool.

    Returns:
        The lower and the upper limit of the loss, in [-1, 1]. A gain is negative.

    Source: Agresti and Min, "Simple improved confidence intervals for comparing matched proportions", Statistics in Medicine 24
    (2005). It is Wald's interval after half a clip is added to each cell of the 2 x 2 table.

    >>> low, high = interval(np.ones(100, bool), np.arange(100) < 95)
    >>> round(low, 3), round(high, 3)
    (0.003, 0.095)
    """
    lost, gained = float((before & ~after).sum()) + 0.5, float((~before & after).sum()) + 0.5
    clips = len(before) + 2
    loss = (lost - gained) / clips
    error = math.sqrt(lost + gained - (lost - gained) ** 2 / clips) / clips
    return max(loss - 1.96 * error, -1.0), min(loss + 1.96 * error, 1.0)


def latencies(files: Sequence[Path], samples: int, runs: int = 50, seconds: float = 10.0) -> list[float]:
    """Measure the time that ONNX files take for one clip of noise on one thread.

    The files take turns, in random order. There are ``runs`` turns, or fewer if ``seconds`` have passed, but at least three.

    Args:
        files: ONNX files that take waveforms.
        samples: length of the clip, in samples.
        runs: maximum number of timed turns.
        seconds: time after which no new turn starts, in seconds.

    Returns:
        The median time of each file, in seconds.

    >>> import tempfile
    >>> graph = "g (float[B, N] waveform) => (float[B, N] logits) {logits = Neg(waveform)}"
    >>> model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 18]>' + graph)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     onnx.save(model, f"{folder}/model.onnx")
    ...     [seconds] = latencies([Path(folder) / "model.onnx"], samples=100, runs=3)
    >>> seconds > 0
    True
    """
    rng = np.random.default_rng(0)
    clip = {"waveform": (0.1 * rng.standard_normal((1, samples))).astype(np.float32)}
    sessions = [open_session(path, threads=1) for path in files]
    times = [list[float]() for _ in files]
    for turn in _turns(runs + 3, seconds):
        for i in rng.permutation(len(sessions)):
            began = time.perf_counter()
            sessions[i].run(None, clip)
            if turn >= 3:  # the first turns are slower
                times[i].append(time.perf_counter() - began)
    return [float(np.median(own)) for own in times]


def _turns(most: int, seconds: float) -> Iterator[int]:
    end = time.perf_counter() + seconds
    for turn in range(most):
        if turn >= 6 and time.perf_counter() > end:
            return
        yield turn
