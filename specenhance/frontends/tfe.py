"""TFE(n): a chain of n Enhancer Blocks, the paper's front end."""

from __future__ import annotations

from collections.abc import Sequence

from specenhance.frontends.mask import MaskFrontend
from specenhance.frontends.registry import register_frontend

__all__ = ["TFE", "tfe_channels"]

MOST_BLOCKS = 64


def tfe_channels(n: int, in_chans: int = 1) -> tuple[int, ...]:
    """Give the widths ``(c_0, ..., c_n)`` of TFE(n).

    The paper gives the widths of n = 2. It does not give those of n = 4; ``(1, 16, 32, 16, 1)`` has its number of parameters.

    Args:
        n: The number of blocks.
        in_chans: The channels of the spectrogram; the first and the last width.

    Raises:
        ValueError: if n is not from 1 to 64. A longer chain is most likely a mistake, and each block costs time.

    >>> for n in (1, 2, 3, 4, 5):
    ...     print(tfe_channels(n))
    (1, 1)
    (1, 32, 1)
    (1, 32, 32, 1)
    (1, 16, 32, 16, 1)
    (1, 16, 32, 32, 16, 1)
    """
    if not isinstance(n, int) or not 1 <= n <= MOST_BLOCKS:
        raise ValueError(f"n={n!r}: expected a whole number of Enhancer Blocks from 1 to {MOST_BLOCKS}")
    inner = (32,) * (n - 1) if n < 4 else (16, *(32,) * (n - 3), 16)
    return (in_chans, *inner, in_chans)


@register_frontend("tfe{n}", listed=(1, 2, 4))
class TFE(MaskFrontend):
    """TFE(n), the Time-Frequency Enhancer: a chain of n Enhancer Blocks. The last block's mask weighs the spectrogram.

    TFE maps ``(B, C, T, F)`` to the same shape and dtype, for any T, F >= 1.

    Args:
        in_chans: The channels C of the spectrogram.
        n: The number of blocks.
        kernel_size: The taps of every convolution, an odd number; 17 gives the published numbers of parameters.
        channels: The widths ``(c_0, ..., c_n)``, the first and last equal to ``in_chans``; None takes :func:`tfe_channels`.
        backend: ``"auto"``, ``"torch"`` or ``"triton"``, see :class:`~specenhance.frontends.mask.MaskFrontend`.

    Raises:
        ValueError: for an argument other than these, or widths that do not fit n and in_chans.

    >>> import torch
    >>> frontend = TFE(n=2)
    >>> spec = torch.rand(8, 1, 40, 16)
    >>> frontend(spec).shape
    torch.Size([8, 1, 40, 16])
    >>> frontend.mask(spec).shape
    torch.Size([8, 1, 40, 16])
    >>> sum(parameter.numel() for parameter in frontend.parameters())
    37158

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
