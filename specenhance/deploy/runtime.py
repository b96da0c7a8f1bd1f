"""An exported ONNX model run by onnxruntime: for machines that have no PyTorch. Needs NumPy and onnxruntime only."""

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
"""What a file says of itself, each as JSON under this key of its metadata, by the rules of the table."""


class OnnxModel:
    """A model that ``specenhance export --format onnx`` wrote.

    Args:
        path: the file.
        threads: how many compute one batch; 0 leaves it to onnxruntime.

    Attributes:
        classes: the names of the classes.
        sample_rate: of the waveforms that it takes, Hz.
        samples: of a waveform that it looks at; it pads a shorter one with silence and cuts a longer one at its end.
        clip_samples: as long as the clips were that it was trained on, at most ``samples``: the window for a stream.
        metadata: all that the file says of itself.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file that is no ONNX model, one that something else wrote, one whose bytes have changed since it
            was written, or metadata that :data:`specenhance.deploy.metadata.SCHEMA` refuses or that do not fit the graph.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int = 0) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{path}: no such model; specenhance export RUN --format onnx writes one")
        whole = check(self.path, "copy it again, or export the model again")
        try:
            self._session = open_session(self.path, threads)
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise ValueError(f"{path}: onnxruntime cannot read it ({error}); export the model again") from error
        self.metadata = read_metadata(self._session.get_modelmeta().custom_metadata_map, path)
        if not whole:
            raise ValueError(f"{path}: its {KEY} is no checksum; copy it again, or export the model again")
        self.classes: list[str] = self.metadata["classes"]
        self.sample_rate: int = self.metadata["sample_rate"]
        self.samples: int = self.metadata["samples"]
        seconds = self.metadata["clip_seconds"]
        whole = self.samples if seconds is None else round(seconds * self.sample_rate)
        self.clip_samples = min(max(whole, 1), self.samples)
        self._check_graph()

    def _check_graph(self) -> None:
        """Refuse a file whose metadata are those of another graph."""
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

    def logits(self, batch: np.ndarray) -> np.ndarray:
        """Map waveforms ``(B, samples)``, or spectrograms ``(B, 1, T, F)`` for a model that takes those, to logits, float32.

        Waveforms are floats in [-1, 1], or integers, which are scaled by their type.

        Raises:
            ValueError, TypeError: for another shape or type, as :func:`specenhance.audio.samples.scaled` for waveforms.
        """
        name, shape = self.metadata["input"], np.shape(batch)
        expected = self._session.get_inputs()[0].shape  # a number where it is fixed, else a name
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
        return self._session.run(None, {name: np.asarray(batch).astype(np.float32, copy=False)})[0]

    def probabilities(self, waveform: np.ndarray) -> np.ndarray:
        """Give the probability of each class, ``(classes,)``, of one waveform ``(samples,)``.

        Raises:
            ValueError: for a model that takes spectrograms; for the waveform, as :func:`specenhance.audio.samples.waveform_of`.
            TypeError: likewise.
        """
        if self.metadata["input"] != "waveform":
            raise ValueError(
                f"{self.path}: takes spectrograms, and sound needs a model of waveforms; export it with --input waveform"
            )
        logits = self.logits(waveform_of(waveform)[None])[0].astype(np.float64)
        exponentials = np.exp(logits - logits.max())
        return exponentials / exponentials.sum()

    def predict(self, waveform: np.ndarray, top: int) -> list[tuple[int, float]]:
        """Give the likeliest classes of one waveform ``(samples,)``: pairs of label and probability, the likeliest first.

        Raises as :meth:`probabilities`.
        """
        return likeliest(self.probabilities(waveform), top)


MOST_CHANNELS = 8


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Open an ONNX file on the CPU, so that INT8 gives the same on every processor."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Without VNNI, sums of 8-bit products overflow on x86 and answers are wrong; there, and only there, it takes a slower way.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
