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
        in_chans: channels C of the spectrogram.
    """

    def __init__(self, in_chans: int = 1) -> None:
        super().__init__()
        self.in_chans = in_chans

    def forward(self, spec: Tensor) -> Tensor:
        """Return ``spec (B, C, T, F)`` as it came; raises as :func:`specenhance.functional.check_spectrogram` does."""
        if not is_scripting():  # what it says is beyond TorchScript
            functional.check_spectrogram(spec, self.in_chans)
        return spec
