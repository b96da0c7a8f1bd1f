"""A check that a front end keeps the rules of :mod:`specenhance.frontends.base`: for ours, and for those of other packages."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from specenhance.features import KaldiFbank
from specenhance.frontends.base import apply_frontend, needs_energies, out_channels, uses_real_frames
from specenhance.frontends.registry import create_frontend
from specenhance.models.adapter import with_frontend

__all__ = ["check_frontend"]

SIZES = ((2, 40, 16), (1, 7, 16), (3, 1, 9), (2, 65, 33))  # (B, T, F)


def check_frontend(name: str, in_chans: int = 1, *, onnx: bool = True, **arguments: Any) -> None:
    """Check a front end that has a name.

    - It maps ``(B, C, T, F)`` to ``(B, out_chans, T, F)`` of the same dtype, for any T and F, and for a single clip.
    - In evaluation it gives the same result each time, and a clip gives the same by itself and in a batch.
    - Gradients reach the spectrogram and each parameter that learns, and they are finite.
    - It works in bfloat16, under autocast, and under ``torch.compile(fullgraph=True)``.
    - If it uses real frames, then the values of padding change nothing.
    - Its attribute ``made_with`` makes it again, and so does a saved model.
    - It exports to ONNX with features and a backbone, and gives what PyTorch gives.

    Args:
        name: The name of the front end, or a chain of names.
        in_chans: The channels C of the spectrogram.
        onnx: Whether to check the export to ONNX, which needs the packages of the extra ``export``.
        **arguments: Further arguments of the front end.

    Raises:
        AssertionError: for the first rule that is not kept. The message names it.

    >>> check_frontend("clipnorm", onnx=False)
    """
    for B, T, F in SIZES:
        _check_call(_make(name, in_chans, F, arguments), _spectrogram(B, in_chans, T, F))
    frontend, spec = _make(name, in_chans, 16, arguments), _spectrogram(3, in_chans, 40, 16)
    _check_gradients(frontend, spec)
    _check_precision(frontend, spec)
    _check_compiled(frontend, spec)
    if uses_real_frames(frontend):
        _check_padding(frontend, spec)
    _check_made_again(frontend)
    if in_chans == 1:
        _check_model(name, arguments, onnx)


def _make(name: str, in_chans: int, bins: int, arguments: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    return create_frontend(name, in_chans, bins=bins, **arguments).eval()


def _spectrogram(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(shape[0] * shape[2]))


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise AssertionError(rule)


def _check_call(frontend: nn.Module, spec: Tensor) -> None:
    B, C, T, F = spec.shape
    before = spec.clone()
    made = frontend(spec)
    expected = (B, out_channels(frontend, C), T, F)
    _require(
        tuple(made.shape) == expected,
        f"a result of shape {tuple(made.shape)}, expected (B, out_chans, T, F) = {expected}",
    )
    _require(made.dtype == spec.dtype, f"a result of {made.dtype}, expected {spec.dtype} as the spectrogram")
    _require(bool(made.isfinite().all()), f"a result that is not finite, for noise of shape {tuple(spec.shape)}")
    _require(torch.equal(spec, before), "the front end changes its input")
    _require(torch.equal(frontend(spec), made), "another result for the same spectrogram, in evaluation")
    each = torch.cat([frontend(clip[None]) for clip in spec])
    _require(torch.allclose(each, made, atol=1e-4, rtol=1e-4), "a clip gives another result by itself than in a batch")
    silence = frontend(torch.zeros_like(spec))
    _require(bool(silence.isfinite().all()), "a result that is not finite, for a spectrogram of zeros")


def _check_gradients(frontend: nn.Module, spec: Tensor) -> None:
    training = copy.deepcopy(frontend).train()
    for part in (spec, spec[:1]):
        given = part.clone().requires_grad_()
        training.zero_grad()
        training(given).square().sum().backward()
        _require(given.grad is not None and bool(given.grad.isfinite().all()), "no finite gradient for the spectrogram")
        for name, parameter in training.named_parameters():
            if parameter.requires_grad:
                found = parameter.grad is not None and bool(parameter.grad.isfinite().all())
                _require(found, f"no finite gradient for the parameter {name}")


def _check_precision(frontend: nn.Module, spec: Tensor) -> None:
    expected = frontend(spec)
    with torch.autocast("cpu", torch.bfloat16):
        under = frontend(spec)
    half = copy.deepcopy(frontend).bfloat16()(spec.bfloat16())
    _require(half.dtype == torch.bfloat16, f"a result of {half.dtype} in bfloat16")
    double = copy.deepcopy(frontend).double()(spec.double())
    _require(double.dtype == torch.float64, f"a result of {double.dtype} in float64")
    scale = expected.abs().max()
    for found, within, what in ((under, 0.1, "autocast"), (half, 0.1, "bfloat16"), (double, 1e-3, "float64")):
        _require(bool((found.float() - expected).abs().max() <= within * scale), f"another result in {what}")


def _check_compiled(frontend: nn.Module, spec: Tensor) -> None:
    torch.compiler.reset()
    compiled = torch.compile(frontend, fullgraph=True, backend="aot_eager")
    found = compiled(spec)
    _require(torch.allclose(found, frontend(spec), atol=1e-5, rtol=1e-4), "another result under torch.compile")


def _check_padding(frontend: nn.Module, spec: Tensor) -> None:
    real = torch.arange(spec.shape[2]) < torch.tensor([spec.shape[2], 25, 1])[:, None]
    other = torch.where(real[:, None, :, None], spec, spec + 5)
    first, second = (apply_frontend(frontend, x, real).transpose(1, 2)[real] for x in (spec, other))
    _require(torch.allclose(first, second, atol=1e-5), "the values of padding change the result for real frames")
    alone = apply_frontend(frontend, spec[1:2, :, :25])
    within = apply_frontend(frontend, spec, real)[1:2, :, :25]
    local = not any(isinstance(module, nn.Conv2d | nn.Conv1d) for module in frontend.modules())
    _require(
        not local or torch.allclose(alone, within, atol=1e-4), "a clip gives another result with padding than without"
    )
    whole = torch.ones_like(real)
    same = torch.allclose(apply_frontend(frontend, spec, whole), frontend(spec), atol=1e-5)
    _require(same, "another result for real frames only than without the argument")


def _check_made_again(frontend: Any) -> None:
    _require(hasattr(frontend, "made_with"), "no attribute made_with: register the front end")
    again = create_frontend(**frontend.made_with)
    shapes, others = ({name: x.shape for name, x in module.state_dict().items()} for module in (frontend, again))
    _require(shapes == others, "made_with makes a front end of other parameters")


def _check_model(name: str, arguments: dict[str, Any], onnx: bool) -> None:
    import timm

    chans = out_channels(_make(name, 1, 16, arguments), 1)
    backbone = timm.create_model("test_resnet", in_chans=chans, num_classes=3)
    features = KaldiFbank(frames=40, num_mel_bins=32, mean=-6.0, std=4.0)
    model = with_frontend(backbone, name, features=features, **arguments).eval()
    model.classes = ["a", "b", "c"]
    if needs_energies(model.frontend):
        told = [
            (module.mean, module.std)
            for module in model.frontend.modules()
            if hasattr(module, "set_normalisation") and hasattr(module, "mean")
        ]
        _require((-6.0, 4.0) in told, "set_normalisation does not keep mean and std")
    waveform = 0.1 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        model.save_pretrained(folder)
        loaded = type(model).from_pretrained(folder)
        _require(torch.equal(loaded(waveform), model(waveform)), "a saved model gives another result")
        if onnx:
            from specenhance.deploy.export import export

            export(model, Path(folder) / "model.onnx")  # it compares with PyTorch itself
