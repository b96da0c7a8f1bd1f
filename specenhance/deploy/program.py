"""Record a model by ``torch.export``: its input, the sizes that are dynamic, and examples of its input."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from specenhance._choices import Input
from specenhance.frontends.base import factors_of, uses_real_frames
from specenhance.models.adapter import FrontendModel

__all__ = [
    "OUTPUTS",
    "SpectrogramModel",
    "WaveformModel",
    "axes",
    "examples",
    "fitted",
    "reason",
    "record",
    "record_fixed",
]

OUTPUTS = ("logits", "spectrogram", "mask_time", "mask_freq")
"""Outputs of a model that shows what it does: logits ``(B, classes)``, the spectrogram ``(B, 1, T, F)`` before the front end,
and the factors ``(B, T)`` and ``(B, F)`` of the mask, if the front end has one. Other models give only logits."""


class WaveformModel(nn.Module):
    """A model that takes waveforms of any length. Its features always make the same number of frames.

    Args:
        model: maps waveforms to logits, with features of a fixed number of frames.
        shows: whether it gives all of :data:`OUTPUTS`.

    >>> import timm
    >>> from specenhance import KaldiFbank, with_frontend
    >>> backbone = timm.create_model("test_resnet", in_chans=1, num_classes=2)
    >>> module = WaveformModel(with_frontend(backbone, "tfe1", features=KaldiFbank(frames=24)))
    >>> module(torch.zeros(3, 1000)).shape
    torch.Size([3, 2])
    >>> [tuple(output.shape) for output in WaveformModel(module.model, shows=True)(torch.zeros(3, 1000))]
    [(3, 2), (3, 1, 24, 128), (3, 24), (3, 128)]
    """

    def __init__(self, model: FrontendModel, shows: bool = False) -> None:
        super().__init__()
        self.model = model
        self.shows = shows
        self.samples = model.features.samples

    def forward(self, waveform: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map waveforms ``(B, samples)`` to logits ``(B, classes)``, or to a tuple of all outputs."""
        features = self.model.features
        wave = waveform
        if features.zero_mean:
            wave = wave - wave.mean(dim=-1, keepdim=True)
        wave = nn.functional.pad(wave, (0, self.samples))[:, : self.samples]
        spec = features.normalised(features.analysis(wave)(wave))
        ends = features.window_length + features.hop_length * torch.arange(features.frames)
        spec = torch.where((ends <= waveform.shape[1])[:, None], spec, features.padding)
        real = (ends <= waveform.shape[1])[None] if uses_real_frames(self.model.frontend) else None
        spec = spec.unsqueeze(1)
        logits = self.model.classify(spec, real)
        if not self.shows:
            return logits
        factors = factors_of(self.model.frontend, spec, real)
        return (logits, spec) if factors is None else (logits, spec, *(factor[:, 0] for factor in factors))


