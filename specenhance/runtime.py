"""An exported ONNX model run by onnxruntime: for machines that have no PyTorch. Needs NumPy and onnxruntime alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

try:
    import onnxruntime
except ImportError as error:
    raise ImportError(f'{error}; an exported model needs onnxruntime: pip install "specenhance[export]"') from error

__all__ = ["KEYS", "OnnxModel"]

KEYS = (
    *("specenhance", "input", "classes", "sample_rate", "samples", "frames", "bins", "hop_seconds"),
    *("features", "mean", "std", "normalisation", "frontend", "backbone", "int8"),
)
"""What a file says of itself, each as JSON under this key of its metadata."""


class OnnxModel:
    """A model that ``specenhance export --format onnx`` wrote.

    Args:
        path: the file.
        threads: that compute one batch; 0 leaves it to onnxruntime.

    Attributes:
        classes: the names of the classes.
        sample_rate: of the waveforms that it takes, Hz.
        samples: of a waveform that it looks at; it pads a shorter one with silence and cuts a longer one at its end.
        metadata: all that the file says of itself.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file that is no ONNX model, or one that something else wrote.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int = 0) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{path}: no such model; specenhance export RUN --format onnx writes one")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise ValueError(f"{path}: onnxruntime cannot read it ({error}); export the model again") from error
        found = self._session.get_modelmeta().custom_metadata_map
        missing = [key for key in KEYS if key not in found]
        if missing:
            raise ValueError(
                f"{path}: says nothing of {', '.join(missing)}: specenhance export did not write it; export the model again"
            )
        self.metadata = {key: json.loads(found[key]) for key in KEYS}
        self.classes: list[str] = self.metadata["classes"]
        self.sample_rate: int = self.metadata["sample_rate"]
        self.samples: int = self.metadata["samples"]

    def logits(self, batch: np.ndarray) -> np.ndarray:
        """Map waveforms ``(B, samples)``, or spectrograms ``(B, 1, T, F)`` for a model that takes those, to logits, float32.

        Raises:
            ValueError: for another shape.
        """
        expected = self._session.get_inputs()[0].shape  # a number where it is fixed, else a name
        if len(batch.shape) != len(expected) or any(
            isinstance(size, int) and size != got for size, got in zip(expected, batch.shape, strict=True)
        ):
            raise ValueError(
                f"{self.metadata['input']} of shape {batch.shape}: {self.path} expects ({', '.join(map(str, expected))})"
            )
        return self._session.run(None, {self.metadata["input"]: batch.astype(np.float32, copy=False)})[0]

    def shares(self, waveform: np.ndarray) -> np.ndarray:
        """Give the share of each class, ``(classes,)``, of one waveform ``(samples,)``.

        Raises:
            ValueError: for a model that takes spectrograms.
        """
        if self.metadata["input"] != "waveform":
            raise ValueError(
                f"{self.path}: takes spectrograms, and sound needs a model of waveforms; export it with --input waveform"
            )
        logits = self.logits(waveform[None])[0].astype(np.float64)
        shares = np.exp(logits - logits.max())
        return shares / shares.sum()

    def predict(self, waveform: np.ndarray, top: int) -> list[tuple[int, float]]:
        """Give the most likely classes of one waveform ``(samples,)``: pairs of label and share, the likeliest first."""
        shares = self.shares(waveform)
        return [(int(label), float(shares[label])) for label in np.argsort(-shares, kind="stable")[:top]]
