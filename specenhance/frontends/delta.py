"""First and second differences along time, as further channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specenhance import functional
from specenhance.frontends.registry import register_frontend

__all__ = ["Delta", "differences"]


def differences(spec: Tensor, window: int = 5) -> Tensor:
    """Compute the regression slope of each bin along time.

    ``d_t = sum of n * (x_(t+n) - x_(t-n)) / (2 * sum of n^2)`` for n from 1 to ``(window - 1) / 2``. The first and the last
    frame are repeated beyond the ends.

    Args:
        spec: the spectrogram ``(B, C, T, F)``.
        window: the number of frames, odd, 3 or more.

    >>> differences(torch.arange(6.0).view(1, 1, 6, 1)).flatten().tolist()
    [0.5, 0.8..., 1.0, 1.0, 0.8..., 0.5]
    """
    reach = window // 2
    T = spec.shape[2]
    padded = F.pad(spec, (0, 0, reach, reach), mode="replicate")
    total = torch.zeros_like(spec)
    for n in range(1, reach + 1):
        total = total + n * (padded[:, :, reach + n : reach + n + T] - padded[:, :, reach - n : reach - n + T])
    return total / (2 * sum(n * n for n in range(1, reach + 1)))


@register_frontend("delta")
class Delta(nn.Module):
    """Stack the spectrogram, its first differences and its second differences as channels: C become 3 C.

    A backbone with ImageNet weights reads the three channels of a one-channel spectrogram as they are.

    Args:
        in_chans: The channels C of the spectrogram.
        window: The number of frames of a difference, odd, 3 or more.

    Raises:
        ValueError: for another window.

    >>> Delta()(torch.rand(8, 1, 40, 16)).shape
    torch.Size([8, 3, 40, 16])

    Source: Furui, 1986; the formula is that of ``torchaudio.functional.compute_deltas``.
    """

    def __init__(self, in_chans: int = 1, window: int = 5) -> None:
        super().__init__()
        if window < 3 or window % 2 == 0:
            raise ValueError(f"window={window}: expected an odd number of frames, 3 or more")
        self.in_chans, self.out_chans, self.window = in_chans, 3 * in_chans, window

    def forward(self, spec: Tensor) -> Tensor:
        """Map ``spec (B, C, T, F)`` to ``(B, 3 C, T, F)``: itself, its first and its second differences.

        Raises:
            ValueError, TypeError: as :func:`specenhance.functional.check_spectrogram`.
        """
        functional.check_spectrogram(spec, self.in_chans)
        first = differences(spec, self.window)
        return torch.cat([spec, first, differences(first, self.window)], dim=1)
