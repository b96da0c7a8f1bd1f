"""``onnx:FILE``: any ONNX model from waveforms, run by onnxruntime: a classifier of the student's classes, or an embedding."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from specenhance._missing import missing
from specenhance.distillation.registry import register_teacher
from specenhance.distillation.waveforms import Array, as_heard

__all__ = ["OnnxTeacher"]

CLOSE = 1e-3  # relative: clips of a batch that differ by more from the same clips alone are run one by one


@register_teacher("onnx")
class OnnxTeacher:
    """An ONNX model from waveforms to logits or to an embedding.

    The model's input is a waveform: ``(samples,)``, ``(B, samples)`` or ``(B, 1, samples)``, float32 in [-1, 1]. Its first
    output has a row for each clip. An output with a time axis ``(B, windows, D)`` is averaged over the windows. The metadata
    may say more, as JSON: ``sample_rate`` in Hz, and ``classes``, the names of the logits. ``specenhance export`` writes both.

    A model of the student's classes, in any order, gives its logits. Any other model is an embedding, and training fits a head.

    Some models mix up the clips of a batch, for example by a level relative to the loudest. They are run clip by clip.

    Args:
        path: The file.
        classes: The names of the student's classes.
        sample_rate: The sample rate of the waveforms that it is given, in Hz. They are resampled if the model's metadata say
            another rate.

    Attributes:
        needs_head: Whether it gives an embedding.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file that is no ONNX model, or a model that does not take waveforms.
        ImportError: if onnxruntime is missing, or soxr if waveforms must be resampled.

    Example (it needs a file, so it does not run as a test)::

        teacher = OnnxTeacher("speech_embedding.onnx", ["no", "yes"], sample_rate=16000)
        teacher(torch.zeros(4, 16000)).shape  # (4, 288)

    >>> OnnxTeacher("nothing.onnx", ["no", "yes"], sample_rate=16000)
    Traceback (most recent call last):
    FileNotFoundError: nothing.onnx: no such model; ...
    """

    hears = "waveform"

    def __init__(self, path: str | os.PathLike[str], classes: Sequence[str], *, sample_rate: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise missing(error, "an ONNX teacher needs onnxruntime", "onnxruntime") from error
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{path}: no such model; expected an ONNX file")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # not the warnings of a graph's optimisation
        try:
            self._session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no public class of errors
            raise ValueError(f"{path} cannot be read as an ONNX model ({str(error).splitlines()[0]})") from error
        given = self._session.get_inputs()
        self._input = given[0].name
        self._rank = len(given[0].shape)
        if len(given) > 1 or given[0].type != "tensor(float)" or not 1 <= self._rank <= 3:
            has = ", ".join(f"{one.name} {one.type}{one.shape}" for one in given)
            raise ValueError(
                f"{path} takes {has}: expected one waveform (samples,), (B, samples) or (B, 1, samples), float32"
            )
        fixed = given[0].shape[-1]
        self._samples = fixed if isinstance(fixed, int) else None
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.sample_rate = sample_rate
        self._rate = int(_json(metadata, "sample_rate", sample_rate, self.path))
        known = _json(metadata, "classes", [], self.path)
        self.needs_head = sorted(map(str, known)) != sorted(classes)
        self._order = None if self.needs_head else [known.index(name) for name in classes]
        self._alone = self._rank == 1 or (isinstance(given[0].shape[0], int) and given[0].shape[0] == 1)
        if not self._alone:
            self._alone = not self._batches_are_clips()

    def __call__(self, waveform: Tensor) -> Tensor:
        """Give the logits or values ``(B, D)`` of waveforms ``(B, samples)``, float32, on the waveforms' device.

        Raises:
            ValueError: for waveforms that the model cannot take, as onnxruntime says it, and for an output of another shape.
        """
        sound = as_heard(waveform, self.sample_rate, self._rate)
        if self._samples is not None:
            sound = np.pad(sound, ((0, 0), (0, max(0, self._samples - sound.shape[1]))))[:, : self._samples]
        parts = np.split(sound, len(sound)) if self._alone else [sound]
        found = np.concatenate([self._run(part) for part in parts])
        return torch.from_numpy(found if self._order is None else found[:, self._order]).to(waveform.device)

    def _run(self, sound: Array) -> Array:
        shaped = {1: sound[0], 2: sound, 3: sound[:, None]}[self._rank]
        try:
            found = np.asarray(self._session.run(None, {self._input: shaped})[0], dtype=np.float32)
        except Exception as error:
            raise ValueError(f"{self.path} cannot run on {shaped.shape}: {str(error).splitlines()[0]}") from error
        if self._rank == 1 and (found.ndim == 1 or len(found) != 1):
            found = found[None]
        if found.ndim < 2 or len(found) != len(sound):
            raise ValueError(f"{self.path} gave {found.shape} for {len(sound)} clip(s): expected a row for each")
        return found.mean(1) if found.ndim == 3 else found.reshape(len(found), -1)

    def _batches_are_clips(self) -> bool:
        """Try whether two clips of a batch, a loud and a soft one, get the values that they get alone."""
        draw = np.random.default_rng(0)
        samples = self._samples or self._rate
        pair = (draw.standard_normal((2, samples)) * [[0.3], [0.003]]).astype(np.float32)
        try:
            both, alone = self._run(pair), np.concatenate([self._run(pair[:1]), self._run(pair[1:])])
        except ValueError:
            return False
        return bool(np.abs(both - alone).max() <= CLOSE * max(np.abs(alone).max(), 1e-6))


def _json(metadata: dict[str, str], key: str, default: Any, path: Path) -> Any:
    try:
        return json.loads(metadata[key]) if key in metadata else default
    except ValueError as error:
        raise ValueError(f"{path}: its metadata {key} = {metadata[key]!r} is no JSON ({error})") from error