class SpectrogramModel(nn.Module):
    """A model that takes spectrograms: the front end and the backbone, without the features.

    Args:
        model: a model with or without features.

    >>> import timm
    >>> from specenhance import with_frontend
    >>> model = with_frontend(timm.create_model("test_resnet", in_chans=1, num_classes=2), "tfe1")
    >>> SpectrogramModel(model)(torch.zeros(3, 1, 64, 32)).shape
    torch.Size([3, 2])
    """

    def __init__(self, model: FrontendModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Map normalised spectrograms ``(B, 1, T, F)`` to logits ``(B, classes)``."""
        return self.model.classify(spectrogram)


def examples(model: FrontendModel, input: Input, frames: bool = False) -> list[Tensor]:
    """Make example inputs of several sizes, the same at each call.

    Waveforms are noise at two levels, a chirp and silence. Spectrograms are noise.

    Args:
        model: gives the number of frames, the number of bins and the sample rate.
        input: ``"waveform"`` or ``"spectrogram"``.
        frames: whether spectrograms may have another number of frames than the model's features make.

    >>> import timm
    >>> from specenhance import KaldiFbank, with_frontend
    >>> model = with_frontend(timm.create_model("test_resnet", in_chans=1), "tfe1", features=KaldiFbank(frames=24))
    >>> [tuple(x.shape) for x in examples(model, "spectrogram", frames=True)]
    [(2, 1, 24, 128), (1, 1, 24, 128), (3, 1, 24, 128), (2, 1, 48, 128), (1, 1, 72, 128)]
    """
    draw = torch.Generator().manual_seed(0)
    features = model.features
    whole = features.samples
    if input == "spectrogram":
        sizes = [(2, features.frames), (1, features.frames), (3, features.frames)]
        sizes += (
            [(2, 2 * features.frames), (1, 3 * features.frames)] if frames else []
        )  # whole patches of a transformer
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
    """Record a model. The batch size is dynamic, and so is the number of samples or frames if the model allows it.

    Args:
        module: the model, in evaluation mode.
        example: its input, waveforms ``(B, samples)`` or spectrograms ``(B, 1, T, F)``.

    Returns:
        The program, and the sizes of its input: a name if the size is dynamic, otherwise a number.

    Raises:
        ValueError: if the model cannot be recorded.

    >>> program, sizes = record(nn.Softmax(dim=1), torch.zeros(2, 8))
    >>> sizes
    ('batch', 'samples')
    """
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


def fitted(x: Tensor, samples: int) -> Tensor:
    """Return the first example of a batch, one of one size. A waveform is padded with silence or cut at its end.

    Args:
        x: waveforms ``(B, samples)``, or spectrograms, whose size stays.
        samples: length of the waveform.

    >>> fitted(torch.ones(2, 3), samples=5)
    tensor([[1., 1., 1., 0., 0.]])
    """
    return x[:1] if x.ndim == 4 else nn.functional.pad(x[:1], (0, samples))[:, :samples]


@torch.no_grad()
def record_fixed(module: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """Record a model for inputs of one size, with fewer operators: for converters that know only PyTorch's core operators.

    Args:
        module: the model, in evaluation mode.
        example: its input. The program takes only inputs of this size.

    Raises:
        ValueError: if the model cannot be recorded.

    >>> class WithWindow(nn.Module):
    ...     def forward(self, x):
    ...         return x * torch.hann_window(4)
    >>> program = record_fixed(WithWindow(), torch.ones(1, 4))  # torch.hann_window becomes a constant
    >>> [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    ['aten.mul.Tensor']
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Decomposed, nothing is changed in place: a constant stays one.
            graph = torch.export.export(module, (example,)).run_decompositions({}).module()
            _simplify(graph)
            return torch.export.export(graph, (example,))
    except Exception as error:  # torch.export's errors have no common base
        raise ValueError(f"the model cannot be exported ({reason(error)}); choose another backbone") from error


def _simplify(module: Any) -> None:
    """Replace tensors that do not depend on the input by constants. Remove what says the type that a tensor has anyway."""
    graph = module.graph
    for node in list(graph.nodes):
        if node.op != "call_function" or "val" not in node.meta:
            continue
        if node.target is torch.ops.aten.mean.dim and node.kwargs.get("dtype") == node.args[0].meta["val"].dtype:
            node.kwargs = {}
        elif not node.all_input_nodes and isinstance(node.meta["val"], Tensor):
            name = f"constant_{node.name}"
            module.register_buffer(name, node.target(*node.args, **node.kwargs))
            with graph.inserting_before(node):
                constant = graph.get_attr(name)
            constant.meta = dict(node.meta)
            node.replace_all_uses_with(constant)
            graph.erase_node(node)
    for node in list(graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            graph.erase_node(node)
    module.recompile()


def axes(program: torch.export.ExportedProgram) -> list[tuple[str, str]]:
    """Pair each size of a program's input with its name. A size that is not dynamic has its number as its name.

    Args:
        program: a model that :func:`record` has recorded.

    Returns:
        For each size: the program's own symbol or number, and the name.

    >>> program, _ = record(nn.Softmax(dim=1), torch.zeros(2, 8))
    >>> axes(program)
    [('s...', 'batch'), ('s...', 'samples')]
    """
    (node,) = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    shape = node.meta["val"].shape
    names = ("batch", "samples") if len(shape) == 2 else ("batch", "1", "frames", "bins")
    return [
        (str(size), name if isinstance(size, torch.SymInt) and size.node.maybe_as_int() is None else str(size))
        for name, size in zip(names, shape, strict=True)
    ]


def reason(error: Exception) -> str:
    """Return the kind of an error and the first line of its message.

    >>> reason(ValueError("a shape is wrong\\nand much more"))
    'ValueError: a shape is wrong'
    """
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


@torch.no_grad()
def takes(module: nn.Module, x: Tensor) -> bool:
    """Return whether a model can compute an input.

    >>> takes(nn.Linear(4, 2), torch.zeros(1, 4)), takes(nn.Linear(4, 2), torch.zeros(1, 5))
    (True, False)
    """
    try:
        module(x)
    except (ValueError, RuntimeError, AssertionError):  # of a backbone with a fixed input size
        return False
    return True
