"""The arithmetic of the benchmarks: ratios, what has fallen, exponents, intervals, noise of a known level."""

import sys
from pathlib import Path

import pytest
import torch

from specenhance.frontends.registry import FRONTENDS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    monkeypatch.setattr(FRONTENDS, "_entries", dict(FRONTENDS._entries))  # front_ends.py registers one of its own


def test_a_ratio_is_taken_round_by_round():
    from side_by_side import ratio, spread

    times = {"slow": [2.0, 40.0, 2.0], "fast": [1.0, 10.0, 1.0]}  # a busy second round slows both
    assert ratio(times, "slow", "fast") == (2.0, 2.0, 3.0)
    assert spread([5.0]) == (5.0, 5.0, 5.0)


def test_candidates_take_turns():
    from side_by_side import WARM_UP, take_turns

    calls = []
    times = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 4)
    assert {name: len(values) for name, values in times.items()} == {"a": 4, "b": 4}
    for i in range(4 + WARM_UP):
        assert sorted(calls[2 * i : 2 * i + 2]) == ["a", "b"]
    assert calls != ["a", "b"] * (4 + WARM_UP)


def test_peak_memory_counts_what_is_held_at_once():
    from side_by_side import peak_memory

    def call():
        a = torch.ones(1_000_000)
        del a
        return torch.ones(250_000) + torch.ones(250_000)

    assert 4_000_000 <= peak_memory(call) < 4_100_000


def test_what_has_fallen_is_named():
    from suite import fallen

    recorded = {"kept": [9, 10, 11], "noisy": [9, 10, 11], "fallen": [9, 10, 11], "gone": [1, 1, 1]}
    now = {"kept": [7, 8, 9], "noisy": [3, 6, 8], "fallen": [5, 6, 7], "new": [1, 1, 1]}
    assert fallen(recorded, now) == ["fallen: 6.00 (up to 7.00), recorded 10.00", "gone: not measured any more"]


def test_the_exponent_is_fitted_to_the_larger_half():
    from growth import fitted

    sizes = [1, 2, 4, 8, 16, 32]
    assert fitted(sizes, [5, 5, 5, 8**1.5, 16**1.5, 32**1.5]) == pytest.approx(1.5)


def test_intervals_and_corrected_p_values():
    from front_ends import holm, interval

    mean, half = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (mean, half) == (3.0, pytest.approx(2.776445 * (2.5 / 5) ** 0.5, rel=1e-5))
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})


@pytest.mark.parametrize("snr", [20, 0])
def test_noise_is_as_loud_as_it_says_and_the_same_for_every_model(snr):
    from front_ends import louder, noisy

    wave = torch.sin(torch.arange(16000) / 7)
    noise = noisy(snr)(wave, 3) - wave
    assert 10 * (wave.square().mean() / noise.square().mean()).log10() == pytest.approx(snr, abs=1e-3)
    torch.testing.assert_close(noisy(snr)(wave, 3), wave + noise)
    assert not torch.equal(noisy(snr)(wave, 4), noisy(snr)(wave, 3))
    torch.testing.assert_close(louder(20)(wave, 0), 10 * wave)


def test_what_is_heard_is_compared_with_what_was_there():
    from listening import score

    from specenhance.audio.listen import Event

    clips = [(1.0, 2.0, 0), (4.0, 5.0, 1), (7.0, 8.0, 0)]
    found = [
        Event(0.75, 2.0, 0, 0.9),  # heard
        Event(4.0, 5.25, 0, 0.9),  # wrong
        Event(2.5, 3.75, 1, 0.9),  # false: in a pause
        Event(6.0, 9.5, 0, 0.9),  # false: far longer than the clip
        Event(2.5, 3.75, 2, 0.9),  # background
    ]
    assert score(found, clips, background=2) == (1, 1, 1 + 1)


def test_the_live_tfe_starts_with_a_mask_that_depends_on_the_clip():
    from front_ends import tfe4_live

    from specenhance import TFE

    spec = torch.randn(16, 1, 128, 128).cumsum(2) / 10
    torch.manual_seed(0)
    e_t, _ = tfe4_live().factors(spec)
    plain, _ = TFE(n=4).factors(spec)
    assert e_t.std(0).mean() > 100 * plain.std(0).mean()
