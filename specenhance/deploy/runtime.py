"""Run an exported ONNX model by onnxruntime, on a machine without PyTorch. It needs only NumPy and onnxruntime."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from specenhance._checksum import KEY, check
from specenhance._missing import missing
from specenhance.audio.samples import scaled, waveform_of
from specenhance.audio.windows import likeliest
from specenhance.deploy.metadata import SCHEMA, read_metadata

try:
    import onnxruntime
except ImportError as error:
    raise missing(error, "an exported model needs onnxruntime", "onnxruntime") from error

__all__ = ["KEYS", "OnnxModel", "open_session"]

KEYS = tuple(SCHEMA)
"""Keys of a file's metadata, see :data:`specenhance.deploy.metadata.SCHEMA`. Each value is JSON."""


class OnnxModel:
    """A model that ``specenhance export --format onnx`` wrote.

    Args:
        path: the file.
        threads: number of threads that compute a batch. With 0 onnxruntime chooses it.

    Attributes:
        classes: names of the classes, in the order of the logits.
        thresholds: probability from which on each class of a multi-label model counts as found. None if it is not multi-label.
        sample_rate: sample rate of the waveforms, in Hz.
        samples: length of a waveform, in samples. A shorter one is padded with silence, a longer one is cut at its end.
        clip_samples: usual length of the training clips, in samples, at most ``samples``. It is the window for a stream.
        metadata: metadata of the file, by the keys :data:`KEYS`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file that is no ONNX model, a file that another program wrote, a file whose bytes have changed since
            it was written, and metadata that :data:`specenhance.deploy.metadata.SCHEMA` refuses or that do not fit the graph.

    Example (it needs an exported file, so it does not run as a test)::

        model = OnnxModel("model.onnx")
        waveform, rate = soundfile.read("clip.wav", dtype="float32")  # rate is model.sample_rate
        [(label, probability)] = model.predict(waveform, top=1)
        print(model.classes[label], probability)
    """

    def __init__(self, path: str | os.PathLike[str], threads: int = 0) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{path}: no such model; specenhance export RUN --format onnx writes one")
        whole = check(self.path, "copy it again, or export the model again")
        try:
            self._session = open_session(self.path, threads)
        except Exception as error:  # onnxruntime's errors have no common base
            raise ValueError(f"{path}: onnxruntime cannot read it ({error}); export the model again") from error
        self.metadata = read_metadata(self._session.get_modelmeta().custom_metadata_map, path)
        if not whole:
            raise ValueError(f"{path}: its {KEY} is no checksum; copy it again, or export the model again")
        self.classes: list[str] = self.metadata["classes"]
        self.thresholds: list[float] | None = self.metadata["thresholds"]
        self.sample_rate: int = self.metadata["sample_rate"]
        self.samples: int = self.metadata["samples"]
        seconds = self.metadata["clip_seconds"]
        whole = self.samples if seconds is None else round(seconds * self.sample_rate)
        self.clip_samples = min(max(whole, 1), self.samples)
        self._check_graph()

    def _check_graph(self) -> None:
        """Refuse a file whose metadata do not fit its graph."""
        name, classes = self.metadata["input"], len(self.classes)
        rank = {"waveform": 2, "spectrogram": 4}[name]
        inputs, output = self._session.get_inputs(), self._session.get_outputs()[0]
        if [x.name for x in inputs] != [name] or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != rank:
            raise ValueError(
                f"{self.path}: its input is {name!r}, but that of its graph is another; export the model again"
            )
        if len(output.shape) != 2 or output.shape[1] != classes:
            raise ValueError(
                f"{self.path}: its classes are {classes}, but its graph gives {output.shape}; export the model again"
            )
        if self.thresholds is not None and len(self.thresholds) != classes:
            raise ValueError(
                f"{self.path}: it has {len(self.thresholds)} thresholds for {classes} classes; export the model again"
            )

    def logits(self, batch: np.ndarray) -> np.ndarray:
        """Map a batch to logits ``(B, classes)``, float32.

        Args:
            batch: waveforms ``(B, samples)``, floats in [-1, 1] or integers, which are scaled by the range of their type. For a
                model that takes spectrograms: normalised spectrograms ``(B, 1, T, F)``, floats.

        Raises:
            ValueError: for another shape.
            TypeError: for another type, see :func:`specenhance.audio.samples.scaled`.
        """
        name, shape = self.metadata["input"], np.shape(batch)
        expected = self._session.get_inputs()[0].shape  # a fixed size is a number, a dynamic size a name
        if len(shape) != len(expected) or any(
            isinstance(size, int) and size != got for size, got in zip(expected, shape, strict=True)
        ):
            raise ValueError(f"{name} of shape {shape}: {self.path} expects ({', '.join(map(str, expected))})")
        if name == "waveform" and shape[1] <= MOST_CHANNELS < shape[0]:
            raise ValueError(
                f"{name} of shape {shape} looks like (samples, channels): {self.path} expects "
                f"({', '.join(map(str, expected))}); waveform[:, 0][None] is one channel of one clip"
            )
        if name == "waveform":
            batch = scaled(batch)
        elif np.asarray(batch).dtype.kind != "f":
            raise TypeError(f"{name} of type {np.asarray(batch).dtype}: expected float32, normalised")
        return self._computed(np.asarray(batch).astype(np.float32, copy=False))

    def _computed(self, batch: np.ndarray) -> np.ndarray:
        return self._session.run(None, {self.metadata["input"]: batch})[0]

    def probabilities(self, waveform: np.ndarray) -> np.ndarray:
        """Return the probability of each class, ``(classes,)`` float64.

        Args:
            waveform: one waveform ``(samples,)``, floats in [-1, 1] or integers.

        Raises:
            ValueError: for a model that takes spectrograms.
            ValueError, TypeError: for another waveform, as :func:`specenhance.audio.samples.waveform_of`.
        """
        return self.batch_probabilities(waveform_of(waveform)[None])[0]

    def batch_probabilities(self, batch: np.ndarray) -> np.ndarray:
        """Return the probabilities of several waveforms of one length, ``(B, classes)`` float64.

        Args:
            batch: waveforms ``(B, samples)``, float32 in [-1, 1], as :func:`specenhance.audio.read_blocks` gives them.

        Raises:
            ValueError: for a model that takes spectrograms.
        """
        if self.metadata["input"] != "waveform":
            raise ValueError(
                f"{self.path}: takes spectrograms, and sound needs a model of waveforms; export it with --input waveform"
            )
        logits = self._computed(batch).astype(np.float64)
        if self.thresholds is not None:
            return 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def predict(self, waveform: np.ndarray, top: int) -> list[tuple[int, float]]:
        """Return the likeliest classes: pairs of class number and probability, the likeliest first.

        Args:
            waveform: one waveform ``(samples,)``, floats in [-1, 1] or integers.
            top: number of classes.

        It raises as :meth:`probabilities`.
        """
        return likeliest(self.probabilities(waveform), top)


MOST_CHANNELS = 8


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Open an ONNX file for the CPU. INT8 gives the same result on every processor.

    Args:
        path: the file.
        threads: number of threads that compute a batch. With 0 onnxruntime chooses it.

    >>> import onnx, tempfile
    >>> graph = '<ir_version: 8, opset_import: ["": 18]> g (float[N] x) => (float[N] y) {y = Add(x, x)}'
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "double.onnx"
    ...     onnx.save(onnx.parser.parse_model(graph), path)
    ...     open_session(path, threads=1).run(None, {"x": np.float32([1, 2])})[0].tolist()
    [2.0, 4.0]
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # On x86 processors without VNNI, sums of 8-bit products overflow. There onnxruntime then uses a slower, exact way.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
