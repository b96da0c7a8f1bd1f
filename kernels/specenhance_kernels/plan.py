"""The plan of a call: how it is cut into tiles, and which 1-D arrays it saves for backward.

This module does only arithmetic on shapes. Sizes may be symbolic (``torch.SymInt``), so no code branches on them.

Words: a path is time (length T) or frequency (length F). The chain cuts each path into tiles of :data:`TILE` positions. Two
convolutions follow each other inside one kernel, so tiles overlap by a halo; a tile owns ``span`` positions. The tiles of a
sample are numbered, those of the time path first. A *unit* is one tile of one sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

TILE = 128  # positions of a chain tile, halo included
POOL_T = 64  # frames of a tile of the 2-D kernels
POOL_F = 128  # bins of a tile of the 2-D kernels
MAX_SEGMENTS = 16  # maximum number of parts of the sum over units of the weights' gradients


def up(value: int, step: int) -> int:
    """Round ``value`` up to a multiple of ``step``."""
    return (value + step - 1) // step * step


@dataclass(frozen=True)
class Plan:
    """The plan of one call.

    Attributes:
        B, T, F: The batch, frames and bins of the spectrogram ``(B, C, T, F)``; C is ``channels[0]``.
        channels: The widths ``(c_0, ..., c_n)`` of the chain.
        kernel: The taps K of every convolution, an odd number.
        standardise: Whether each block's input is standardised.
    """

    B: int
    T: int
    F: int
    channels: tuple[int, ...]
    kernel: int
    standardise: bool = False

    @property
    def half(self) -> int:
        """The positions that one convolution reaches to either side."""
        return self.kernel // 2

    @property
    def span(self) -> int:
        """The positions that a chain tile owns: the tile without the halo of the second convolution."""
        return TILE - 2 * self.half

    @property
    def width(self) -> int:
        """The positions that are stored of a tile's input: the tile and the halo of the first convolution, rounded up."""
        return up(TILE + 2 * self.half, 16)

    @property
    def tiles_t(self) -> int:
        """The number of chain tiles of a sample's time path."""
        return (self.T + self.span - 1) // self.span

    @property
    def tiles(self) -> int:
        """The number of chain tiles of a sample, of both paths."""
        return self.tiles_t + (self.F + self.span - 1) // self.span

    @property
    def parts(self) -> int:
        """The number of time tiles of the 2-D kernels; each tile gives partial sums over time."""
        return (self.T + POOL_T - 1) // POOL_T

    @property
    def segments(self) -> int:
        """The number of parts of the sum over units of the weights' gradients, at most the units of the longer path."""
        return min(MAX_SEGMENTS, self.B * max(self.tiles_t, self.tiles - self.tiles_t))

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """The widths ``(c_in, c_out)`` of each block."""
        return list(pairwise(self.channels))

    def path_weights(self, block: int) -> int:
        """Count the values of one path's two weights and two biases."""
        c_in, c_out = self.blocks[block]
        return c_out * c_in * self.kernel + c_out + c_out * c_out * self.kernel + c_out

    @property
    def weights(self) -> int:
        """The number of parameters: the values of all weights and biases."""
        return sum(2 * self.path_weights(j) for j in range(len(self.blocks)))

    def saved_shapes(self) -> dict[str, tuple[int, ...]]:
        """Give the shapes of the saved arrays, float32, by name. Each has an axis B before the axes named here.

        ``rows (C, T)`` and ``cols (C, parts, F)`` are the pool's sums. The arrays of block j are: ``means.j (tiles, c_in)``,
        the factor of each tile's input; ``z.j (tiles, c_in, width)``, the product; ``hidden.j (tiles, c_out, width)``, the
        result of the first convolution; ``e_t.j (c_out, T)`` and ``e_f.j (c_out, F)``, the output; ``sums.j (tiles, c_out)``,
        the output's sum of each tile. If the input is standardised: ``centre.j (2, c_in)`` and ``scale.j (2, c_in)``, the mean
        and 1 / the standard deviation of each path's input.
        """
        C = self.channels[0]
        shapes: dict[str, tuple[int, ...]] = {"rows": (C, self.T), "cols": (C, self.parts, self.F)}
        for j, (c_in, c_out) in enumerate(self.blocks):
            shapes[f"means.{j}"] = (self.tiles, c_in)
            shapes[f"z.{j}"] = (self.tiles, c_in, self.width)
            shapes[f"hidden.{j}"] = (self.tiles, c_out, self.width)
            shapes[f"e_t.{j}"] = (c_out, self.T)
            shapes[f"e_f.{j}"] = (c_out, self.F)
            shapes[f"sums.{j}"] = (self.tiles, c_out)
            if self.standardise:
                shapes[f"centre.{j}"] = shapes[f"scale.{j}"] = (2, c_in)
        return {name: (self.B, *shape) for name, shape in shapes.items()}


def make_plan(shape: Sequence[int], weights: Sequence[Tensor], standardise: bool) -> Plan:
    """Make the plan from the spectrogram's shape ``(B, C, T, F)`` and the flat weights, 8 tensors per block."""
    B, _, T, F = shape
    channels = (weights[0].shape[1], *(weights[i].shape[0] for i in range(0, len(weights), 8)))
    return Plan(B, T, F, channels, weights[0].shape[2], standardise)
