"""Augmentations: what they may change and how far, each sample by its own draw, the draws even."""

import pytest
import torch

from specenhance.data.augment import add_noise, mask_span, shift_frames


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize(("dim", "length"), [(2, 30), (3, 20), (-2, 30), (-1, 20)])
def test_a_mask_is_one_span_across_the_other_axes(dim, length):
    spec = torch.rand(400, 2, 30, 20) + 1
    masked = mask_span(spec, 8, dim, value=-7.0)
    hit = masked == -7.0
    assert torch.equal(masked[~hit], spec[~hit])
    other = 3 if dim in (2, -2) else 2
    lines = hit.all(dim=other).all(dim=1)
    assert torch.equal(lines, hit.any(dim=other).any(dim=1))
    assert lines.shape == (400, length)
    widths = lines.sum(1)
    edges = lines.int().diff(dim=1).abs().sum(1)  # one span has at most two edges
    assert edges.max() <= 2
    assert set(widths.tolist()) == set(range(9))  # even over 0..8: each comes up in 400 draws
    assert abs(widths.float().mean() - 4) < 0.4
    reached = lines.any(0)
    assert reached.all()  # any frame may be hit, the first and the last too


def test_a_mask_may_be_as_wide_as_the_axis_and_no_wider():
    masked = mask_span(torch.ones(200, 1, 3, 4), 100, dim=2)
    assert set((masked == 0).all(3)[:, 0].sum(1).tolist()) == {0, 1, 2, 3}


def test_a_shift_rolls_whole_frames():
    spec = torch.arange(10.0).view(1, 1, 10, 1).repeat(600, 2, 1, 3)
    shifted = shift_frames(spec, 3)
    shifts = (-shifted[:, 0, 0, 0].long()) % 10
    for i in range(600):
        assert torch.equal(shifted[i], spec[i].roll(int(shifts[i]), dims=1))
    counts = torch.bincount(shifts, minlength=10)
    assert set(counts.nonzero().flatten().tolist()) == {0, 1, 2, 3, 7, 8, 9}
    assert counts[counts > 0].min() > 600 / 7 / 2


def test_noise_has_an_amplitude_of_its_own_in_each_sample():
    spec = torch.zeros(300, 1, 20, 20)
    noise = add_noise(spec, 0.5)
    assert noise.min() >= 0
    assert noise.max() < 0.5
    amplitudes = noise.amax(dim=(1, 2, 3))
    assert abs(amplitudes.mean() - 0.25) < 0.03
    assert amplitudes.min() < 0.02
    assert amplitudes.max() > 0.48
    assert abs(noise[amplitudes.argmax()].mean() - 0.25) < 0.03  # even between 0 and its amplitude


@pytest.mark.parametrize(
    "augment", [lambda x: mask_span(x, 0, 2), lambda x: shift_frames(x, 0), lambda x: add_noise(x, 0.0)]
)
def test_nothing_asked_for_gives_the_same_tensor(augment):
    spec = torch.rand(2, 1, 4, 4)
    assert augment(spec) is spec


@pytest.mark.parametrize(
    "augment", [lambda x: mask_span(x, 3, 2), lambda x: shift_frames(x, 2), lambda x: add_noise(x, 0.1)]
)
def test_the_input_stays_as_it_was_and_a_seed_repeats_the_draw(augment):
    spec = torch.rand(8, 1, 6, 5)
    before = spec.clone()
    torch.manual_seed(3)
    first = augment(spec)
    torch.manual_seed(3)
    assert torch.equal(first, augment(spec))
    assert torch.equal(spec, before)
    assert not torch.equal(first, spec)
    assert first.dtype == augment(spec.bfloat16()).float().dtype
    assert augment(spec.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (lambda x: mask_span(x, -1, 2), "width=-1: expected a number of frames or bins >= 0"),
        (lambda x: shift_frames(x, -1), "most=-1: expected a number of frames >= 0"),
        (lambda x: add_noise(x, -0.1), "most=-0.1: expected an amplitude >= 0"),
    ],
)
def test_a_negative_bound_is_refused(augment, message):
    with pytest.raises(ValueError, match=message):
        augment(torch.zeros(1, 1, 2, 2))
