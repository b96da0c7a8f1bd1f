"""PCEN: a gain control for each bin that follows its own smoothed energy, and a root."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from specenhance import functional
from specenhance.frontends.base import at_least_float32, without_padding
from specenhance.frontends.registry import register_frontend
from specenhance.mask_path.product import own_gradients

__all__ = ["PCEN", "pcen", "smooth"]

BLOCK = 8  # frames that are smoothed one after the other, in all blocks at once


def smooth(energies: Tensor, log_decay: Tensor, state: Tensor | None = None) -> Tensor:
    """Smooth energies along time by a filter of first order: ``M_t = (1 - s) * M_(t-1) + s * E_t``, as a parallel scan.

    A loop over frames would take T steps, this takes about 8 log_8 T.

    Args:
        energies: E ``(B, C, T, F)``, float32 or float64.
        log_decay: ``log(1 - s)`` of each bin ``(F,)``, less than 0.
        state: M of the frame before the first one ``(B, C, F)``. The default is the first frame's energies.

    Returns:
        M ``(B, C, T, F)``.

    >>> smooth(torch.tensor([4.0, 0.0, 0.0]).view(1, 1, 3, 1), torch.tensor([0.5]).log()).flatten().tolist()
    [4.0, 2.0, 1.0]
    """
    state = energies[:, :, 0] if state is None else state
    scan = _DecayedSum.apply if own_gradients() else _decayed_sum
    smoothed: Tensor = scan(energies * -torch.expm1(log_decay), log_decay, state)
    return smoothed


def _decayed_sum(x: Tensor, log_decay: Tensor, state: Tensor) -> Tensor:
    """Compute ``y_t = exp(log_decay) * y_(t-1) + x_t`` for x ``(B, C, T, F)``, from the state ``(B, C, F)``."""
    T, decay = x.shape[2], log_decay.exp()
    if T <= BLOCK:
        sums = []
        for frame in x.unbind(2):
            state = torch.addcmul(frame, decay, state)
            sums.append(state)
        return torch.stack(sums, 2)
    blocks = -(-T // BLOCK)
    if T % BLOCK:
        x = nn.functional.pad(x, (0, 0, 0, blocks * BLOCK - T))
    x = x.unflatten(2, (blocks, BLOCK))
    sums = [x[:, :, :, 0]]  # of a block alone
    for i in range(1, BLOCK):
        sums.append(torch.addcmul(x[:, :, :, i], decay, sums[-1]))
    ends = _decayed_sum(sums[-1], log_decay * BLOCK, state)
    before = torch.cat([state[:, :, None], ends[:, :, :-1]], dim=2)
    powers = (log_decay * torch.arange(1, BLOCK + 1, dtype=x.dtype, device=x.device)[:, None]).exp()
    return torch.addcmul(torch.stack(sums, 3), before[:, :, :, None], powers).flatten(2, 3)[:, :, :T]


class _DecayedSum(torch.autograd.Function):
    """The sum. Its gradient is one such sum from the last frame to the first; autograd would go back through each step."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, log_decay: Tensor, state: Tensor) -> Tensor:
        return _decayed_sum(x, log_decay, state)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:], output)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_decay, state, y = ctx.saved_tensors
        dx = _decayed_sum(dy.flip(2), log_decay, torch.zeros_like(state)).flip(2)
        decay = log_decay.exp()
        d_state = dx[:, :, 0] * decay
        d_log_decay = (d_state * state).sum((0, 1)) + (dx[:, :, 1:] * y[:, :, :-1]).sum((0, 1, 2)) * decay
        return dx, d_log_decay, d_state


def pcen(energies: Tensor, smoothed: Tensor, alpha: Tensor, delta: Tensor, root: Tensor, eps: float) -> Tensor:
    """Compute ``(E / (eps + M)^alpha + delta)^root - delta^root``.

    Args:
        energies: E ``(B, C, T, F)``.
        smoothed: M ``(B, C, T, F)``, of :func:`smooth`.
        alpha: strength of the gain control, ``(F,)``.
        delta: bias before the root, ``(F,)``.
        root: exponent, ``(F,)``.
        eps: a number against division by 0.

    >>> one = torch.ones(1)
    >>> pcen(torch.full((1, 1, 1, 1), 8.0), torch.full((1, 1, 1, 1), 4.0), one, 2 * one, one / 2, 0.0).item()
    0.585...

    Source: Wang et al., eq. (1).
    """
    gained = energies * (-alpha * (eps + smoothed).log()).exp()
    return (gained + delta) ** root - delta**root


