"""The choice between PyTorch and the fused Triton kernels."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from specenhance._compat import is_forward_mode
from specenhance.functional import BlockWeights
from specenhance.mask_path.cpu import factors
from specenhance.mask_path.product import apply_factors

__all__ = ["enhance", "triton_missing"]

_log = logging.getLogger(__name__)
_logged: set[str] = set()


@torch.fx.wrap
def enhance(spec: Tensor, blocks: Sequence[BlockWeights], backend: str = "auto", standardise: bool = False) -> Tensor:
    """Weigh a spectrogram by a TFE's mask: ``S' = S * M_n``, eq. (2).

    Args:
        spec: The spectrogram ``(B, C, T, F)``.
        blocks: The weights of the blocks, first to last.
        backend: ``"torch"`` for the factorised form in PyTorch. ``"triton"`` for the fused kernels. ``"auto"`` for the fused
            kernels where they accept the call (a CUDA or ROCm tensor within their limits), else PyTorch.
        standardise: Whether each path first standardises its means along their axis.

    Returns:
        A tensor of the spectrogram's shape and dtype.

    Raises:
        ValueError: for ``"triton"`` where the kernels cannot run; the message has the reason and the cure.

    >>> from specenhance import TFE
    >>> enhance(torch.rand(2, 1, 40, 16), TFE(n=2).weights()).shape
    torch.Size([2, 1, 40, 16])
    """
    if backend == "torch":
        return apply_factors(spec, *factors(spec, blocks, standardise))
    weights = [weight for block in blocks for path in block for weight in path]
    if backend == "auto" and not spec.is_cuda:
        # The kernels are not asked: on a CPU, "auto" never imports Triton, interpreted or not.
        reason: str | None = f"the spectrogram is on {spec.device.type!r}, and the fused kernels are for CUDA and ROCm"
    else:
        reason = _fused_refusal(spec, weights)
    if reason is None:
        import specenhance_kernels

        # The kernels would have refused a None.
        return specenhance_kernels.enhance(spec, cast(list[Tensor], weights), standardise)
    if backend == "triton":
        raise ValueError(f"backend='triton' cannot run here: {reason}; or use backend='auto' or 'torch'")
    # Each reason is logged once, and not while compiling: a log line would break the graph.
    if not torch.compiler.is_compiling() and reason not in _logged:
        _logged.add(reason)
        _log.debug("backend='auto' uses the factorised form in PyTorch: %s", reason)
    return apply_factors(spec, *factors(spec, blocks, standardise))


def triton_missing() -> str | None:
    """Say why the fused kernels cannot be imported, or None if they can; imports nothing.

    >>> triton_missing() in (None, "Triton is not installed; on Linux pip install triton brings it")
    True
    """
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; on Linux pip install triton brings it"
    if importlib.util.find_spec("specenhance_kernels") is None:
        return "the module specenhance_kernels is not installed; install specenhance again"
    return None


def _fused_refusal(spec: Tensor, weights: Sequence[Tensor | None]) -> str | None:
    if is_forward_mode():
        return "a forward-mode derivative is computed, and the fused kernels have none"
    # Here, not at the top: only a call that may use Triton imports it.
    try:
        import specenhance_kernels
    except ImportError as error:
        return triton_missing() or f"Triton cannot be imported ({error}); install it again"
    return specenhance_kernels.refusal(spec, weights)
