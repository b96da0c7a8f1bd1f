"""The comparison of front ends: intervals, corrected p values, noise of a known level, and no name taken on import."""

import subprocess
import sys

import pytest
import torch

from specenhance import TFE
from specenhance.experiments.front_ends import holm, louder, noisy, tfe4_live
from specenhance.experiments.grid import summary


def test_intervals_and_corrected_p_values():
    mean, _, half = summary([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (mean, half) == (3.0, pytest.approx(2.776445 * (2.5 / 5) ** 0.5, rel=1e-5))
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})


@pytest.mark.parametrize("snr", [20, 0])
def test_noise_is_as_loud_as_it_says_and_the_same_for_every_model(snr):
    wave = torch.sin(torch.arange(16000) / 7)
    noise = noisy(snr)(wave, 3) - wave
    assert 10 * (wave.square().mean() / noise.square().mean()).log10() == pytest.approx(snr, abs=1e-3)
    torch.testing.assert_close(noisy(snr)(wave, 3), wave + noise)
    assert not torch.equal(noisy(snr)(wave, 4), noisy(snr)(wave, 3))
    torch.testing.assert_close(louder(20)(wave, 0), 10 * wave)


def test_the_live_tfe_starts_with_a_mask_that_depends_on_the_clip():
    spec = torch.randn(16, 1, 128, 128).cumsum(2) / 10
    torch.manual_seed(0)
    e_t, _ = tfe4_live().factors(spec)
    plain, _ = TFE(n=4).factors(spec)
    assert e_t.std(0).mean() > 100 * plain.std(0).mean()


def test_an_import_registers_nothing():
    code = "import specenhance, specenhance.experiments.front_ends; print('tfe4_live' in specenhance.list_frontends())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
