"""What the mask front ends share: the Enhancer Block, and the mask of a chain of blocks.

Where every module of the chain is plain, its weights are read and given to :mod:`specenhance.mask_path`: that is fast. A module
that somebody has changed is called instead, because its weights no longer say what it computes. Such a change is a hook
(``torch.nn.utils.prune``, old ``weight_norm``, FSDP2), another class (parametrisation, a LoRA wrapper, a quantised convolution)
or a forward of its own. Both ways are the factorised form.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from specenhance import functional
from specenhance._compat import is_scripting
from specenhance.functional import BlockWeights, PathWeights
from specenhance.mask_path import cpu, dispatch, product

__all__ = ["BACKENDS", "EnhancerBlock", "MaskFrontend"]

BACKENDS = ("auto", "torch", "triton")


class EnhancerPath(nn.Module):
    """One path of an Enhancer Block: two 1-D convolutions ``c_in -> c_out -> c_out`` with bias and "same" padding.

    >>> EnhancerPath(1, 4, kernel_size=17)(torch.rand(8, 1, 40)).shape
    torch.Size([8, 4, 40])
    """

    def __init__(self, c_in: int, c_out: int, kernel_size: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(c_in, c_out, kernel_size, padding=kernel_size // 2)
        self.conv2 = nn.Conv1d(c_out, c_out, kernel_size, padding=kernel_size // 2)

    def weights(self) -> PathWeights:
        """Give the path's weights and biases, as :mod:`specenhance.functional` takes them."""
        return PathWeights(self.conv1.weight, self.conv1.bias, self.conv2.weight, self.conv2.bias)

    def forward(self, z: Tensor) -> Tensor:
        """Turn means ``(B, c_in, L)`` into the path's factor of the mask ``(B, c_out, L)``; each value is in (0, 1)."""
        return torch.sigmoid(self.conv2(torch.relu(self.conv1(z))))


class EnhancerBlock(nn.Module):
    """One Enhancer Block ``c_in -> c_out``: a time path and a frequency path. The two share no parameter.

    >>> e_t, e_f = EnhancerBlock(1, 4, kernel_size=17)(torch.rand(8, 1, 40), torch.rand(8, 1, 16))
    >>> e_t.shape, e_f.shape
    (torch.Size([8, 4, 40]), torch.Size([8, 4, 16]))
    """

    def __init__(self, c_in: int, c_out: int, kernel_size: int) -> None:
        super().__init__()
        self.time = EnhancerPath(c_in, c_out, kernel_size)
        self.freq = EnhancerPath(c_in, c_out, kernel_size)

    def weights(self) -> BlockWeights:
        """Give the block's weights, as :mod:`specenhance.functional` takes them."""
        return BlockWeights(self.time.weights(), self.freq.weights())

    def forward(self, z_t: Tensor, z_f: Tensor) -> tuple[Tensor, Tensor]:
        """Turn the means ``z_t (B, c_in, T)``, ``z_f (B, c_in, F)`` into the factors ``(B, c_out, T)``, ``(B, c_out, F)``."""
        return self.time(z_t), self.freq(z_f)


