"""The mathematics: the factorised form, the literal chain and a numpy formula apart from both agree; errors."""

from itertools import pairwise

import pytest
import reference
import torch
from torch import Tensor
from torch.autograd import forward_ad

from specenhance import TFE, functional
from specenhance.functional import BlockWeights, PathWeights

CHAINS = [(1, 1), (2, 2), (1, 3, 1), (2, 4, 3, 2), (1, 2, 3, 2, 1)]


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def make_blocks(channels: tuple[int, ...], kernel: int = 5, bias: bool = True, seed: int = 0) -> list[BlockWeights]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    def make_path(c_in: int, c_out: int) -> PathWeights:
        return PathWeights(
            2 * draw(c_out, c_in, kernel) / (c_in * kernel) ** 0.5,
            draw(c_out).abs() if bias else None,
            2 * draw(c_out, c_out, kernel) / (c_out * kernel) ** 0.5,
            draw(c_out) if bias else None,
        )

    return [BlockWeights(make_path(a, b), make_path(a, b)) for a, b in pairwise(channels)]


def flat(blocks: list[BlockWeights]) -> list[Tensor]:
    return [weight for block in blocks for path in block for weight in path if weight is not None]


def unflat(tensors: tuple[Tensor, ...]) -> list[BlockWeights]:
    paths = [PathWeights(*tensors[i : i + 4]) for i in range(0, len(tensors), 4)]
    return [BlockWeights(*paths[i : i + 2]) for i in range(0, len(paths), 2)]


def factorised(spec: Tensor, blocks: list[BlockWeights]) -> Tensor:
    return functional.apply_factors(spec, *functional.factors(spec, blocks))


@pytest.mark.parametrize("channels", CHAINS)
@pytest.mark.parametrize("kernel", [1, 3, 17])
@pytest.mark.parametrize("bias", [True, False])
def test_values_equal_the_formula_written_apart(channels: tuple[int, ...], kernel: int, bias: bool) -> None:
    blocks = make_blocks(channels, kernel, bias)
    spec = random(2, channels[0], 9, 6, scale=2.0)
    mask = torch.from_numpy(reference.mask(spec, blocks))
    assert mask.std() > 1e-7, "a mask too flat to tell one formula from another at 1e-13"
    exact = {"rtol": 0, "atol": 1e-13}
    torch.testing.assert_close(functional.reference_mask(spec, blocks), mask, **exact)
    torch.testing.assert_close(functional.outer(*functional.factors(spec, blocks)), mask, **exact)
    enhanced = torch.from_numpy(reference.enhance(spec, blocks))
    torch.testing.assert_close(functional.reference_enhance(spec, blocks), enhanced, **exact)
    torch.testing.assert_close(factorised(spec, blocks), enhanced, **exact)


def test_a_block_by_hand() -> None:
    # Kernel 1 and two weights a path: time sigmoid(2 relu(3 z + 1) - 4), frequency sigmoid(-relu(z)).
    one = torch.ones(1, dtype=torch.float64)
    time = PathWeights(3 * one[:, None, None], one, 2 * one[:, None, None], -4 * one)
    freq = PathWeights(one[:, None, None], 0 * one, -one[:, None, None], 0 * one)
    spec = torch.tensor([[[[0.0, 1.0, 2.0], [-1.0, -2.0, -3.0]]]], dtype=torch.float64)  # T = 2, F = 3
    e_t, e_f = functional.factors(spec, [BlockWeights(time, freq)])
    torch.testing.assert_close(e_t, torch.sigmoid(torch.tensor([[[2 * 4.0 - 4, -4.0]]], dtype=torch.float64)))
    torch.testing.assert_close(e_f, torch.full((1, 1, 3), 0.5, dtype=torch.float64))


