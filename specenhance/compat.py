"""What differs between the releases of PyTorch that are supported."""

import torch

__all__ = ["is_exporting"]

# New in PyTorch 2.7. Before it, compiling does without what exporting must do without.
is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
