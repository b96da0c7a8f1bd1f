"""What the mask front ends share: the Enhancer Block's weights, and the mask of a chain of blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from specenhance import functional
from specenhance.functional import BlockWeights, PathWeights

__all__ = ["BACKENDS", "EnhancerBlock", "MaskFrontend"]

BACKENDS = ("auto", "torch", "triton")


class EnhancerPath(nn.Module):
    """One path of an Enhancer Block: two 1-D convolutions ``c_in -> c_out -> c_out`` with bias and "same" padding."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(c_in, c_out, kernel_size, padding=kernel_size // 2)
        self.conv2 = nn.Conv1d(c_out, c_out, kernel_size, padding=kernel_size // 2)

    def weights(self) -> PathWeights:
        """The path's weights and biases for :mod:`specenhance.functional`."""
        return PathWeights(self.conv1.weight, self.conv1.bias, self.conv2.weight, self.conv2.bias)


class EnhancerBlock(nn.Module):
    """The weights of one Enhancer Block ``c_in -> c_out``: a time path and a frequency path that share nothing."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int) -> None:
        super().__init__()
        self.time = EnhancerPath(c_in, c_out, kernel_size)
        self.freq = EnhancerPath(c_in, c_out, kernel_size)

    def weights(self) -> BlockWeights:
        """The block's weights for :mod:`specenhance.functional`."""
        return BlockWeights(self.time.weights(), self.freq.weights())


class MaskFrontend(nn.Module):
    """A front end that weighs each frame and bin by a rank-one mask of a chain of Enhancer Blocks.

    Args:
        channels: widths ``(c_0, ..., c_n)`` of the chain; ``c_0 = c_n`` is the spectrogram's channel count.
        kernel_size: taps of every convolution, an odd number >= 1.
        backend: ``"auto"`` for the fused Triton kernels where they take the call, a CUDA or ROCm tensor within their limits,
            and else the factorised form in PyTorch; ``"torch"`` for the latter always; ``"triton"`` for the kernels always.

    Raises:
        ValueError: for widths, a kernel size or a backend other than these, or ``"triton"`` without Triton.
    """

    def __init__(self, channels: Sequence[int], kernel_size: int = 17, backend: str = "auto") -> None:
        super().__init__()
        channels = tuple(channels)
        if len(channels) < 2 or any(not isinstance(c, int) or c < 1 for c in channels) or channels[0] != channels[-1]:
            raise ValueError(
                f"channels={channels}: expected whole numbers >= 1, at least two, the first equal to the last"
            )
        if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size={kernel_size!r}: expected an odd number >= 1, so that frames keep their places"
            )
        if backend not in BACKENDS:
            raise ValueError(f"backend={backend!r}: expected one of {', '.join(BACKENDS)}")
        missing = functional.triton_missing() if backend == "triton" else None
        if missing is not None:
            raise ValueError(f"backend='triton': {missing}; or use backend='auto' or 'torch'")
        self.channels = channels
        self.kernel_size = kernel_size
        self.backend = backend
        self.blocks = nn.ModuleList(EnhancerBlock(a, b, kernel_size) for a, b in pairwise(channels))

    @property
    def in_chans(self) -> int:
        """Channels C of the spectrogram that this front end takes and gives."""
        return self.channels[0]

    def weights(self) -> list[BlockWeights]:
        """The blocks' weights, first to last, as :mod:`specenhance.functional` takes them."""
        return [block.weights() for block in cast(Iterable[EnhancerBlock], self.blocks)]

    def factors(self, spec: Tensor) -> tuple[Tensor, Tensor]:
        """Compute ``e_t (B, C, T)`` and ``e_f (B, C, F)``, of ``spec (B, C, T, F)``, each in (0, 1); always in PyTorch."""
        functional.check_spectrogram(spec, self.in_chans)
        return functional.factors(spec, self.weights())

    def mask(self, spec: Tensor) -> Tensor:
        """Compute the mask ``(B, C, T, F)`` of ``spec (B, C, T, F)``: the outer product of its factors, eq. (1)."""
        return functional.outer(*self.factors(spec))

    def forward(self, spec: Tensor) -> Tensor:
        """Weigh ``spec (B, C, T, F)`` by its mask, eq. (2); same shape and dtype.

        Raises:
            ValueError, TypeError: as :func:`specenhance.functional.check_spectrogram`; and ValueError for
                ``backend="triton"`` where the kernels cannot run, with the reason.
        """
        functional.check_spectrogram(spec, self.in_chans)
        return functional.enhance(spec, self.weights(), self.backend)

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return f"channels={self.channels}, kernel_size={self.kernel_size}, backend={self.backend!r}"
