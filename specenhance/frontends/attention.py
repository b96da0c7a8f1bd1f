"""Attention layers of timm before the backbone."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from specenhance import functional
from specenhance.frontends.registry import register_frontend

__all__ = ["AttentionFrontend", "ConvBlockAttention", "CoordAttention", "EfficientChannelAttention"]


class AttentionFrontend(nn.Module):
    """A layer of timm that weighs a spectrogram ``(B, C, T, F)`` and keeps its shape.

    Args:
        in_chans: The channels C of the spectrogram.
        layer: The layer.
    """

    def __init__(self, in_chans: int, layer: nn.Module) -> None:
        super().__init__()
        self.in_chans, self.layer = in_chans, layer

    def forward(self, spec: Tensor) -> Tensor:
        """Weigh ``spec (B, C, T, F)``.

        Raises:
            ValueError, TypeError: as :func:`specenhance.functional.check_spectrogram`.
        """
        functional.check_spectrogram(spec, self.in_chans)
        return self.layer(spec).to(spec.dtype)


@register_frontend("coordattn")
class CoordAttention(AttentionFrontend):
    """Coordinate attention: one gate for each frame and one for each bin, from their means, through a shared layer.

    Args:
        in_chans: The channels C of the spectrogram.
        **arguments: Further arguments of ``timm.layers.coord_attn.CoordAttn``, such as ``rd_channels``.

    >>> import torch
    >>> CoordAttention()(torch.rand(8, 1, 40, 16)).shape
    torch.Size([8, 1, 40, 16])

    Source: Hou et al., arXiv:2103.02907.
    """

    def __init__(self, in_chans: int = 1, **arguments: Any) -> None:
        from timm.layers.coord_attn import CoordAttn  # timm is loaded only by those who use it

        super().__init__(in_chans, CoordAttn(in_chans, **arguments))


@register_frontend("cbam")
class ConvBlockAttention(AttentionFrontend):
    """CBAM: a gate for each channel, and then a gate for each place, from a 7 x 7 convolution of mean and maximum.

    Args:
        in_chans: The channels C of the spectrogram.
        **arguments: Further arguments of ``timm.layers.cbam.CbamModule``, such as ``spatial_kernel_size``.

    >>> import torch
    >>> ConvBlockAttention()(torch.rand(8, 1, 40, 16)).shape
    torch.Size([8, 1, 40, 16])

    Source: Woo et al., arXiv:1807.06521.
    """

    def __init__(self, in_chans: int = 1, **arguments: Any) -> None:
        from timm.layers.cbam import CbamModule

        super().__init__(in_chans, CbamModule(in_chans, **arguments))


@register_frontend("eca")
class EfficientChannelAttention(AttentionFrontend):
    """ECA: a gate for each channel, from a short convolution over the channels' means.

    On one channel it is one gate for the whole clip. Use it behind a front end that makes channels, such as ``delta+eca``.

    Args:
        in_chans: The channels C of the spectrogram.
        **arguments: Further arguments of ``timm.layers.EcaModule``, such as ``gamma``.

    >>> import torch
    >>> EfficientChannelAttention(in_chans=3)(torch.rand(8, 3, 40, 16)).shape
    torch.Size([8, 3, 40, 16])

    Source: Wang et al., arXiv:1910.03151.
    """

    def __init__(self, in_chans: int = 1, **arguments: Any) -> None:
        from timm.layers import EcaModule

        super().__init__(in_chans, EcaModule(in_chans, **arguments))
