"""What differs between PyTorch's ways and releases."""

import torch

__all__ = ["is_exporting"]

# New in PyTorch 2.7. Before it, compiling does without what exporting must do without.
_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


def is_exporting() -> bool:
    """Whether the call is being recorded for another runtime (torch.export, torch.jit.trace): no Python may stay in it."""
    return _is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined]  # its stubs forget it
