"""The product of a spectrogram and its mask, with a gradient that writes fewer large tensors than autograd's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from specenhance._compat import is_exporting, is_forward_mode, is_transformed

__all__ = ["apply_factors", "own_gradients"]


def own_gradients() -> bool:
    """Whether this package's own gradients are used: in reverse mode only.

    PyTorch computes a forward-mode derivative of a forward-mode derivative of such a function wrongly, without an error.

    >>> own_gradients()
    True
    >>> with torch.no_grad():
    ...     own_gradients()
    False
    """
    return torch.is_grad_enabled() and not is_exporting() and not is_forward_mode()


@torch.fx.wrap
def apply_factors(spec: Tensor, e_t: Tensor, e_f: Tensor) -> Tensor:
    """Weigh a spectrogram ``(B, C, T, F)`` by the mask of ``e_t (B, C, T)`` and ``e_f (B, C, F)``; eq. (2).

    It gives what :func:`specenhance.functional.apply_factors` gives. The result has the spectrogram's dtype.

    >>> apply_factors(torch.ones(1, 1, 2, 3), torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 4.0, 5.0]]]))
    tensor([[[[ 3.,  4.,  5.],
              [ 6.,  8., 10.]]]])
    """
    e_t, e_f = e_t.to(spec.dtype), e_f.to(spec.dtype)
    if own_gradients():
        return _ApplyFactors.apply(spec, e_t, e_f)
    return _apply_factors(spec, e_t, e_f)


def _apply_factors(spec: Tensor, e_t: Tensor, e_f: Tensor) -> Tensor:
    product = spec * e_t.unsqueeze(-1)
    # In place saves a tensor of the spectrogram's size. Under vmap the product may be one while the factor is several.
    return product * e_f.unsqueeze(-2) if is_transformed() else product.mul_(e_f.unsqueeze(-2))


class _ApplyFactors(torch.autograd.Function):
    """The product. Its gradient is two matrix products of ``dS' * S``; autograd would write four tensors of that size."""

    generate_vmap_rule = True

    @staticmethod
    def forward(spec: Tensor, e_t: Tensor, e_f: Tensor) -> Tensor:
        return _apply_factors(spec, e_t, e_f)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        spec, e_t, e_f = ctx.saved_tensors
        # On a CPU sample by sample: one sample's product stays in the cache, and a whole batch's is never in memory.
        eager = spec.device.type == "cpu" and not torch.compiler.is_compiling()
        de_t, de_f = [], []
        for saved in zip(*(x.split(1) if eager else (x,) for x in (dy, spec, e_t, e_f)), strict=True):
            dy_b, spec_b, e_t_b, e_f_b = saved
            product = dy_b * spec_b
            de_t.append((product @ e_f_b.unsqueeze(-1)).squeeze(-1))
            de_f.append((e_t_b.unsqueeze(-2) @ product).squeeze(-2))
        dspec = _apply_factors(dy, e_t, e_f) if ctx.needs_input_grad[0] else None
        return dspec, torch.cat(de_t), torch.cat(de_f)
