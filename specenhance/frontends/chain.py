"""Front ends one behind the other: what ``"clipnorm+tfe4"`` names."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from specenhance import functional
from specenhance.frontends.base import apply_frontend, needs_energies, out_channels, uses_real_frames

__all__ = ["Chain", "MaskChain", "chain"]


class Chain(nn.Module):
    """Front ends in a chain. The result of each is the input of the next.

    Args:
        links: The front ends, first to last. Each knows its channels, ``in_chans`` and, if they are others, ``out_chans``.

    Attributes:
        in_chans: The channels C of the spectrogram.
        out_chans: The channels of the result.

    Raises:
        ValueError: for channels that do not fit together, and for a link that needs energies behind another one.

    >>> import torch
    >>> from specenhance import create_frontend
    >>> create_frontend("clipnorm+delta")(torch.rand(8, 1, 40, 16)).shape
    torch.Size([8, 3, 40, 16])
    """

    def __init__(self, links: Sequence[nn.Module]) -> None:
        super().__init__()
        if not links:
            raise ValueError("a chain of front ends needs one or more")
        first = links[0]
        self.in_chans: int = getattr(first, "in_chans", 1)
        chans = self.in_chans
        for link in links:
            name = type(link).__name__
            if getattr(link, "in_chans", chans) != chans:
                raise ValueError(f"{name} takes {link.in_chans} channels, and the link before it gives {chans}")
            if link is not first and needs_energies(link):
                raise ValueError(f"{name} needs the features' own energies: expected it at the start of the chain")
            chans = out_channels(link, chans)
        self.out_chans = chans
        self.links = nn.ModuleList(links)
        self.needs_energies = needs_energies(first)
        self.uses_real_frames = any(map(uses_real_frames, links))

    def set_normalisation(self, mean: float, std: float) -> None:
        """Tell the first link the features' normalisation, if it needs energies."""
        if self.needs_energies:
            self.links[0].set_normalisation(mean, std)  # type: ignore[operator]

    def forward(self, spec: Tensor, real: Tensor | None = None) -> Tensor:
        """Map ``spec (B, C, T, F)`` through all links. ``real (B, T)`` is False for a frame of padding."""
        for link in self.links:
            spec = apply_frontend(link, spec, real)
        return spec


class MaskChain(Chain):
    """A chain one of whose links has a mask. Its mask is that of the last such link, on what the links before it make.

    >>> import torch
    >>> from specenhance import create_frontend
    >>> e_t, e_f = create_frontend("clipnorm+tfe4").factors(torch.rand(8, 1, 40, 16))
    >>> e_t.shape, e_f.shape
    (torch.Size([8, 1, 40]), torch.Size([8, 1, 16]))
    """

    def factors(self, spec: Tensor, real: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute the mask's factors ``(B, C, T)`` and ``(B, C, F)`` for ``spec (B, C, T, F)``."""
        *before, masking = self._up_to_mask()
        for link in before:
            spec = apply_frontend(link, spec, real)
        return masking.factors(spec)  # type: ignore[operator]

    def mask(self, spec: Tensor, real: Tensor | None = None) -> Tensor:
        """Compute the mask ``(B, C, T, F)`` for ``spec (B, C, T, F)``: the outer product of the factors."""
        return functional.outer(*self.factors(spec, real))

    def _up_to_mask(self) -> list[nn.Module]:
        links = list(self.links)
        return links[: max(i for i, link in enumerate(links) if hasattr(link, "factors")) + 1]


def chain(links: Sequence[nn.Module]) -> Chain:
    """Make a chain of front ends; one with a mask has its methods ``factors`` and ``mask``.

    It raises as :class:`Chain`.

    >>> from specenhance import create_frontend
    >>> hasattr(chain([create_frontend("clipnorm"), create_frontend("tfe1")]), "mask")
    True
    """
    return (MaskChain if any(hasattr(link, "factors") for link in links) else Chain)(links)
