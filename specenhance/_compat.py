"""What differs between PyTorch's ways and releases."""

import torch
from torch.autograd import forward_ad

__all__ = ["is_exporting", "is_forward_mode", "is_scripting", "is_transformed"]

is_scripting = torch.jit.is_scripting  # type: ignore[attr-defined]  # its stubs forget it, and TorchScript reads such comments

# New in PyTorch 2.7. Before it, compiling does without what exporting must do without.
_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


def is_exporting() -> bool:
    """Whether the call is being recorded for another runtime (torch.export, torch.jit.trace): no Python may stay in it."""
    return _is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined]  # its stubs forget it


def is_forward_mode() -> bool:
    """Whether forward-mode derivatives are computed: torch.func.jvp, jacfwd, hessian, torch.autograd.forward_ad."""
    return forward_ad._current_level >= 0


def is_transformed() -> bool:
    """Whether a transform of torch.func is at work: vmap, grad, jvp and what is made of them."""
    return torch._C._are_functorch_transforms_active()
