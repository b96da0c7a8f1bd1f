"""TFE(n) with standardised means: the same chain, whose masks follow the clip."""

from __future__ import annotations

from collections.abc import Sequence

from specenhance.frontends.registry import register_frontend
from specenhance.frontends.tfe import TFE

__all__ = ["StandardisedTFE"]


@register_frontend("tfe{n}s", listed=(1, 2, 4))
class StandardisedTFE(TFE):
    """TFE(n) in which each path first gives its means mean 0 and variance 1 along their axis. It has TFE(n)'s parameters.

    Each block of a TFE passes on a small part of its input's variation, so the mask of a chain tends to be the same for every
    clip, and a path whose ReLU is off everywhere stays so. With standardised means neither happens.

    Args:
        in_chans: The channels C of the spectrogram.
        n: The number of blocks.
        kernel_size: The taps of every convolution, an odd number.
        channels: The widths, see :class:`~specenhance.frontends.tfe.TFE`.
        backend: ``"auto"``, ``"torch"`` or ``"triton"``, see :class:`~specenhance.frontends.mask.MaskFrontend`.

    Raises:
        ValueError: as :class:`~specenhance.frontends.tfe.TFE`.

    >>> import torch
    >>> frontend = StandardisedTFE(n=4)
    >>> e_t, e_f = frontend.factors(torch.randn(8, 1, 40, 16))
    >>> bool(e_t.std(0).mean() > 1e-3)
    True
    """

    def __init__(
        self,
        in_chans: int = 1,
        n: int = 4,
        kernel_size: int = 17,
        channels: Sequence[int] | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__(in_chans, n, kernel_size, channels, backend)
        self.standardise = True
