"""What front ends share: what they say of themselves, and the moments of a spectrogram over its real frames.

A front end maps a spectrogram ``(B, C, T, F)`` to one ``(B, C', T, F)`` of the same dtype. It may have these attributes:

- ``out_chans``: the number of channels C' of its result. Without it, C' is C.
- ``uses_real_frames``: its ``forward`` takes a second argument ``real (B, T)`` or ``(1, T)``. It is False for a frame of
  padding. None stands for no padding.
- ``needs_energies``: it works on energies. Its method ``set_normalisation(mean, std)`` is told how the log energies x became
  the spectrogram, ``(x - mean) / (2 * std)``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "apply_frontend",
    "at_least_float32",
    "factors_of",
    "moments",
    "needs_energies",
    "normalised",
    "out_channels",
    "uses_real_frames",
    "without_padding",
]


def out_channels(frontend: nn.Module, in_chans: int) -> int:
    """Return the number of channels that a front end makes of ``in_chans``.

    >>> from specenhance import create_frontend
    >>> out_channels(create_frontend("delta"), 1)
    3
    """
    return int(getattr(frontend, "out_chans", in_chans))


def uses_real_frames(frontend: Any) -> bool:
    """Say whether a front end takes the second argument ``real``.

    >>> from specenhance import create_frontend
    >>> uses_real_frames(create_frontend("clipnorm")), uses_real_frames(create_frontend("tfe4"))
    (True, False)
    """
    return bool(getattr(frontend, "uses_real_frames", False))


def needs_energies(frontend: Any) -> bool:
    """Say whether a front end works on energies, and has a method ``set_normalisation``.

    >>> from specenhance import create_frontend
    >>> needs_energies(create_frontend("pcen+tfe1")), needs_energies(create_frontend("tfe1"))
    (True, False)
    """
    return bool(getattr(frontend, "needs_energies", False))


def apply_frontend(frontend: nn.Module, spec: Tensor, real: Tensor | None = None) -> Tensor:
    """Call a front end on ``spec (B, C, T, F)``, with the real frames if it uses them."""
    return frontend(spec, real) if uses_real_frames(frontend) else frontend(spec)


def factors_of(frontend: Any, spec: Tensor, real: Tensor | None = None) -> tuple[Tensor, Tensor] | None:
    """Compute the factors ``(B, C, T)`` and ``(B, C, F)`` of a front end's mask for ``spec (B, C, T, F)``.

    The result is None if the front end has no mask.

    >>> from specenhance import create_frontend
    >>> e_t, e_f = factors_of(create_frontend("tfe1"), torch.zeros(2, 1, 40, 16))
    >>> e_t.shape, e_f.shape
    (torch.Size([2, 1, 40]), torch.Size([2, 1, 16]))
    """
    if not hasattr(frontend, "factors"):
        return None
    return frontend.factors(spec, real) if uses_real_frames(frontend) else frontend.factors(spec)


def at_least_float32(spec: Tensor) -> Tensor:
    """Convert half precision to float32, in which sums over many values are exact enough."""
    return spec.float() if spec.dtype in (torch.float16, torch.bfloat16) else spec


def moments(spec: Tensor, real: Tensor | None, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Compute mean and variance of ``spec (B, C, T, F)`` over some axes, with these axes kept at length 1.

    Args:
        spec: the spectrogram, float32 or float64.
        real: ``(B, T)`` or ``(1, T)``, False for a frame that does not count. None counts all.
        dims: the axes, 2 among them. The variance divides by the number of values. A clip without a real frame has mean and
            variance 0.

    >>> spec = torch.tensor([1.0, 3.0, 9.0]).view(1, 1, 3, 1)
    >>> mean, variance = moments(spec, torch.tensor([[True, True, False]]), (2, 3))
    >>> mean.item(), variance.item()
    (2.0, 1.0)
    """
    if real is None:
        mean = spec.mean(dims, keepdim=True)
        return mean, (spec - mean).square().mean(dims, keepdim=True)
    weight = real[:, None, :, None].to(spec.dtype)
    others = 1
    for dim in dims:
        others *= spec.shape[dim] if dim != 2 else 1
    count = (weight.sum(2, keepdim=True) * others).clamp(min=1)
    mean = (spec * weight).sum(dims, keepdim=True) / count
    return mean, ((spec - mean).square() * weight).sum(dims, keepdim=True) / count


def normalised(spec: Tensor, real: Tensor | None, dims: tuple[int, ...], eps: float) -> Tensor:
    """Compute ``(x - mean) / sqrt(variance + eps)`` with the moments of :func:`moments`.

    >>> normalised(torch.tensor([1.0, 3.0]).view(1, 1, 2, 1), None, (2, 3), 1e-5).flatten().round().tolist()
    [-1.0, 1.0]
    """
    first = spec
    for dim in dims:
        first = first.narrow(dim, 0, 1)
    # The result does not depend on a constant. Without this one, what is constant, such as digital silence, would give its
    # mean's rounding, divided by sqrt(eps): another one in each runtime.
    spec = spec - first
    mean, variance = moments(spec, real, dims)
    return (spec - mean) * (variance + eps).rsqrt()


def without_padding(spec: Tensor, real: Tensor | None) -> Tensor:
    """Set the frames of ``spec (B, C, T, F)`` that are padding to 0."""
    return spec if real is None else torch.where(real[:, None, :, None], spec, 0)
