"""TFE with standardised means: against the literal chain in float64, and alive."""

import numpy as np
import pytest
import torch

from specenhance import create_frontend


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def convolved(x, conv):
    weight, bias = (p.detach().double().numpy() for p in (conv.weight, conv.bias))
    reach = weight.shape[2] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (reach, reach)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2], axis=2)
    return np.einsum("bclk,ock->bol", windows, weight) + bias[:, None]


def literal(spec, frontend):
    """Every mask written out; each mean standardised before the first convolution of its path."""
    mask = spec
    for block in frontend.blocks:
        factors = []
        for path, axis in ((block.time, 3), (block.freq, 2)):
            z = mask.mean(axis)
            z = (z - z.mean(2, keepdims=True)) / np.sqrt(np.maximum(z.var(2, keepdims=True), 1e-8))
            factors.append(sigmoid(convolved(np.maximum(convolved(z, path.conv1), 0), path.conv2)))
        mask = factors[0][:, :, :, None] * factors[1][:, :, None, :]
    return spec * mask


@pytest.mark.parametrize("name", ["tfe1s", "tfe2s", "tfe4s"])
def test_it_is_the_literal_chain(name):
    torch.manual_seed(0)
    frontend = create_frontend(name).double()
    spec = torch.randn(3, 1, 40, 17, dtype=torch.float64)
    expected = literal(spec.numpy(), frontend)
    np.testing.assert_allclose(frontend(spec).detach().numpy(), expected, rtol=1e-9, atol=1e-12)
    frontend.blocks[0].register_forward_hook(lambda *_: None)  # the blocks are called
    np.testing.assert_allclose(frontend(spec).detach().numpy(), expected, rtol=1e-9, atol=1e-12)


def test_gradients():
    torch.manual_seed(0)
    frontend = create_frontend("tfe2s", channels=(1, 3, 1), kernel_size=3).double()
    assert torch.autograd.gradcheck(frontend, (torch.randn(2, 1, 6, 5, dtype=torch.float64, requires_grad=True),))


def test_it_has_the_parameters_of_tfe():
    for n in (1, 2, 4):
        plain, ours = create_frontend(f"tfe{n}").state_dict(), create_frontend(f"tfe{n}s").state_dict()
        assert {name: x.shape for name, x in plain.items()} == {name: x.shape for name, x in ours.items()}


def test_over_a_hundred_seeds_every_mask_follows_the_clip():
    """Where TFE(4)'s is constant in all of them."""
    spec = torch.randn(8, 1, 128, 64, generator=torch.Generator().manual_seed(0)).cumsum(2) / 8
    changes = {"tfe4": [], "tfe4s": []}
    for seed in range(100):
        for name, found in changes.items():
            torch.manual_seed(seed)
            with torch.no_grad():
                e_t, e_f = create_frontend(name).factors(spec)
            found.append(max(float(e.std(0).mean() / e.mean()) for e in (e_t, e_f)))
    assert max(changes["tfe4"]) < 0.001
    assert min(changes["tfe4s"]) > 0.01
