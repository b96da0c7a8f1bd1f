"""Relaxed instance frequency-wise normalisation: between the normalisation of a clip and that of each of its bins."""

from __future__ import annotations

from torch import Tensor, nn

from specenhance import functional
from specenhance.frontends.base import at_least_float32, normalised, without_padding
from specenhance.frontends.registry import register_frontend

__all__ = ["RelaxedNorm"]


@register_frontend("rfn")
class RelaxedNorm(nn.Module):
    """Mix the normalisation of a whole clip (LN) with that of each of its bins (IFN).

    ``y = relax * LN(x) + (1 - relax) * IFN(x)``. LN uses the mean and variance over channels, real frames and bins, IFN those
    over channels and real frames. IFN removes what is constant in a bin, such as the response of a microphone, and some of
    the sound with it. LN keeps a part of that. A frame of padding becomes 0.

    Args:
        in_chans: The channels C of the spectrogram.
        relax: The part of LN, from 0 to 1.
        eps: A number that is added to the variances, against division by 0.

    Raises:
        ValueError: for ``relax`` out of range, and for ``eps`` that is not greater than 0.

    >>> import torch
    >>> RelaxedNorm()(torch.randn(8, 1, 40, 16)).shape
    torch.Size([8, 1, 40, 16])

    Source: Kim et al., "Domain Generalization with Relaxed Instance Frequency-wise Normalization for Multi-device Acoustic
    Scene Classification", Interspeech 2022, arXiv:2206.12513, eq. (2) to (4).
    """

    uses_real_frames = True

    def __init__(self, in_chans: int = 1, relax: float = 0.5, eps: float = 1e-5) -> None:
        super().__init__()
        if not 0 <= relax <= 1:
            raise ValueError(f"relax={relax}: expected a part from 0 to 1")
        if not eps > 0:
            raise ValueError(f"eps={eps}: expected more than 0")
        self.in_chans, self.relax, self.eps = in_chans, relax, eps

    def forward(self, spec: Tensor, real: Tensor | None = None) -> Tensor:
        """Normalise ``spec (B, C, T, F)``. ``real (B, T)`` is False for a frame of padding.

        Raises:
            ValueError, TypeError: as :func:`specenhance.functional.check_spectrogram`.
        """
        functional.check_spectrogram(spec, self.in_chans)
        exact = at_least_float32(spec)
        of_clip, of_bin = (normalised(exact, real, dims, self.eps) for dims in ((1, 2, 3), (1, 2)))
        mixed = self.relax * of_clip + (1 - self.relax) * of_bin
        return without_padding(mixed, real).to(spec.dtype)

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return f"in_chans={self.in_chans}, relax={self.relax}, eps={self.eps}"
