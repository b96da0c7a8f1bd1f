import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from specenhance import functional
from specenhance.frontends.mask import MaskFrontend
from specenhance.mask_path import dispatch


def pytest_configure(config: pytest.Config) -> None:
    assert os.environ["SPECENHANCE_KERNEL_DEVICE"] in ("cpu", "cuda"), Path(__file__).name


@pytest.fixture
def device() -> torch.device:
    return torch.device(os.environ["SPECENHANCE_KERNEL_DEVICE"])


@pytest.fixture(autouse=True)
def poison(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fill what torch.empty gives with NaN, and let float32 convolutions be float32."""
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False
    torch.use_deterministic_algorithms("unpoisoned" not in request.fixturenames, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def unpoisoned() -> None:
    """Ask for this to have torch.empty leave memory alone."""


def literal_mask(spec: Tensor, blocks: list[functional.BlockWeights]) -> Tensor:
    """Write a mask with standardised means out, block by block."""

    def path(mask: Tensor, axis: int, weights: functional.PathWeights) -> Tensor:
        z = mask.mean(axis)
        variance = z.var(-1, correction=0, keepdim=True)
        return functional.path_factor((z - z.mean(-1, keepdim=True)) / variance.clamp(min=1e-8).sqrt(), weights)

    mask = spec
    for block in blocks:
        mask = functional.outer(path(mask, -1, block.time), path(mask, -2, block.freq))
    return mask


class Checker:
    """Run a front end on a spectrogram by the kernels and by the literal chain in float64, and compare."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def run(self, frontend: MaskFrontend, spec: Tensor, dy: Tensor) -> list[Tensor]:
        """Give S', dS and the weights' gradients by the kernels."""
        out = dispatch.enhance(spec, frontend.weights(), "triton", frontend.standardise)
        assert out.shape == spec.shape
        assert out.dtype == spec.dtype
        return [out.detach(), *torch.autograd.grad(out, [spec, *frontend.parameters()], dy)]

    def reference(self, frontend: MaskFrontend, spec: Tensor, dy: Tensor) -> list[Tensor]:
        """Give the same by the literal chain in float64."""
        exact = MaskFrontend(frontend.channels, frontend.kernel_size, "torch").to(self.device, torch.float64)
        exact.load_state_dict(frontend.state_dict())
        spec = spec.detach().double().requires_grad_()
        out = (
            spec * literal_mask(spec, exact.weights())
            if frontend.standardise
            else functional.reference_enhance(spec, exact.weights())
        )
        return [out.detach(), *torch.autograd.grad(out, [spec, *exact.parameters()], dy.double())]

    def check(
        self,
        channels: tuple[int, ...],
        kernel: int,
        spec: Tensor,
        weights: torch.dtype = torch.float32,
        tolerances: tuple[float, float, float] = (1e-5, 1e-5, 1e-5),
        standardise: bool = False,
    ) -> None:
        """Compare; the tolerances are for S', dS and the weights' gradients, each relative to its tensor's largest value.

        A bias's gradient is a sum that may cancel to almost nothing, and some units are dead: so the largest of a weight and
        its bias counts, and at least a thousandth of the largest of all weights' gradients.
        """
        frontend = MaskFrontend(channels, kernel, "torch", standardise).to(self.device, weights)
        spec = spec.to(self.device).requires_grad_()
        dy = torch.randn(spec.shape).to(self.device, spec.dtype)
        got, expected = self.run(frontend, spec, dy), self.reference(frontend, spec, dy)
        allowed = [tolerances[0], tolerances[1], *[tolerances[2]] * (len(got) - 2)]
        names = ["S'", "dS", *(name for name, _ in frontend.named_parameters())]
        largest: dict[str, float] = {}
        for name, exact in zip(names, expected, strict=True):
            layer = name.rpartition(".")[0] or name
            largest[layer] = max(largest.get(layer, 0.0), exact.abs().max().item())
        least = 1e-3 * max(exact.abs().max().item() for exact in expected[2:])
        for name, ours, exact, tolerance in zip(names, got, expected, allowed, strict=True):
            assert ours.isfinite().all(), name
            error = (ours.double() - exact).abs().max().item() / max(largest[name.rpartition(".")[0] or name], least)
            assert error <= tolerance, f"{name} of {channels}, K={kernel}, {tuple(spec.shape)}: {error:.2e}"


@pytest.fixture
def checker(device: torch.device) -> Checker:
    return Checker(device)


@pytest.fixture
def small(device: torch.device) -> nn.Module:
    """A small front end for what does not depend on size."""
    return MaskFrontend((1, 4, 1), 3, "triton").to(device)
