"""TFE(n): the published parameter counts, the values of the formula, its arguments and what it refuses."""

import copy
import pickle

import numpy as np
import pytest
import reference
import timm
import torch
from test_functional import REFUSED
from torch import Tensor, nn

from specenhance import TFE, create_frontend, with_frontend
from specenhance.frontends.tfe import tfe_channels


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(
    ("name", "added"), [("identity", 0), ("tfe1", 72), ("tfa", 72), ("tfe2", 37_158), ("tfe4", 88_422)]
)
def test_parameter_counts_are_the_published_ones(name: str, added: int) -> None:
    with torch.device("meta"):
        backbone = timm.create_model("tf_efficientnetv2_b2", in_chans=1, num_classes=35)
        model = with_frontend(backbone, name)
    assert parameters(backbone) == 8_735_825
    assert parameters(model.frontend) == added
    assert parameters(model) == 8_735_825 + added


@pytest.mark.parametrize(
    ("n", "widths"),
    [
        (1, (1, 1)),
        (2, (1, 32, 1)),
        (3, (1, 32, 32, 1)),
        (4, (1, 16, 32, 16, 1)),
        (5, (1, 16, 32, 32, 16, 1)),
        (7, (1, 16, 32, 32, 32, 32, 16, 1)),
    ],
)
def test_widths(n: int, widths: tuple[int, ...]) -> None:
    assert tfe_channels(n) == widths
    assert TFE(n=n).channels == widths
    assert TFE(in_chans=3, n=n).channels == (3, *widths[1:-1], 3)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("in_chans", [1, 2])
