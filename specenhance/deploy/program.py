"""A model recorded by ``torch.export``: the input that it takes, the sizes that stay open, examples of its input."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from specenhance._choices import Input
from specenhance.frontends.base import uses_real_frames
from specenhance.models.adapter import FrontendModel

__all__ = ["SpectrogramModel", "WaveformModel", "axes", "examples", "reason", "record"]


class WaveformModel(nn.Module):
    """A model with features that take any number of samples, a fixed number of frames being made of them."""

    def __init__(self, model: FrontendModel) -> None:
        super().__init__()
        self.model = model
        self.samples = model.features.samples

    def forward(self, waveform: Tensor) -> Tensor:
        """Map waveforms ``(B, samples)`` to logits ``(B, classes)``."""
        features = self.model.features
        wave = waveform
        if features.zero_mean:
            wave = wave - wave.mean(dim=-1, keepdim=True)
        spec = features._normalised_log_mel(nn.functional.pad(wave, (0, self.samples))[:, : self.samples])
        ends = features.window_length + features.hop_length * torch.arange(features.frames)
        spec = torch.where((ends <= waveform.shape[1])[:, None], spec, features.padding)
        real = (ends <= waveform.shape[1])[None] if uses_real_frames(self.model.frontend) else None
        return self.model.classify(spec.unsqueeze(1), real)


class SpectrogramModel(nn.Module):
    """A model without its features."""

    def __init__(self, model: FrontendModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Map spectrograms ``(B, 1, T, F)``, normalised, to logits ``(B, classes)``."""
        return self.model.classify(spectrogram)


def examples(model: FrontendModel, input: Input, frames: bool = False) -> list[Tensor]:
    """Make inputs of several sizes: noise at two levels, a chirp, silence; for spectrograms other lengths if asked for."""
    draw = torch.Generator().manual_seed(0)
    features = model.features
    whole = features.samples
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


def record(module: nn.Module, example: Tensor) -> tuple[torch.export.ExportedProgram, tuple[str, ...]]:
    """Trace a model, with the batch and as many other sizes dynamic as it allows; give its input's sizes too."""
    sizes: dict[int, Any] = {0: torch.export.Dim("batch")}
    if example.ndim == 2:
        sizes[1] = torch.export.Dim("samples")
    elif takes(module, torch.cat([example, example], dim=2)):
        sizes[2] = torch.export.Dim.AUTO  # frames
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, (example,), dynamic_shapes=(sizes,))
    except Exception as error:  # torch.export's errors have no common base
        raise ValueError(f"the model cannot be exported ({reason(error)}); choose another backbone") from error
    return program, tuple(name for _, name in axes(program))


def axes(program: torch.export.ExportedProgram) -> list[tuple[str, str]]:
    """Pair what the program calls each size of its input, a symbol or a number, with a name, or that number."""
    (node,) = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    shape = node.meta["val"].shape
    names = ("batch", "samples") if len(shape) == 2 else ("batch", "1", "frames", "bins")
    return [
        (str(size), name if isinstance(size, torch.SymInt) and size.node.maybe_as_int() is None else str(size))
        for name, size in zip(names, shape, strict=True)
    ]


def reason(error: Exception) -> str:
    """Give the kind of an error and its first line."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


@torch.no_grad()
def takes(module: nn.Module, x: Tensor) -> bool:
    try:
        module(x)
    except (ValueError, RuntimeError, AssertionError):  # what a backbone of a fixed size raises, ours or not
        return False
    return True
