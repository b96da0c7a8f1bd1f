"""What holds for every mask front end, every shape, every stride: drawn by hypothesis."""

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from specenhance import TFA, TFE, functional
from specenhance.frontends.mask import MaskFrontend

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
STRIDES = ["contiguous", "transposed", "every other", "expanded", "channels last", "a corner"]

common = settings(deadline=None, derandomize=True, max_examples=40)


@st.composite
def frontends(draw: st.DrawFn, in_chans: int | None = None) -> MaskFrontend:
    C = draw(st.integers(1, 3)) if in_chans is None else in_chans
    kernel = draw(st.sampled_from([1, 3, 17]))
    torch.manual_seed(draw(st.integers(0, 99)))
    if draw(st.booleans()):
        frontend: MaskFrontend = TFA(C, kernel)
    else:
        inner = draw(st.lists(st.integers(1, 5), max_size=4))
        frontend = TFE(C, len(inner) + 1, kernel, channels=(C, *inner, C))
    return frontend.double()


@st.composite
def spectrograms(
    draw: st.DrawFn,
    in_chans: int,
    strides: str = "contiguous",
    dtype: torch.dtype = torch.float64,
    min_batch: int = 0,
) -> Tensor:
    C = in_chans
    B, T, F = draw(st.integers(min_batch, 3)), draw(st.integers(1, 12)), draw(st.integers(1, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    scale = draw(st.sampled_from([0.1, 1.0, 5.0]))

    def noise(*shape: int) -> Tensor:
        return (scale * torch.randn(*shape, dtype=torch.float64, generator=generator)).to(dtype)

    match strides:
        case "contiguous":
            return noise(B, C, T, F)
        case "transposed":
            return noise(F, T, B, C).permute(2, 3, 1, 0)
        case "every other":
            return noise(2 * B, C, 2 * T, 3 * F)[::2, :, 1::2, ::3]
        case "expanded":
            return noise(1, C, 1, F).expand(B, C, T, F)
        case "channels last":
            return noise(B, C, T, F).contiguous(memory_format=torch.channels_last)
        case _:
            return noise(B, C + 1, T + 2, F + 3)[:, 1:, 1:-1, 3:]


@pytest.mark.parametrize("strides", STRIDES)
@given(data=st.data())
@settings(common, max_examples=20)
def test_shape_and_dtype_are_kept_and_strides_do_not_matter(strides: str, data: st.DataObject) -> None:
    frontend = data.draw(frontends())
    dtype = data.draw(st.sampled_from(DTYPES))
    spec = data.draw(spectrograms(frontend.in_chans, strides, dtype))
    before = spec.clone()
    result = frontend(spec)
    assert result.shape == spec.shape
    assert result.dtype == dtype
    assert result.isfinite().all()
    assert torch.equal(spec, before), "the input was written to"
    torch.testing.assert_close(result, frontend(spec.contiguous()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(data=st.data())
@common
def test_masks_lie_strictly_between_0_and_1(dtype: torch.dtype, data: st.DataObject) -> None:
    frontend = data.draw(frontends())
    spec = data.draw(spectrograms(frontend.in_chans, dtype=dtype))
    frontend.to(dtype)
    for tensor in (frontend.mask(spec), *frontend.factors(spec)):
        assert (tensor > 0).all()
        assert (tensor < 1).all()


@given(data=st.data())
@common
def test_masks_are_rank_one(data: st.DataObject) -> None:
    frontend = data.draw(frontends())
    spec = data.draw(spectrograms(frontend.in_chans, min_batch=1))
    mask = frontend.mask(spec)
    assert mask.shape == spec.shape
    # A positive matrix has rank one just where every row is a multiple of the first: all 2 x 2 minors with it are zero.
    rows, first = mask, mask[:, :, :1]
    torch.testing.assert_close(rows * first[..., :1], rows[..., :1] * first, rtol=1e-12, atol=0)
    assert (torch.linalg.matrix_rank(mask) == 1).all()


@given(data=st.data())
@common
def test_the_mask_is_its_factors_product_and_weighs_the_spectrogram(data: st.DataObject) -> None:
    frontend = data.draw(frontends())
    spec = data.draw(spectrograms(frontend.in_chans))
    e_t, e_f = frontend.factors(spec)
    B, C, T, F = spec.shape
    assert e_t.shape == (B, C, T)
    assert e_f.shape == (B, C, F)
    torch.testing.assert_close(frontend.mask(spec), torch.einsum("bct,bcf->bctf", e_t, e_f))
    torch.testing.assert_close(frontend(spec), spec * frontend.mask(spec))


@given(data=st.data())
@settings(common, max_examples=30)
def test_values_equal_the_formula_written_apart(data: st.DataObject) -> None:
    frontend = data.draw(frontends())
    spec = data.draw(spectrograms(frontend.in_chans))
    expected = torch.from_numpy(reference.enhance(spec, frontend.weights()))
    torch.testing.assert_close(frontend(spec), expected, rtol=0, atol=1e-12)
    literal = functional.reference_enhance(spec, frontend.weights())
    torch.testing.assert_close(literal, expected, rtol=0, atol=1e-12)


@given(data=st.data())
@settings(common, max_examples=30)
def test_gradients_equal_the_literal_chains(data: st.DataObject) -> None:
    frontend = data.draw(frontends())
    spec = data.draw(spectrograms(frontend.in_chans)).requires_grad_()
    inputs = [spec, *frontend.parameters()]
    ours = torch.autograd.grad(frontend(spec).square().sum(), inputs)
    literal = torch.autograd.grad(functional.reference_enhance(spec, frontend.weights()).square().sum(), inputs)
    torch.testing.assert_close(ours, literal, rtol=1e-10, atol=1e-11)


@given(data=st.data())
@common
def test_a_sample_does_not_know_its_batch(data: st.DataObject) -> None:
    frontend = data.draw(frontends())
    spec = data.draw(spectrograms(frontend.in_chans, min_batch=1))
    together = frontend(spec)
    order = torch.tensor(data.draw(st.permutations(range(len(spec)))))
    torch.testing.assert_close(frontend(spec[order]), together[order])
    torch.testing.assert_close(torch.cat([frontend(sample[None]) for sample in spec]), together)