@pytest.mark.parametrize("channels", CHAINS)
def test_gradients_equal_the_literal_chains(channels: tuple[int, ...]) -> None:
    blocks = make_blocks(channels, kernel=17)
    spec = random(3, channels[0], 20, 8, seed=1)
    inputs = [spec, *flat(blocks)]
    for tensor in inputs:
        tensor.requires_grad_()
    ours, literal = factorised(spec, blocks), functional.reference_enhance(spec, blocks)
    cotangent = random(*spec.shape, seed=2)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, cotangent), torch.autograd.grad(literal, inputs, cotangent), strict=True
    ):
        assert b.any()
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("enhance", [factorised, functional.reference_enhance])
@pytest.mark.parametrize("channels", [(1, 1), (2, 2), (1, 2, 1)])
def test_gradients_are_those_of_finite_differences(enhance, channels: tuple[int, ...]) -> None:
    blocks = make_blocks(channels, kernel=3)
    inputs = tuple(tensor.requires_grad_() for tensor in (random(2, channels[0], 4, 3), *flat(blocks)))
    assert torch.autograd.gradcheck(lambda spec, *weights: enhance(spec, unflat(weights)), inputs)


def test_second_gradients_are_those_of_finite_differences() -> None:
    inputs = tuple(tensor.requires_grad_() for tensor in (random(1, 1, 3, 2), *flat(make_blocks((1, 1), kernel=1))))
    assert torch.autograd.gradgradcheck(lambda spec, *weights: factorised(spec, unflat(weights)), inputs)


def test_gradients_of_the_product() -> None:
    inputs = tuple(t.requires_grad_() for t in (random(2, 2, 3, 4), random(2, 2, 3, seed=1), random(2, 2, 4, seed=2)))
    assert torch.autograd.gradcheck(functional.apply_factors, inputs)
    assert torch.autograd.gradgradcheck(functional.apply_factors, inputs)


def test_gradients_of_an_empty_batch_are_0() -> None:
    inputs = [torch.ones(size, requires_grad=True) for size in ((0, 2, 3, 4), (0, 2, 3), (0, 2, 4))]
    grads = torch.autograd.grad(functional.apply_factors(*inputs).sum(), inputs)
    assert [grad.shape for grad in grads] == [x.shape for x in inputs]


@pytest.mark.parametrize("channels", [(1, 1), (2, 2), (1, 2, 1)])
def test_gradients_of_many_frames(channels: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functional, "LONG", 0)
    blocks = make_blocks(channels, kernel=3)
    inputs = tuple(tensor.requires_grad_() for tensor in (random(2, channels[0], 4, 3), *flat(blocks)))
    assert torch.autograd.gradcheck(lambda spec, *weights: factorised(spec, unflat(weights)), inputs)
    if channels == (1, 1):
        assert torch.autograd.gradgradcheck(lambda spec, *weights: factorised(spec, unflat(weights)), inputs)


@pytest.mark.parametrize("long", [0, 10**9])
@pytest.mark.parametrize("channels", [(1, 1), (1, 2, 1)])
def test_forward_derivatives_are_those_of_finite_differences(
    channels: tuple[int, ...], long: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functional, "LONG", long)
    inputs = tuple(t.requires_grad_() for t in (random(2, 1, 4, 3), *flat(make_blocks(channels, kernel=3))))
    checks = {"check_forward_ad": True, "check_batched_forward_grad": True, "check_backward_ad": False}
    assert torch.autograd.gradcheck(lambda spec, *weights: factorised(spec, unflat(weights)), inputs, **checks)


@pytest.mark.parametrize("long", [0, 10**9])
@pytest.mark.parametrize(
    "derivative",
    [
        torch.func.jacfwd,
        torch.func.hessian,
        lambda f, argnums: torch.func.jacfwd(torch.func.jacfwd(f, argnums), argnums),
        lambda f, argnums: torch.func.jacrev(torch.func.jacfwd(f, argnums), argnums),
    ],
    ids=["jacfwd", "hessian", "forward over forward", "reverse over forward"],
)
def test_derivatives_of_any_mode_are_the_literal_chains(derivative, long: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functional, "LONG", long)
    inputs = (random(2, 1, 4, 3), *flat(make_blocks((1, 2, 1), kernel=3)))
    ours, literal = (
        derivative(lambda spec, *weights, f=f: f(spec, unflat(weights)).square().sum(), tuple(range(len(inputs))))(
            *inputs
        )
        for f in (factorised, functional.reference_enhance)
    )
    torch.testing.assert_close(ours, literal, rtol=1e-9, atol=1e-12)


