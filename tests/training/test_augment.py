"""Augmentations: what they may change and how far, each sample by its own draw, the draws even."""

import numpy as np
import pytest
import torch

from specenhance.training.augment import (
    add_noise,
    filter_bins,
    mask_span,
    mix_styles,
    mix_waveforms,
    shift_frames,
    smooth_labels,
)


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
        (lambda x: shift_frames(x, -1), "maximum=-1: expected a number of frames >= 0"),
        (lambda x: add_noise(x, -0.1), "maximum=-0.1: expected an amplitude >= 0"),
    ],
)
def test_a_negative_bound_is_refused(augment, message):
    with pytest.raises(ValueError, match=message):
        augment(torch.zeros(1, 1, 2, 2))


# ---- Mix-up.

N, CLASSES = 40, 3


@pytest.fixture
def sounds():
    """Waveforms without a mean, so that a mixture is told by its projections; one class each, by turns."""
    B = 600
    length = torch.full((B,), N)
    length[::5] = 25
    waveform = torch.randn(B, N)
    sounding = torch.arange(N) < length[:, None]
    waveform = torch.where(
        sounding, waveform - torch.where(sounding, waveform, 0).sum(1, keepdim=True) / length[:, None], 0
    )
    return waveform, length, torch.eye(CLASSES)[torch.arange(B) % CLASSES]


def test_mixtures_are_what_their_labels_say(sounds):
    waveform, length, target = sounds
    mixed, shares = mix_waveforms(waveform, length, target, probability=0.6, alpha=10.0)
    assert torch.allclose(shares.sum(1), torch.ones(600))
    same = (mixed == waveform).all(1)
    assert torch.equal(shares[same], target[same])
    assert abs(same.float().mean() - 0.4) < 0.06
    lambdas = []
    for i in (~same).nonzero().flatten().tolist():
        own = shares[i, i % CLASSES].item()
        if own > 1 - 1e-6:  # the partner is of the same class: l cannot be read from the labels
            continue
        partner_class = int(shares[i].clone().index_fill(0, torch.tensor([i % CLASSES]), 0).argmax())
        rest = mixed[i] - own * waveform[i]
        sounding = torch.arange(N) < length[i]
        candidates = torch.where(sounding, (1 - own) * waveform[partner_class::CLASSES], 0)
        assert (candidates - rest).abs().amax(1).min() < 1e-5  # one of that class, at that level
        assert (mixed[i, int(length[i]) :] == 0).all()
        lambdas.append(own)
    drawn = torch.tensor(lambdas)
    assert len(drawn) > 150
    assert abs(drawn.mean() - 0.5) < 0.03
    assert abs(drawn.std() - (1 / (4 * 21)) ** 0.5) < 0.02  # of Beta(10, 10)
    assert drawn.min() > 0.1
    assert drawn.max() < 0.9


def test_every_sample_may_be_mixed_and_none_need_be(sounds):
    waveform, length, target = sounds
    every, _ = mix_waveforms(waveform, length, target, probability=1.0, alpha=10.0)
    assert (every == waveform).all(1).sum() <= 5  # only those that drew themselves, and hardly those
    none = mix_waveforms(waveform, length, target, probability=0.0, alpha=10.0)
    assert none.waveform is waveform
    assert none.target is target


def test_a_mixture_leaves_the_means_out():
    waveform = torch.tensor([[1.0, 1.0, 1.0, 1.0], [3.0, 1.0, 0.0, 0.0]])
    mixed, shares = mix_waveforms(waveform, torch.tensor([4, 2]), torch.eye(2), probability=1.0, alpha=10.0)
    assert mixed.shape == (2, 4)
    other = shares[0, 1]  # of the second sound in the first: [1, -1] less its mean, then zeros
    assert torch.allclose(mixed[0], other * torch.tensor([1.0, -1.0, 0.0, 0.0]))
    assert torch.allclose(mixed[1], shares[1, 1] * torch.tensor([1.0, -1.0, 0.0, 0.0]))


def test_multi_hot_labels_are_mixed_like_shares(sounds):
    waveform, length, target = sounds
    both = target + target.roll(1, dims=1)
    _, mixed = mix_waveforms(waveform, length, both, probability=1.0, alpha=10.0)
    assert torch.allclose(mixed.sum(1), torch.full((600,), 2.0))
    assert mixed.max() <= 1
    assert mixed.min() >= 0


