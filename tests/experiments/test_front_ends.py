"""The comparison of front ends: intervals, corrected p values, noise of a known level, and no name taken on import."""

import json
import subprocess
import sys

import pytest
import torch

from specenhance import TFE, list_frontends
from specenhance.experiments import front_ends
from specenhance.experiments.front_ends import louder, noisy, tfe4_live
from specenhance.experiments.grid import summary
from specenhance.frontends.registry import FRONTENDS
from specenhance.training import load_recipe


def test_intervals_over_seeds():
    mean, _, half = summary([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (mean, half) == (3.0, pytest.approx(2.776445 * (2.5 / 5) ** 0.5, rel=1e-5))


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


def test_the_runs_are_trained_once_and_reported(speech, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(FRONTENDS, "_entries", dict(FRONTENDS._entries))  # it registers one of its own
    for name, value in {"BACKBONE": "test_resnet", "EPOCHS": 1, "FRONTENDS": ("identity", "tfe1")}.items():
        monkeypatch.setattr(front_ends, name, value)
    monkeypatch.setattr(front_ends, "SEEDS", range(2))
    command = ["front_ends", "train", str(speech), "--out", str(tmp_path), "--frontends"]
    monkeypatch.setattr(sys, "argv", [*command, "identity", "tfe1", "tfe4_live", "--seeds", "0", "1"])
    front_ends.main()
    assert "tfe4_live" in list_frontends()
    assert load_recipe(tmp_path / "tfe4_live-1" / "recipe.toml").seed == 1
    assert capsys.readouterr().out.startswith("run 1 of 6: identity, seed 0")
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/result.json")}
    front_ends.main()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/result.json")} == stamps
    monkeypatch.setattr(sys, "argv", ["front_ends", "report", str(speech), "--out", str(tmp_path)])
    front_ends.main()
    found = json.loads((tmp_path / "report" / "front_ends.json").read_text())
    assert list(found) == ["identity", "tfe1", "tfe4_live"]
    assert found["tfe1"]["1"]["validation"]
    assert "| tfe4_live |" in (tmp_path / "report" / "tables.md").read_text()
    assert (tmp_path / "report" / "masks.png").is_file()
