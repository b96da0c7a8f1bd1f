"""TFE(n): a chain of n Enhancer Blocks, the paper's front end."""

from __future__ import annotations

from collections.abc import Sequence

from specenhance.frontends.mask import MaskFrontend
from specenhance.frontends.registry import register_frontend

__all__ = ["TFE", "tfe_channels"]

MOST_BLOCKS = 64


def tfe_channels(n: int, in_chans: int = 1) -> tuple[int, ...]:
    """Give the widths ``(c_0, ..., c_n)`` of TFE(n).

    ``(1, 32, 1)`` for n = 2 is the paper's; the paper does not state n = 4's, and ``(1, 16, 32, 16, 1)`` meets its
    parameter count. Other n: ``(1, 1)``, ``(1, 32, 32, 1)``, and from 4 on ``(1, 16, 32, ..., 32, 16, 1)``.

    Args:
        n: blocks.
        in_chans: channels of the spectrogram, the first and last width.

    Raises:
        ValueError: if n is not from 1 to 64: a longer chain is a slip of the pen, and slower with every block.
    """
    if not isinstance(n, int) or not 1 <= n <= MOST_BLOCKS:
        raise ValueError(f"n={n!r}: expected a whole number of Enhancer Blocks from 1 to {MOST_BLOCKS}")
    inner = (32,) * (n - 1) if n < 4 else (16, *(32,) * (n - 3), 16)
    return (in_chans, *inner, in_chans)


@register_frontend("tfe{n}", listed=(1, 2, 4))
class TFE(MaskFrontend):
    """TFE(n), the Time-Frequency Enhancer: n Enhancer Blocks in a chain, the last mask weighs the spectrogram.

    Maps ``(B, C, T, F)`` to the same shape and dtype, for any T, F >= 1.

    Args:
        in_chans: channels C of the spectrogram.
        n: blocks.
        kernel_size: taps of every convolution, odd; 17 gives the published parameter counts.
        channels: widths ``(c_0, ..., c_n)`` instead of :func:`tfe_channels`; the first and last must be ``in_chans``.
        backend: ``"auto"``, ``"torch"`` or ``"triton"``, see :class:`~specenhance.frontends.mask.MaskFrontend`.

    Raises:
        ValueError: for an argument other than these, or widths that do not fit n and in_chans.

    Source: Xing et al., "Enhancing Spectrogram for Audio Classification Using Time-Frequency Enhancer", eq. (1) and (2).
    """

    def __init__(
        self,
        in_chans: int = 1,
        n: int = 4,
        kernel_size: int = 17,
        channels: Sequence[int] | None = None,
        backend: str = "auto",
    ) -> None:
        widths = tfe_channels(n, in_chans)
        if channels is not None:
            if len(channels) != n + 1 or channels[0] != in_chans or channels[-1] != in_chans:
                raise ValueError(
                    f"channels={tuple(channels)}: expected {n + 1} widths for n={n}, the first and last in_chans={in_chans}"
                )
            widths = tuple(channels)
        super().__init__(widths, kernel_size, backend)