def test_a_seed_repeats_the_mixtures(sounds):
    before = sounds[0].clone()
    draws = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        draws.append(mix_waveforms(*sounds, probability=0.5, alpha=10.0))
    assert torch.equal(draws[0].waveform, draws[1].waveform)
    assert torch.equal(draws[0].target, draws[1].target)
    assert not torch.equal(draws[0].waveform, draws[2].waveform)
    assert torch.equal(sounds[0], before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probability": 1.1}, r"probability=1\.1: expected the probability that a sample is mixed"),
        ({"probability": -0.1}, r"probability=-0\.1"),
        ({"alpha": 0.0}, r"alpha=0\.0: expected a number > 0"),
        ({"target": torch.tensor([0, 1])}, r"labels \(2,\) of torch\.int64: expected probabilities \(2, classes\)"),
    ],
)
def test_a_mixture_out_of_range_is_refused(changes, message):
    settings = {"target": torch.eye(2), "probability": 0.5, "alpha": 10.0} | changes
    with pytest.raises(ValueError, match=message):
        mix_waveforms(torch.zeros(2, 4), torch.tensor([4, 4]), **settings)


# ---- Labels.


def test_smoothing_is_that_of_cross_entropy():
    logits, label = torch.randn(7, 5, dtype=torch.float64), torch.arange(7) % 5
    smoothed = smooth_labels(torch.eye(5, dtype=torch.float64)[label], 0.1)
    assert torch.allclose(smoothed.sum(1), torch.ones(7, dtype=torch.float64))
    assert smoothed.min().item() == pytest.approx(0.02)
    assert smoothed.max().item() == pytest.approx(0.92)
    ours = -(smoothed * logits.log_softmax(1)).sum(1).mean()
    theirs = torch.nn.functional.cross_entropy(logits, label, label_smoothing=0.1)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-12)
    with pytest.raises(ValueError, match=r"amount=1\.0: expected a part in \[0, 1\)"):
        smooth_labels(smoothed, 1.0)


def test_styles_are_mixtures_of_the_batchs_own():
    torch.manual_seed(0)
    spec = torch.randn(400, 1, 30, 8) * (1 + torch.rand(400, 1, 1, 8)) + 5 * torch.randn(400, 1, 1, 8)
    mixed = mix_styles(spec, 0.5, 0.4)
    changed = (mixed != spec).flatten(1).any(1)
    assert abs(changed.float().mean() - 0.5) < 0.08
    # What is left of a clip without its own moments stays.
    bare, left = (
        (x - x.mean(2, keepdim=True)) / x.std(2, correction=0, keepdim=True) for x in (spec[changed], mixed[changed])
    )
    assert torch.allclose(bare, left, atol=1e-3)
    low, high = spec.mean(2).amin(0), spec.mean(2).amax(0)
    assert ((mixed.mean(2) >= low - 1e-4) & (mixed.mean(2) <= high + 1e-4)).all()
    assert mix_styles(spec, 0.0, 0.4) is spec
    alone = spec[:1]
    assert torch.allclose(mix_styles(alone, 1.0, 0.4), alone, atol=1e-4)  # no partner but itself


def test_a_filter_is_one_curve_for_each_clip():
    torch.manual_seed(0)
    spec = torch.randn(2000, 2, 5, 40)
    added = filter_bins(spec, 6.0, scale=0.5) - spec
    curve = added[:, 0, 0]
    assert torch.allclose(
        added, curve[:, None, None, :].expand_as(added), atol=1e-5
    )  # the same in all frames and channels
    decibels = curve / (0.5 * np.log(10) / 10)
    assert decibels.abs().max() <= 6.001
    assert decibels.abs().max() > 5.9
    assert decibels.mean().abs() < 0.3
    # Linear between edges: at most five bands, so few places where the slope changes.
    bends = (decibels.diff(dim=1).diff(dim=1).abs() > 1e-3).sum(1)
    assert bends.max() <= 2 * 4
    assert filter_bins(spec, 0.0) is spec