def test_values_equal_the_formula_written_apart(n: int, in_chans: int) -> None:
    torch.manual_seed(n)
    frontend = TFE(in_chans, n).double()
    spec = 3 * random(2, in_chans, 19, 6, dtype=torch.float64)
    expected = torch.from_numpy(reference.mask(spec, frontend.weights()))
    torch.testing.assert_close(frontend.mask(spec), expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(frontend(spec), spec * expected, rtol=0, atol=1e-14)


def test_weights_are_taken_from_the_path_that_their_name_says() -> None:
    frontend = TFE(n=2, channels=(1, 4, 1), kernel_size=3).double()
    state = {name: value.numpy() for name, value in frontend.state_dict().items()}
    blocks = [
        [
            [
                state[f"blocks.{i}.{path}.{conv}"]
                for conv in ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias")
            ]
            for path in ("time", "freq")
        ]
        for i in range(2)
    ]
    spec = random(2, 1, 8, 5, dtype=torch.float64)
    np.testing.assert_allclose(frontend.mask(spec).detach().numpy(), reference.mask(spec, blocks), rtol=0, atol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_mask_factors_and_forward_agree(n: int) -> None:
    frontend, spec = TFE(n=n), random(3, 1, 30, 20)
    e_t, e_f = frontend.factors(spec)
    assert e_t.shape == (3, 1, 30)
    assert e_f.shape == (3, 1, 20)
    mask = frontend.mask(spec)
    torch.testing.assert_close(mask, torch.einsum("bct,bcf->bctf", e_t, e_f))
    torch.testing.assert_close(frontend(spec), spec * mask)


def test_every_weight_and_the_spectrogram_get_a_gradient() -> None:
    frontend, spec = TFE(n=4), random(2, 1, 40, 32).requires_grad_()
    for block in frontend.blocks:
        for path in (block.time, block.freq):
            nn.init.ones_(path.conv1.bias)  # or a chain may be dead behind its ReLU
    frontend(spec).square().mean().backward()
    assert spec.grad is not None
    for tensor in (spec, *frontend.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad.any()


@pytest.mark.parametrize("module_dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_precision_before_weights_of_any_precision(module_dtype: torch.dtype, dtype: torch.dtype) -> None:
    frontend, spec = TFE(n=2), random(2, 1, 40, 30, dtype=dtype)
    expected = copy.deepcopy(frontend).double()(spec.double())
    result = frontend.to(module_dtype)(spec)
    assert result.dtype == dtype
    coarsest = max(torch.finfo(dtype).eps, torch.finfo(module_dtype).eps)
    torch.testing.assert_close(result.double(), expected, rtol=8 * coarsest, atol=4 * coarsest)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_keeps_the_spectrograms_dtype(dtype: torch.dtype) -> None:
    frontend, spec = TFE(n=4), random(2, 1, 40, 30, dtype=dtype)
    expected = frontend(spec)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert frontend.factors(spec)[0].dtype == torch.bfloat16
        result = frontend(spec)
    assert result.dtype == dtype
    torch.testing.assert_close(result, expected, rtol=0.05, atol=0.02)


def test_copies_and_checkpoints() -> None:
    frontend, spec = TFE(n=2), random(2, 1, 12, 9)
    again = TFE(n=2)
    assert not torch.equal(again(spec), frontend(spec))
    again.load_state_dict(frontend.state_dict())
    for copied in (copy.deepcopy(frontend), pickle.loads(pickle.dumps(frontend)), again):
        assert torch.equal(copied(spec), frontend(spec))


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_backends_that_are_there(backend: str) -> None:
    spec = random(2, 1, 12, 9, dtype=torch.float64)
    frontend = TFE(n=2, backend=backend).double()
    np.testing.assert_allclose(frontend(spec).detach().numpy(), reference.enhance(spec, frontend.weights()), atol=1e-14)


def test_printing_says_what_it_is() -> None:
    assert "channels=(1, 8, 1), kernel_size=5, backend='torch'" in repr(
        TFE(n=2, channels=[1, 8, 1], kernel_size=5, backend="torch")
    )


@pytest.mark.parametrize(("spec", "error", "message"), REFUSED)
@pytest.mark.parametrize("method", ["__call__", "mask", "factors"])
def test_what_is_no_spectrogram_is_refused(method: str, spec: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        getattr(TFE(n=1), method)(spec)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n": 0}, "n=0: expected a whole number"),
        ({"n": -2}, "n=-2"),
        ({"n": 1.5}, "n=1.5"),
        ({"in_chans": 0}, r"\(0, 16, 32, 16, 0\): expected whole numbers >= 1"),
        ({"kernel_size": 16}, "kernel_size=16: expected an odd number"),
        ({"kernel_size": 0}, "kernel_size=0"),
        ({"kernel_size": -3}, "kernel_size=-3"),
        ({"kernel_size": 3.0}, "kernel_size=3.0"),
        ({"channels": (1, 8, 1)}, r"channels=\(1, 8, 1\): expected 5 widths for n=4"),
        ({"n": 2, "channels": (1, 8, 2)}, r"\(1, 8, 2\): .* the first and last in_chans=1"),
        ({"n": 2, "channels": (3, 8, 3)}, r"\(3, 8, 3\): .* the first and last in_chans=1"),
        ({"n": 2, "channels": (1, 0, 1)}, r"\(1, 0, 1\): expected whole numbers >= 1"),
        ({"n": 2, "channels": (1, 8.0, 1)}, r"\(1, 8.0, 1\): expected whole numbers"),
        ({"backend": "cuda"}, "backend='cuda': expected one of auto, torch, triton"),
    ],
)
def test_arguments_that_are_refused(kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TFE(**kwargs)


def test_channels_and_kernel_size_override() -> None:
    frontend = create_frontend("tfe3", in_chans=2, channels=[2, 5, 7, 2], kernel_size=3)
    assert (frontend.channels, frontend.kernel_size, frontend.in_chans) == ((2, 5, 7, 2), 3, 2)
    assert [tuple(block.time.conv1.weight.shape) for block in frontend.blocks] == [(5, 2, 3), (7, 5, 3), (2, 7, 3)]
    assert [tuple(block.freq.conv2.weight.shape) for block in frontend.blocks] == [(5, 5, 3), (7, 7, 3), (2, 2, 3)]
    assert frontend(random(1, 2, 5, 4)).shape == (1, 2, 5, 4)
