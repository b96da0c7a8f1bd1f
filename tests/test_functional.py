"""The mathematics: the factorised form, the literal chain and a numpy formula apart from both agree; errors."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import reference
import torch
from blocks import CHAINS, flat, make_blocks, random, unflat
from torch import Tensor

from specenhance import functional
from specenhance.functional import BlockWeights, PathWeights
from specenhance.mask_path import cpu, product


class Form(NamedTuple):
    """The factorised form as a formula, or as it is computed fast."""

    factors: Callable[[Tensor, list[BlockWeights]], tuple[Tensor, Tensor]]
    apply_factors: Callable[[Tensor, Tensor, Tensor], Tensor]

    def enhance(self, spec: Tensor, blocks: list[BlockWeights]) -> Tensor:
        return self.apply_factors(spec, *self.factors(spec, blocks))


FORMULA, FAST = Form(functional.factors, functional.apply_factors), Form(cpu.factors, product.apply_factors)
each_form = pytest.mark.parametrize("form", [FORMULA, FAST], ids=["formula", "fast"])


@each_form
@pytest.mark.parametrize("channels", CHAINS)
@pytest.mark.parametrize("kernel", [1, 3, 17])
@pytest.mark.parametrize("bias", [True, False])
def test_values_equal_the_formula_written_apart(form: Form, channels: tuple[int, ...], kernel: int, bias: bool) -> None:
    blocks = make_blocks(channels, kernel, bias)
    spec = random(2, channels[0], 9, 6, scale=2.0)
    mask = torch.from_numpy(reference.mask(spec, blocks))
    assert mask.std() > 1e-7, "a mask too flat to tell one formula from another at 1e-13"
    exact = {"rtol": 0, "atol": 1e-13}
    torch.testing.assert_close(functional.reference_mask(spec, blocks), mask, **exact)
    torch.testing.assert_close(functional.outer(*form.factors(spec, blocks)), mask, **exact)
    enhanced = torch.from_numpy(reference.enhance(spec, blocks))
    torch.testing.assert_close(functional.reference_enhance(spec, blocks), enhanced, **exact)
    torch.testing.assert_close(form.enhance(spec, blocks), enhanced, **exact)


@each_form
def test_a_block_by_hand(form: Form) -> None:
    # Kernel 1 and two weights a path: time sigmoid(2 relu(3 z + 1) - 4), frequency sigmoid(-relu(z)).
    one = torch.ones(1, dtype=torch.float64)
    time = PathWeights(3 * one[:, None, None], one, 2 * one[:, None, None], -4 * one)
    freq = PathWeights(one[:, None, None], 0 * one, -one[:, None, None], 0 * one)
    spec = torch.tensor([[[[0.0, 1.0, 2.0], [-1.0, -2.0, -3.0]]]], dtype=torch.float64)  # T = 2, F = 3
    e_t, e_f = form.factors(spec, [BlockWeights(time, freq)])
    torch.testing.assert_close(e_t, torch.sigmoid(torch.tensor([[[2 * 4.0 - 4, -4.0]]], dtype=torch.float64)))
    torch.testing.assert_close(e_f, torch.full((1, 1, 3), 0.5, dtype=torch.float64))


@each_form
@pytest.mark.parametrize("channels", CHAINS)
def test_gradients_equal_the_literal_chains(form: Form, channels: tuple[int, ...]) -> None:
    blocks = make_blocks(channels, kernel=17)
    spec = random(3, channels[0], 20, 8, seed=1)
    inputs = [spec, *flat(blocks)]
    for tensor in inputs:
        tensor.requires_grad_()
    ours, literal = form.enhance(spec, blocks), functional.reference_enhance(spec, blocks)
    cotangent = random(*spec.shape, seed=2)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, cotangent), torch.autograd.grad(literal, inputs, cotangent), strict=True
    ):
        assert b.any()
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("enhance", [FORMULA.enhance, FAST.enhance, functional.reference_enhance])
@pytest.mark.parametrize("channels", [(1, 1), (2, 2), (1, 2, 1)])
def test_gradients_are_those_of_finite_differences(enhance, channels: tuple[int, ...]) -> None:
    blocks = make_blocks(channels, kernel=3)
    inputs = tuple(tensor.requires_grad_() for tensor in (random(2, channels[0], 4, 3), *flat(blocks)))
    assert torch.autograd.gradcheck(lambda spec, *weights: enhance(spec, unflat(weights)), inputs)


@each_form
def test_the_time_path_sees_frames_and_the_frequency_path_bins(form: Form) -> None:
    blocks = make_blocks((1, 4, 1))
    swapped = [BlockWeights(block.freq, block.time) for block in blocks]
    spec = random(2, 1, 7, 5)
    e_t, e_f = form.factors(spec, blocks)
    f_t, f_f = form.factors(spec.transpose(2, 3), swapped)
    assert e_t.shape == (2, 1, 7)
    assert e_f.shape == (2, 1, 5)
    torch.testing.assert_close(f_t, e_f)
    torch.testing.assert_close(f_f, e_t)


def test_the_pooled_means() -> None:
    spec = torch.arange(6.0).reshape(1, 1, 2, 3)
    z_t, z_f = functional.pool(spec)
    assert z_t.tolist() == [[[1.0, 4.0]]]
    assert z_f.tolist() == [[[1.5, 2.5, 3.5]]]
    assert {z.dtype for z in functional.pool(spec, dtype=torch.float64)} == {torch.float64}


@each_form
def test_means_of_half_precision_are_summed_in_the_weights_precision(form: Form) -> None:
    spec = (100 + random(1, 1, 300, 300)).half()
    blocks = [
        BlockWeights(*(PathWeights(*(w.float() for w in path)) for path in block)) for block in make_blocks((1, 1))
    ]
    e_t, e_f = form.factors(spec, blocks)
    assert e_t.dtype == e_f.dtype == torch.float32
    torch.testing.assert_close((e_t, e_f), form.factors(spec.float(), blocks))
    assert form.apply_factors(spec, e_t, e_f).dtype == torch.float16


@each_form
def test_an_empty_batch_has_an_empty_mask(form: Form) -> None:
    blocks = make_blocks((2, 3, 2))
    spec = random(0, 2, 5, 4)
    assert functional.reference_mask(spec, blocks).shape == (0, 2, 5, 4)
    assert [factor.shape for factor in form.factors(spec, blocks)] == [(0, 2, 5), (0, 2, 4)]
    assert form.enhance(spec, blocks).shape == (0, 2, 5, 4)
    assert reference.mask(spec, blocks).shape == (0, 2, 5, 4)


# Every front end refuses these, with the same words.
REFUSED = [
    (torch.zeros(5), ValueError, r"\(B, C, T, F\), got a tensor of 1 axes and shape \(5,\)"),
    (torch.zeros(2, 6, 4), ValueError, r"3 axes and shape \(2, 6, 4\).*spec\[:, None\]"),
    (torch.zeros(1, 2, 1, 6, 4), ValueError, r"5 axes and shape \(1, 2, 1, 6, 4\)"),
    (
        torch.zeros(2, 1, 6, 4, dtype=torch.int16),
        TypeError,
        r"real floating-point spectrogram, got torch.int16.*float\(\)",
    ),
    (torch.zeros(2, 1, 6, 4, dtype=torch.bool), TypeError, "got torch.bool"),
    (torch.zeros(2, 1, 6, 4, dtype=torch.complex64), TypeError, "real .* got torch.complex64"),
    (torch.zeros(2, 0, 6, 4), ValueError, r"at least one channel, frame and bin, got .* \(2, 0, 6, 4\)"),
    (torch.zeros(2, 1, 0, 4), ValueError, r"at least one .* \(2, 1, 0, 4\)"),
    (torch.zeros(2, 1, 6, 0), ValueError, r"at least one .* \(2, 1, 6, 0\)"),
    (torch.zeros(2, 3, 6, 4), ValueError, r"1 channel\(s\), got 3 in .* \(2, 3, 6, 4\).*in_chans=3"),
]


@pytest.mark.parametrize(("spec", "error", "message"), REFUSED)
def test_what_is_no_spectrogram_is_refused(spec: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        functional.check_spectrogram(spec, channels=1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_is_a_spectrogram_is_taken(dtype: torch.dtype) -> None:
    functional.check_spectrogram(torch.zeros(0, 3, 1, 1, dtype=dtype))
    functional.check_spectrogram(torch.zeros(2, 3, 5, 4, dtype=dtype), channels=3)
