"""The fast path on a CPU gives the formula's derivatives in every mode; tests/test_functional.py has its values."""

import pytest
import torch
from blocks import flat, make_blocks, random, unflat
from torch import Tensor
from torch.autograd import forward_ad

from specenhance import TFE, functional
from specenhance.functional import BlockWeights
from specenhance.mask_path import cpu, product


def fast(spec: Tensor, blocks: list[BlockWeights]) -> Tensor:
    return product.apply_factors(spec, *cpu.factors(spec, blocks))


def test_second_gradients_are_those_of_finite_differences() -> None:
    inputs = tuple(tensor.requires_grad_() for tensor in (random(1, 1, 3, 2), *flat(make_blocks((1, 1), kernel=1))))
    assert torch.autograd.gradgradcheck(lambda spec, *weights: fast(spec, unflat(weights)), inputs)


@pytest.mark.parametrize("channels", [(1, 1), (2, 2), (1, 2, 1)])
def test_gradients_of_many_frames(channels: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "LONG", 0)
    blocks = make_blocks(channels, kernel=3)
    inputs = tuple(tensor.requires_grad_() for tensor in (random(2, channels[0], 4, 3), *flat(blocks)))
    assert torch.autograd.gradcheck(lambda spec, *weights: fast(spec, unflat(weights)), inputs)
    if channels == (1, 1):
        assert torch.autograd.gradgradcheck(lambda spec, *weights: fast(spec, unflat(weights)), inputs)


@pytest.mark.parametrize("long", [0, 10**9])
@pytest.mark.parametrize("channels", [(1, 1), (1, 2, 1)])
def test_forward_derivatives_are_those_of_finite_differences(
    channels: tuple[int, ...], long: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "LONG", long)
    inputs = tuple(t.requires_grad_() for t in (random(2, 1, 4, 3), *flat(make_blocks(channels, kernel=3))))
    checks = {"check_forward_ad": True, "check_batched_forward_grad": True, "check_backward_ad": False}
    assert torch.autograd.gradcheck(lambda spec, *weights: fast(spec, unflat(weights)), inputs, **checks)


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
    monkeypatch.setattr(cpu, "LONG", long)
    inputs = (random(2, 1, 4, 3), *flat(make_blocks((1, 2, 1), kernel=3)))
    ours, literal = (
        derivative(lambda spec, *weights, f=f: f(spec, unflat(weights)).square().sum(), tuple(range(len(inputs))))(
            *inputs
        )
        for f in (fast, functional.reference_enhance)
    )
    torch.testing.assert_close(ours, literal, rtol=1e-9, atol=1e-12)


def test_a_dual_number_passes_with_and_without_gradients() -> None:
    blocks, spec, tangent = make_blocks((1, 2, 1), kernel=3), random(2, 1, 4, 3), random(2, 1, 4, 3, seed=1)
    _, expected = torch.func.jvp(lambda spec: functional.reference_enhance(spec, blocks), (spec,), (tangent,))
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients), forward_ad.dual_level():
            dual = forward_ad.make_dual(spec.clone().requires_grad_(gradients), tangent)
            found = forward_ad.unpack_dual(fast(dual, blocks)).tangent
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("long", [0, 10**9])
def test_gradients_under_autocast(long: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "LONG", long)
    blocks = unflat([w.float().requires_grad_() for w in flat(make_blocks((1, 4, 1), kernel=5))])
    spec = random(3, 1, 30, 20).float()
    with torch.autocast("cpu", torch.bfloat16):
        out = fast(spec, blocks)
    got = torch.autograd.grad(out.sum(), flat(blocks))
    for a, b in zip(got, torch.autograd.grad(fast(spec, blocks).sum(), flat(blocks)), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.1, atol=0.02 * b.abs().max().item())


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning", "ignore:.*TracerWarning")
def test_torchscript_by_tracing_keeps_no_python(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "LONG", 0)
    module = TFE(n=2)
    spec = torch.randn(2, 1, 30, 20)
    torch.jit.trace(module, spec).save(tmp_path / "traced.pt")
    torch.testing.assert_close(torch.jit.load(tmp_path / "traced.pt")(spec), module(spec))


@pytest.mark.parametrize("long", [0, 10**9])
def test_gradients_sample_by_sample_under_vmap(long: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "LONG", long)
    blocks = make_blocks((1, 2, 1), kernel=3)
    spec = random(3, 1, 6, 5)

    def loss(weights: tuple[torch.Tensor, ...], clip: torch.Tensor) -> torch.Tensor:
        return fast(clip[None], unflat(weights)).square().sum()

    weights = tuple(flat(blocks))
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, spec)
    for i, clip in enumerate(spec):
        for a, b in zip(each, torch.func.grad(loss)(weights, clip), strict=True):
            torch.testing.assert_close(a[i], b)
