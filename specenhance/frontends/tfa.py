"""TFA: one Enhancer Block used alone, as wide as its input."""

from __future__ import annotations

from specenhance.frontends.mask import MaskFrontend
from specenhance.frontends.registry import register_frontend

__all__ = ["TFA"]


@register_frontend("tfa")
class TFA(MaskFrontend):
    """TFA, Time-Frequency Attention: one block whose mask has a channel for each of the C of the spectrogram.

    Maps ``(B, C, T, F)`` to the same shape and dtype. On a one-channel spectrogram it is TFE(1).

    Args:
        in_chans: channels C of the spectrogram, any number >= 1.
        kernel_size: taps of every convolution, odd.
        backend: ``"auto"``, ``"torch"`` or ``"triton"``, see :class:`~specenhance.frontends.mask.MaskFrontend`.

    Raises:
        ValueError: for an argument other than these.

    Source: Zhang et al., "Time-frequency attention for monaural speech enhancement", ICASSP 2022.
    """

    def __init__(self, in_chans: int = 1, kernel_size: int = 17, backend: str = "auto") -> None:
        super().__init__((in_chans, in_chans), kernel_size, backend)