@register_frontend("pcen")
class PCEN(nn.Module):
    """Per-channel energy normalisation, with parameters for each bin.

    ``y = (E / (eps + M)^alpha + delta)^root - delta^root``. E are the energies, and M is E smoothed along time by
    ``M_t = (1 - s) M_(t-1) + s E_t``. The spectrogram holds the logarithms of the energies, normalised. ``with_frontend`` tells
    this front end the mean and the standard deviation of the features. Without features the spectrogram is taken for the
    logarithms themselves. A sound that is louder by a constant factor gives almost the same result, because ``alpha`` is almost
    1. A frame of padding becomes 0.

    Args:
        in_chans: The channels C of the spectrogram. They share the parameters.
        bins: The number of frequency bins F. ``with_frontend`` takes it from the features.
        learned: Whether the parameters are learned. Otherwise they keep their values.
        s: The smoothing coefficient at the start, between 0 and 1.
        alpha: The strength of the gain control at the start, more than 0.
        delta: The bias at the start, more than 0.
        root: The exponent at the start, more than 0.
        eps: A number against division by 0, more than 0.

    Raises:
        ValueError: for values out of range.

    >>> spec = torch.randn(8, 1, 40, 16)
    >>> quiet, loud = PCEN(bins=16)(spec), PCEN(bins=16)(spec + 2)
    >>> bool(torch.allclose(quiet, loud, rtol=0.1, atol=0.1))
    True

    Source: Wang et al., "Trainable Frontend For Robust and Far-Field Keyword Spotting", ICASSP 2017, arXiv:1607.05666. The
    defaults are those of the paper.
    """

    uses_real_frames = True
    needs_energies = True

    def __init__(
        self,
        in_chans: int = 1,
        bins: int = 128,
        learned: bool = True,
        s: float = 0.025,
        alpha: float = 0.98,
        delta: float = 2.0,
        root: float = 0.5,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if bins < 1:
            raise ValueError(f"bins={bins}: expected 1 or more")
        if not 0 < s < 1:
            raise ValueError(f"s={s}: expected a number between 0 and 1")
        for name, value in (("alpha", alpha), ("delta", delta), ("root", root), ("eps", eps)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name}={value}: expected a number more than 0")
        self.in_chans, self.bins, self.eps = in_chans, bins, eps
        self.mean, self.std = 0.0, 0.5

        # In these forms any real number stands for a value in range.
        def parameter(start: float) -> nn.Parameter:
            return nn.Parameter(torch.full((bins,), start), requires_grad=learned)

        self.s_logit = parameter(math.log(s / (1 - s)))
        self.alpha_log, self.delta_log, self.root_log = (parameter(math.log(x)) for x in (alpha, delta, root))

    def set_normalisation(self, mean: float, std: float) -> None:
        """Take the features' normalisation: the spectrogram is ``(log E - mean) / (2 * std)``."""
        self.mean, self.std = mean, std

    def forward(self, spec: Tensor, real: Tensor | None = None) -> Tensor:
        """Map ``spec (B, C, T, F)`` to its PCEN. ``real (B, T)`` is False for a frame of padding.

        Raises:
            ValueError, TypeError: as :func:`specenhance.functional.check_spectrogram`. ValueError also for another F.
        """
        return self.stream(spec, None, real)[0]

    def stream(self, spec: Tensor, state: Tensor | None, real: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map a part of a longer sound.

        Args:
            spec: The part ``(B, C, T, F)``.
            state: The second result for the part before, ``(B, C, F)``. None at the start of the sound.
            real: As for :meth:`forward`.

        Returns:
            The PCEN ``(B, C, T, F)``, and the smoothed energies of its last frame ``(B, C, F)``.

        >>> spec, front_end = torch.randn(1, 1, 40, 16), PCEN(bins=16)
        >>> first, state = front_end.stream(spec[:, :, :25], None)
        >>> second, _ = front_end.stream(spec[:, :, 25:], state)
        >>> bool(torch.allclose(torch.cat([first, second], dim=2), front_end(spec), atol=1e-5))
        True
        """
        functional.check_spectrogram(spec, self.in_chans)
        functional.check_bins(spec, self.bins)
        exact = at_least_float32(spec)
        with torch.autocast(spec.device.type, enabled=False):
            energies = (exact * (2 * self.std) + self.mean).exp()
            s, alpha, delta, root = (
                p.to(exact.dtype) for p in (self.s_logit, self.alpha_log, self.delta_log, self.root_log)
            )
            smoothed = smooth(energies, nn.functional.logsigmoid(-s), state)
            found = pcen(energies, smoothed, alpha.exp(), delta.exp(), root.exp(), self.eps)
        return without_padding(found, real).to(spec.dtype), smoothed[:, :, -1]

    def no_weight_decay(self) -> set[str]:
        """Name the parameters that weight decay would draw to other values than it means: all."""
        return {"s_logit", "alpha_log", "delta_log", "root_log"}

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return f"in_chans={self.in_chans}, bins={self.bins}, learned={self.s_logit.requires_grad}, eps={self.eps}"
