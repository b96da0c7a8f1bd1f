"""The identity front end: the bare backbone, under the same interface."""

from __future__ import annotations

from torch import Tensor, nn

from specenhance import functional
from specenhance._compat import is_scripting
from specenhance.frontends.registry import register_frontend

__all__ = ["Identity"]


@register_frontend("identity")
class Identity(nn.Module):
    """Return the spectrogram ``(B, C, T, F)`` itself, the same tensor.

    Args:
        in_chans: The channels C of the spectrogram.

    >>> import torch
    >>> spec = torch.zeros(8, 1, 40, 16)
    >>> Identity()(spec) is spec
    True
    """

    def __init__(self, in_chans: int = 1) -> None:
        super().__init__()
        self.in_chans = in_chans

    def forward(self, spec: Tensor) -> Tensor:
        """Return ``spec (B, C, T, F)`` unchanged.

        Raises:
            ValueError, TypeError: as :func:`specenhance.functional.check_spectrogram`.
        """
        if not is_scripting():  # TorchScript cannot compile the messages of the check
            functional.check_spectrogram(spec, self.in_chans)
        return spec
