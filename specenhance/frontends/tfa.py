"""TFA: a single Enhancer Block, as wide as its input."""

from __future__ import annotations

from specenhance.frontends.mask import MaskFrontend
from specenhance.frontends.registry import register_frontend

__all__ = ["TFA"]


@register_frontend("tfa")
class TFA(MaskFrontend):
    """TFA, Time-Frequency Attention: one Enhancer Block. Its mask has as many channels as the spectrogram.

    TFA maps ``(B, C, T, F)`` to the same shape and dtype. On a one-channel spectrogram it is TFE(1).

    Args:
        in_chans: The channels C of the spectrogram, 1 or more.
        kernel_size: The taps of every convolution, an odd number.
        backend: ``"auto"``, ``"torch"`` or ``"triton"``, see :class:`~specenhance.frontends.mask.MaskFrontend`.

    Raises:
        ValueError: for an argument other than these.

    >>> import torch
    >>> TFA(in_chans=2)(torch.rand(8, 2, 40, 16)).shape
    torch.Size([8, 2, 40, 16])

    Source: Zhang et al., "Time-frequency attention for monaural speech enhancement", ICASSP 2022.
    """

    def __init__(self, in_chans: int = 1, kernel_size: int = 17, backend: str = "auto") -> None:
        super().__init__((in_chans, in_chans), kernel_size, backend)
