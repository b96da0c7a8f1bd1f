"""Which arithmetic the matrix products use, and that its float32 forms are as exact as is said."""

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed: the kernels cannot be imported")

from specenhance_kernels.configs import HIP, arithmetic

DEVICE = torch.device("cuda")


@pytest.fixture(autouse=True)
def restore():
    allowed = torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32 = allowed


@pytest.mark.skipif(HIP, reason="ROCm's convolutions are always ieee")
def test_float32_follows_the_convolutions_switch():
    torch.backends.cudnn.allow_tf32 = True
    assert arithmetic(torch.float32, DEVICE).precision == "tf32"
    torch.backends.cudnn.allow_tf32 = False
    assert arithmetic(torch.float32, DEVICE).precision == "tf32x3"


@pytest.mark.skipif(HIP or not hasattr(torch.backends.cudnn, "conv"), reason="no fp32_precision here")
def test_float32_follows_fp32_precision():
    try:
        torch.backends.cudnn.conv.fp32_precision = "ieee"
        assert arithmetic(torch.float32, DEVICE).precision == "tf32x3"
        torch.backends.cudnn.conv.fp32_precision = "tf32"
        assert arithmetic(torch.float32, DEVICE).precision == "tf32"
    finally:
        torch.backends.cudnn.conv.fp32_precision = "none"


def test_half_precision_has_one():
    assert arithmetic(torch.bfloat16, DEVICE) == (torch.bfloat16, "ieee")
    assert arithmetic(torch.float16, DEVICE) == (torch.float16, "ieee")


def tf32(x: np.ndarray) -> np.ndarray:
    """Round float32 to tf32's ten bits, half away from zero, as ``cvt.rna.tf32`` does."""
    return ((x.view(np.uint32) + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32)


@pytest.mark.parametrize("terms", [17, 544, 3968])
def test_three_passes_of_tf32_are_good_to_1e5(terms):
    # Triton's tf32x3: the large parts' product and the two mixed ones, float32 sums. The longest sum is 128 channels x 31.
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 32, terms), dtype=np.float32)
    a_small, b_small = tf32(a - tf32(a)), tf32(b - tf32(b))
    got = a_small @ tf32(b).T + tf32(a) @ b_small.T + tf32(a) @ tf32(b).T
    exact = a.astype(np.float64) @ b.astype(np.float64).T
    error = np.abs(got - exact).max() / np.abs(exact).max()
    assert error < 2e-6
    assert np.abs(tf32(a) @ tf32(b).T - exact).max() / np.abs(exact).max() > 1e-5  # one pass is not