def test_a_dual_number_passes_with_and_without_gradients() -> None:
    blocks, spec, tangent = make_blocks((1, 2, 1), kernel=3), random(2, 1, 4, 3), random(2, 1, 4, 3, seed=1)
    _, expected = torch.func.jvp(lambda spec: functional.reference_enhance(spec, blocks), (spec,), (tangent,))
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients), forward_ad.dual_level():
            dual = forward_ad.make_dual(spec.clone().requires_grad_(gradients), tangent)
            found = forward_ad.unpack_dual(factorised(dual, blocks)).tangent
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("gradients", [True, False])
def test_a_factor_alone_may_come_in_several(gradients: bool) -> None:
    spec, e_t, e_f = random(2, 1, 5, 4), random(2, 1, 5), random(3, 2, 1, 4)
    with torch.set_grad_enabled(gradients):
        found = torch.func.vmap(functional.apply_factors, in_dims=(None, None, 0))(spec, e_t, e_f)
    torch.testing.assert_close(found, torch.stack([functional.apply_factors(spec, e_t, one) for one in e_f]))


def test_the_kernels_leave_forward_derivatives_to_pytorch() -> None:
    spec, blocks = random(1, 1, 4, 3), make_blocks((1, 1), kernel=1)
    with pytest.raises(ValueError, match="'triton' cannot run here: a forward-mode derivative is computed"):
        torch.func.jvp(lambda spec: functional.enhance(spec, blocks, "triton"), (spec,), (spec,))


@pytest.mark.parametrize("long", [0, 10**9])
def test_gradients_under_autocast(long: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functional, "LONG", long)
    blocks = unflat([w.float().requires_grad_() for w in flat(make_blocks((1, 4, 1), kernel=5))])
    spec = random(3, 1, 30, 20).float()
    with torch.autocast("cpu", torch.bfloat16):
        out = factorised(spec, blocks)
    got = torch.autograd.grad(out.sum(), flat(blocks))
    for a, b in zip(got, torch.autograd.grad(factorised(spec, blocks).sum(), flat(blocks)), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.1, atol=0.02 * b.abs().max().item())


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning", "ignore:.*TracerWarning")
def test_torchscript_by_tracing_keeps_no_python(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functional, "LONG", 0)
    module = TFE(n=2)
    spec = torch.randn(2, 1, 30, 20)
    torch.jit.trace(module, spec).save(tmp_path / "traced.pt")
    torch.testing.assert_close(torch.jit.load(tmp_path / "traced.pt")(spec), module(spec))


@pytest.mark.parametrize("long", [0, 10**9])
def test_gradients_sample_by_sample_under_vmap(long: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functional, "LONG", long)
    blocks = make_blocks((1, 2, 1), kernel=3)
    spec = random(3, 1, 6, 5)

    def loss(weights: tuple[torch.Tensor, ...], clip: torch.Tensor) -> torch.Tensor:
        return factorised(clip[None], unflat(weights)).square().sum()

    weights = tuple(flat(blocks))
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, spec)
    for i, clip in enumerate(spec):
        for a, b in zip(each, torch.func.grad(loss)(weights, clip), strict=True):
            torch.testing.assert_close(a[i], b)


def test_the_time_path_sees_frames_and_the_frequency_path_bins() -> None:
    blocks = make_blocks((1, 4, 1))
    swapped = [BlockWeights(block.freq, block.time) for block in blocks]
    spec = random(2, 1, 7, 5)
    e_t, e_f = functional.factors(spec, blocks)
    f_t, f_f = functional.factors(spec.transpose(2, 3), swapped)
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


def test_means_of_half_precision_are_summed_in_the_weights_precision() -> None:
    spec = (100 + random(1, 1, 300, 300)).half()
    blocks = [
        BlockWeights(*(PathWeights(*(w.float() for w in path)) for path in block)) for block in make_blocks((1, 1))
    ]
    e_t, e_f = functional.factors(spec, blocks)
    assert e_t.dtype == e_f.dtype == torch.float32
    torch.testing.assert_close((e_t, e_f), functional.factors(spec.float(), blocks))
    assert functional.apply_factors(spec, e_t, e_f).dtype == torch.float16


def test_an_empty_batch_has_an_empty_mask() -> None:
    blocks = make_blocks((2, 3, 2))
    spec = random(0, 2, 5, 4)
    assert functional.reference_mask(spec, blocks).shape == (0, 2, 5, 4)
    assert [factor.shape for factor in functional.factors(spec, blocks)] == [(0, 2, 5), (0, 2, 4)]
    assert factorised(spec, blocks).shape == (0, 2, 5, 4)
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
