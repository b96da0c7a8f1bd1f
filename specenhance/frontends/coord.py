"""The frequency of each bin as a further channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from specenhance import functional
from specenhance.frontends.registry import register_frontend

__all__ = ["Coord"]


@register_frontend("coord")
class Coord(nn.Module):
    """Add a channel that holds the place of each bin, from -1 for the lowest to 1 for the highest: C become C + 1.

    A convolution does not know at which frequency it is. With this channel it does.

    Args:
        in_chans: The channels C of the spectrogram.

    >>> Coord()(torch.zeros(1, 1, 1, 5))[0, 1].tolist()
    [[-1.0, -0.5, 0.0, 0.5, 1.0]]

    Source: Koutini et al., "Receptive-Field Regularized CNNs for Music Classification and Tagging" and "CP-JKU Submissions to
    DCASE'19", frequency-aware convolution; Liu et al., CoordConv, arXiv:1807.03247.
    """

    def __init__(self, in_chans: int = 1) -> None:
        super().__init__()
        self.in_chans, self.out_chans = in_chans, in_chans + 1

    def forward(self, spec: Tensor) -> Tensor:
        """Map ``spec (B, C, T, F)`` to ``(B, C + 1, T, F)``.

        Raises:
            ValueError, TypeError: as :func:`specenhance.functional.check_spectrogram`.
        """
        functional.check_spectrogram(spec, self.in_chans)
        B, _, T, F = spec.shape
        place = torch.linspace(-1, 1, F, dtype=spec.dtype, device=spec.device) if F > 1 else spec.new_zeros(1)
        return torch.cat([spec, place.expand(B, 1, T, F)], dim=1)
