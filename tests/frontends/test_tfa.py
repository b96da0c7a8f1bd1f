"""TFA: one block as wide as its input; on one channel it is TFE(1)."""

import pytest
import reference
import torch
from test_functional import REFUSED
from torch import Tensor

from specenhance import TFA, TFE


@pytest.mark.parametrize("in_chans", [1, 2, 5])
def test_values_equal_the_formula_written_apart_for_any_channels(in_chans: int) -> None:
    torch.manual_seed(in_chans)
    frontend = TFA(in_chans).double()
    spec = 3 * torch.randn(2, in_chans, 20, 7, dtype=torch.float64)
    expected = torch.from_numpy(reference.mask(spec, frontend.weights()))
    assert expected.shape == spec.shape
    torch.testing.assert_close(frontend.mask(spec), expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(frontend(spec), spec * expected, rtol=0, atol=1e-14)


def test_on_one_channel_it_is_tfe1() -> None:
    torch.manual_seed(0)
    tfa, tfe = TFA(), TFE(n=1)
    spec = torch.randn(2, 1, 20, 7)
    assert not torch.equal(tfa(spec), tfe(spec))
    tfe.load_state_dict(tfa.state_dict())
    assert torch.equal(tfa(spec), tfe(spec))


@pytest.mark.parametrize("in_chans", [1, 4])
def test_parameter_count(in_chans: int) -> None:
    # Two paths of two convolutions, 17 taps and a bias each.
    assert sum(p.numel() for p in TFA(in_chans).parameters()) == 4 * (17 * in_chans**2 + in_chans)


def test_channels_are_mixed_by_the_convolutions() -> None:
    torch.manual_seed(0)
    frontend, spec = TFA(2), torch.randn(1, 2, 10, 8)
    changed = spec.clone()
    changed[:, 1] += 1.0
    assert not torch.equal(frontend.mask(spec)[:, 0], frontend.mask(changed)[:, 0])


@pytest.mark.parametrize(("spec", "error", "message"), REFUSED)
def test_what_is_no_spectrogram_is_refused(spec: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TFA()(spec)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"in_chans": 0}, r"channels=\(0, 0\): expected whole numbers >= 1"),
        ({"kernel_size": 4}, "kernel_size=4: expected an odd number"),
        ({"backend": "numpy"}, "backend='numpy': expected one of auto, torch, triton"),
    ],
)
def test_arguments_that_are_refused(kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TFA(**kwargs)
