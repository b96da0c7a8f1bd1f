"""SincNet: band-pass filters that learn only their two edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from specenhance.features.base import LOG_FLOOR, FilterFeatures, mel_edges
from specenhance.features.registry import register_features

__all__ = ["SincNet"]

LEAST = 50.0  # Hz: the lowest edge, and the smallest width of a band


@register_features("sincnet")
class SincNet(FilterFeatures):
    """The logarithm of the mean power in bands whose edges learn.

    The filter of a bin passes the band from f1 to f2:
    ``g(n) = (sin(2 pi f2 n) - sin(2 pi f1 n)) / (2 pi (f2 - f1) n) * (0.54 + 0.46 cos(2 pi n / K))``, with g(0) = 1 and the
    frequencies as parts of the sample rate. A frame's energy is the mean of the square of ``x * g`` over K samples. K is the
    length of the filters too, so a frame sees 2 K - 1 samples.

    Args:
        frames: The frames T of the result, which is padded with 0 or cut at its end; None keeps all frames and adds none.
        sample_rate: The sample rate of the waveform, in Hz.
        num_mel_bins: The number of filters F.
        frame_length: The length K of the filters and of the frames, in seconds. It is made an odd number of samples.
        frame_shift: The time from one frame to the next, in seconds.
        mean: The mean of the log energies.
        std: The standard deviation of the log energies; the result is ``(x - mean) / (2 * std)``, by default x itself.

    Attributes:
        low: The learned change (F,) of the lower edge. It is the logarithm of a factor, 0 at the start.
        band: The learned change (F,) of the band's width. It is the logarithm of a factor, 0 at the start.
        frequencies: The middles of the bands before training, in Hz.
        hop_seconds: The time from one frame to the next, in seconds.

    Raises:
        ValueError: for frames, num_mel_bins, lengths or std out of range.

    >>> features = SincNet(frames=64, num_mel_bins=40)
    >>> features(torch.zeros(2, 16000)).shape
    torch.Size([2, 1, 64, 40])

    Source: Ravanelli and Bengio, "Speaker Recognition from Raw Waveform with SincNet", SLT 2018, arXiv:1808.00158, eq. (4) to
    (7). The first edges are those of speechbrain's ``SincConv``. The energies take the place of the paper's further layers.
    """

    first_low: Tensor
    first_band: Tensor

    def __init__(
        self,
        frames: int | None = None,
        *,
        sample_rate: int = 16000,
        num_mel_bins: int = 128,
        frame_length: float = 0.025,
        frame_shift: float = 0.010,
        mean: float = 0.0,
        std: float = 0.5,
    ) -> None:
        edges = np.array(mel_edges(num_mel_bins + 1, LEAST, sample_rate / 2 - 2 * LEAST))
        low, band = LEAST + edges[:-1], LEAST + np.diff(edges)
        super().__init__(frames, sample_rate, (low + band / 2).tolist(), frame_length, frame_shift, mean, std)
        self._keep("first_low", low)
        self._keep("first_band", band)
        self.low = nn.Parameter(torch.zeros(num_mel_bins))
        self.band = nn.Parameter(torch.zeros(num_mel_bins))

    def filters(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Compute the filters (F, K)."""
        most = self.sample_rate / 2
        first_low, first_band, low, band = (x.to(dtype) for x in (self.first_low, self.first_band, self.low, self.band))
        low = (first_low * low.exp()).clamp(max=most - LEAST)
        high = (low + first_band * band.exp()).clamp(max=most)
        n = torch.arange(1, self.middle + 1, dtype=dtype, device=low.device)
        turn = 2 * math.pi / self.sample_rate * n
        right = ((high[:, None] * turn).sin() - (low[:, None] * turn).sin()) / ((high - low)[:, None] * turn)
        right = right * (0.54 + 0.46 * (2 * math.pi / (2 * self.middle + 1) * n).cos())
        return torch.cat([right.flip(1), torch.ones_like(right[:, :1]), right], dim=1)

    def analysis(self, wave: Tensor) -> Callable[[Tensor], Tensor]:
        """Give the function that maps rows of ``wave`` to log energies."""
        return partial(self._energies, self.filters(wave.dtype)[:, None])

    def _energies(self, filters: Tensor, wave: Tensor) -> Tensor:
        power = F.conv1d(wave[:, None], filters).square()
        power = F.avg_pool1d(power, filters.shape[2], self.hop_length)
        return rearrange(power, "b f t -> b t f").clamp(min=LOG_FLOOR).log()