class MaskFrontend(nn.Module):
    """A front end that weighs each frame and bin by a rank-one mask of a chain of Enhancer Blocks.

    Args:
        channels: The widths ``(c_0, ..., c_n)`` of the chain; ``c_0 = c_n`` is the spectrogram's number of channels.
        kernel_size: The taps of every convolution, an odd number >= 1.
        backend: ``"torch"`` for PyTorch. ``"triton"`` for the fused Triton kernels. ``"auto"`` for the kernels where they
            accept the call (a CUDA or ROCm tensor within their limits), else PyTorch.
        standardise: Whether each path first standardises its means along their axis.

    Raises:
        ValueError: for widths, a kernel size or a backend other than these, or ``"triton"`` without Triton.

    >>> MaskFrontend(channels=(1, 8, 1), kernel_size=9)(torch.rand(8, 1, 40, 16)).shape
    torch.Size([8, 1, 40, 16])
    """

    __jit_unused_properties__ = ("in_chans",)  # TorchScript compiles every property that is not listed here

    def __init__(
        self, channels: Sequence[int], kernel_size: int = 17, backend: str = "auto", standardise: bool = False
    ) -> None:
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
        missing = dispatch.triton_missing() if backend == "triton" else None
        if missing is not None:
            raise ValueError(f"backend='triton': {missing}; or use backend='auto' or 'torch'")
        self.channels = channels
        self.kernel_size = kernel_size
        self.backend = backend
        self.standardise = standardise
        self.blocks: Any = nn.ModuleList(EnhancerBlock(a, b, kernel_size) for a, b in pairwise(channels))

    @property
    def in_chans(self) -> int:
        """The channels C of the spectrogram, in input and output."""
        return self.channels[0]

    def weights(self) -> list[BlockWeights]:
        """Give the blocks' weights, first to last, as :mod:`specenhance.functional` takes them."""
        return [block.weights() for block in self.blocks]

    def factors(self, spec: Tensor) -> tuple[Tensor, Tensor]:
        """Compute ``e_t (B, C, T)`` and ``e_f (B, C, F)`` of ``spec (B, C, T, F)``, in PyTorch; each value is in (0, 1)."""
        functional.check_spectrogram(spec, self.in_chans)
        weights = self._plain_weights()
        return (
            self._call_blocks(spec, self._dtype()) if weights is None else cpu.factors(spec, weights, self.standardise)
        )

    def mask(self, spec: Tensor) -> Tensor:
        """Compute the mask ``(B, C, T, F)`` of ``spec (B, C, T, F)``: the outer product of the factors, eq. (1)."""
        return functional.outer(*self.factors(spec))

    def forward(self, spec: Tensor) -> Tensor:
        """Weigh ``spec (B, C, T, F)`` by its mask, eq. (2). The result has the same shape and dtype.

        Raises:
            ValueError, TypeError: as :func:`specenhance.functional.check_spectrogram`.
            ValueError: for ``backend="triton"`` where the kernels cannot run; the message has the reason.
        """
        if is_scripting():
            e_t, e_f = self._call_blocks(spec, None)
            return spec * functional.outer(e_t, e_f).to(spec.dtype)
        functional.check_spectrogram(spec, self.in_chans)
        weights = self._plain_weights()
        if weights is not None:
            return dispatch.enhance(spec, weights, self.backend, self.standardise)
        if self.backend == "triton":
            raise ValueError(
                f"backend='triton' cannot run here: {self._changed()}, so that its weights do not say what it computes, "
                "and the kernels know nothing else; use backend='auto' or 'torch'"
            )
        return product.apply_factors(spec, *self._call_blocks(spec, self._dtype()))

    def _call_blocks(self, spec: Tensor, dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
        """Compute the factors by calling the blocks, whatever their modules do."""
        z_t, z_f = functional.pool(spec, dtype)
        e_t, e_f = z_t, z_f
        for block in self.blocks:
            if self.standardise:
                z_t, z_f = functional.standardised(z_t), functional.standardised(z_f)
            e_t, e_f = block(z_t, z_f)
            z_t, z_f = functional.next_means(e_t, e_f)
        return e_t, e_f

    def _plain_weights(self) -> list[BlockWeights] | None:
        """Give the blocks' weights, or None where a module of the chain is not plain and must be called."""
        if _has_any_global_hook():
            return None
        weights = []
        for block in self.blocks._modules.values():
            if not _is_plain(block, EnhancerBlock):
                return None
            paths = []
            for path in (block._modules["time"], block._modules["freq"]):
                if not _is_plain(path, EnhancerPath):
                    return None
                conv1, conv2 = path._modules["conv1"], path._modules["conv2"]
                if not (_is_plain(conv1, nn.Conv1d) and _is_plain(conv2, nn.Conv1d)):
                    return None
                one, two = conv1._parameters, conv2._parameters
                paths.append(PathWeights(one["weight"], one["bias"], two["weight"], two["bias"]))
            weights.append(BlockWeights(*paths))
        return weights

    def _changed(self) -> str:
        """Say which module is not plain, for a message."""
        kinds = {1: EnhancerBlock, 2: EnhancerPath, 3: nn.Conv1d}
        for name, module in self.blocks.named_modules():
            kind = kinds.get(len(name.split(".")) if name else 0)
            if kind and not _is_plain(module, kind):
                return f"blocks.{name} is no plain {kind.__name__}: it is another class, or has a hook or a forward of its own"
        return "there is a hook on every module (torch.nn.modules.module.register_module_forward_hook or the like)"

    def _dtype(self) -> torch.dtype | None:
        return next((p.dtype for p in self.blocks.parameters() if p.is_floating_point()), None)

    def __deepcopy__(self, memo: dict[int, Any]) -> MaskFrontend:
        # prune and old weight_norm keep a product of parameters, which PyTorch does not copy. Every call makes it anew, so
        # the copy takes its values.
        for module in self.modules():
            for value in vars(module).values():
                if isinstance(value, Tensor) and not value.is_leaf:
                    memo[id(value)] = value.detach().clone()
        memo[id(self)] = new = type(self).__new__(type(self))
        new.__dict__ = copy.deepcopy(self.__dict__, memo)
        return new

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return f"channels={self.channels}, kernel_size={self.kernel_size}, backend={self.backend!r}"


def _is_plain(module: Any, kind: type[nn.Module]) -> bool:
    """Whether a module of the chain computes what its class says, and a call would do nothing else."""
    if (
        type(module) is not kind
        or module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    ):
        return False
    return kind is not nn.Conv1d or _is_same(module)


def _is_same(conv: Any) -> bool:
    """Whether a convolution is the one of :class:`EnhancerPath`: "same" padding by zeros, no stride, dilation or groups."""
    taps = conv.kernel_size[0]
    return bool(
        taps % 2 == 1
        and conv.padding == (taps // 2,)
        and conv.padding_mode == "zeros"
        and conv.stride == conv.dilation == (1,)
        and conv.groups == 1
    )
