"""Normalisation of each clip by its own moments: over all bins together, or bin by bin."""

from __future__ import annotations

from torch import Tensor, nn

from specenhance import functional
from specenhance.frontends.base import at_least_float32, normalised, without_padding
from specenhance.frontends.registry import register_frontend

__all__ = ["BinNorm", "ClipNorm"]


@register_frontend("clipnorm")
class ClipNorm(nn.Module):
    """Normalise each clip and channel by its own mean and variance over real frames and all bins.

    ``y = (x - mean) / sqrt(variance + eps)``. A frame of padding becomes 0. A clip that is louder by a constant number of
    decibels gives the same result.

    Args:
        in_chans: The channels C of the spectrogram.
        eps: A number that is added to the variance, against division by 0.

    Raises:
        ValueError: for ``eps`` that is not greater than 0.

    >>> import torch
    >>> spec = torch.randn(8, 1, 40, 16)
    >>> bool(torch.allclose(ClipNorm()(spec), ClipNorm()(spec + 3), atol=1e-4))
    True

    Source: instance normalisation, Ulyanov et al., arXiv:1607.08022, without parameters.
    """

    uses_real_frames = True
    dims: tuple[int, ...] = (2, 3)

    def __init__(self, in_chans: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        if not eps > 0:
            raise ValueError(f"eps={eps}: expected more than 0")
        self.in_chans, self.eps = in_chans, eps

    def forward(self, spec: Tensor, real: Tensor | None = None) -> Tensor:
        """Normalise ``spec (B, C, T, F)``. ``real (B, T)`` is False for a frame of padding.

        Raises:
            ValueError, TypeError: as :func:`specenhance.functional.check_spectrogram`.
        """
        functional.check_spectrogram(spec, self.in_chans)
        found = normalised(at_least_float32(spec), real, self.dims, self.eps)
        return without_padding(found, real).to(spec.dtype)

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return f"in_chans={self.in_chans}, eps={self.eps}"


@register_frontend("binnorm")
class BinNorm(ClipNorm):
    """Normalise each bin of each clip and channel by its own mean and variance over real frames.

    ``y = (x - mean) / sqrt(variance + eps)``. A frame of padding becomes 0. What is constant in time, such as the frequency
    response of a microphone, does not change the result.

    Args:
        in_chans: The channels C of the spectrogram.
        eps: A number that is added to the variance, against division by 0.

    Raises:
        ValueError: for ``eps`` that is not greater than 0.

    >>> import torch
    >>> spec, response = torch.randn(8, 1, 40, 16), torch.randn(16)
    >>> bool(torch.allclose(BinNorm()(spec), BinNorm()(spec + response), atol=1e-4))
    True

    Source: cepstral mean and variance normalisation, Viikki and Laurila, 1998, on log energies.
    """

    dims = (2,)
