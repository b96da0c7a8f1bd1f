"""The product of a spectrogram and its factors: its own gradient, empty batches, vmap."""

import pytest
import torch
from blocks import random

from specenhance.mask_path import product


def test_gradients_of_the_product() -> None:
    inputs = tuple(t.requires_grad_() for t in (random(2, 2, 3, 4), random(2, 2, 3, seed=1), random(2, 2, 4, seed=2)))
    assert torch.autograd.gradcheck(product.apply_factors, inputs)
    assert torch.autograd.gradgradcheck(product.apply_factors, inputs)


def test_gradients_of_an_empty_batch_are_0() -> None:
    inputs = [torch.ones(size, requires_grad=True) for size in ((0, 2, 3, 4), (0, 2, 3), (0, 2, 4))]
    grads = torch.autograd.grad(product.apply_factors(*inputs).sum(), inputs)
    assert [grad.shape for grad in grads] == [x.shape for x in inputs]


@pytest.mark.parametrize("gradients", [True, False])
def test_a_factor_alone_may_come_in_several(gradients: bool) -> None:
    spec, e_t, e_f = random(2, 1, 5, 4), random(2, 1, 5), random(3, 2, 1, 4)
    with torch.set_grad_enabled(gradients):
        found = torch.func.vmap(product.apply_factors, in_dims=(None, None, 0))(spec, e_t, e_f)
    torch.testing.assert_close(found, torch.stack([product.apply_factors(spec, e_t, one) for one in e_f]))
