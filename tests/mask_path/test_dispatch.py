"""The choice between PyTorch and the kernels; tests/kernels/test_fallback.py has what happens without Triton."""

import pytest
import torch
from blocks import make_blocks, random

from specenhance.mask_path import dispatch


def test_the_kernels_leave_forward_derivatives_to_pytorch() -> None:
    spec, blocks = random(1, 1, 4, 3), make_blocks((1, 1), kernel=1)
    with pytest.raises(ValueError, match="'triton' cannot run here: a forward-mode derivative is computed"):
        torch.func.jvp(lambda spec: dispatch.enhance(spec, blocks, "triton"), (spec,), (spec,))
