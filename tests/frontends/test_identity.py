"""Identity: the same tensor comes back, and what is no spectrogram is refused as elsewhere."""

import pytest
import torch
from test_functional import REFUSED
from torch import Tensor

from specenhance import Identity


@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_same_tensor_comes_back(in_chans: int, dtype: torch.dtype) -> None:
    spec = torch.zeros(2, in_chans, 6, 4, dtype=dtype)
    frontend = Identity(in_chans)
    assert frontend(spec) is spec
    assert frontend.in_chans == in_chans
    assert not list(frontend.parameters())


@pytest.mark.parametrize(("spec", "error", "message"), REFUSED)
def test_what_is_no_spectrogram_is_refused(spec: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Identity()(spec)
