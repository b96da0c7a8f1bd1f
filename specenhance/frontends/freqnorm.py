"""Batch normalisation of each frequency bin."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from specenhance import functional
from specenhance.frontends.registry import register_frontend

__all__ = ["FreqNorm"]


@register_frontend("freqnorm")
class FreqNorm(nn.Module):
    """Normalise each frequency bin by its mean and variance over the batch and time, then scale and shift it by parameters.

    In evaluation the running moments of the training are used, as in :class:`torch.nn.BatchNorm1d`. Frames of padding count.

    Args:
        in_chans: The channels C of the spectrogram. Each channel has its own moments.
        bins: The number of frequency bins F. ``with_frontend`` takes it from the features.
        momentum: The part of a batch's moments in the new running moments.

    Raises:
        ValueError: for fewer than one bin.

    >>> import torch
    >>> FreqNorm(bins=16)(torch.randn(8, 1, 40, 16)).mean().abs() < 1e-5
    tensor(True)

    Source: ``bn0`` of PANNs, Kong et al., arXiv:1912.10211.
    """

    def __init__(self, in_chans: int = 1, bins: int = 128, momentum: float = 0.1) -> None:
        super().__init__()
        if bins < 1:
            raise ValueError(f"bins={bins}: expected 1 or more")
        self.in_chans, self.bins = in_chans, bins
        self.norm = nn.BatchNorm1d(in_chans * bins, momentum=momentum)

    def forward(self, spec: Tensor) -> Tensor:
        """Normalise ``spec (B, C, T, F)``.

        Raises:
            ValueError, TypeError: as :func:`specenhance.functional.check_spectrogram`. ValueError also for another F.
        """
        functional.check_spectrogram(spec, self.in_chans)
        functional.check_bins(spec, self.bins)
        flat = rearrange(spec, "b c t f -> b (c f) t")
        return rearrange(self.norm(flat), "b (c f) t -> b c t f", c=self.in_chans).to(spec.dtype)
