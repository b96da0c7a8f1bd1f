"""Augmentations of waveforms: their distribution, their seeds, and what they leave alone."""

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch

from specenhance.training import Recipe, recipe_for, train
from specenhance.training.acoustics import (
    add_background,
    add_rooms,
    alter,
    change_gain,
    check_folders,
    pink_noise,
    simulated_rooms,
)
from specenhance.training.recipe import AUGMENTATIONS, augmentation

RATE = 16000


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def full(B, N):
    return torch.full((B,), N)


def decibels(x, axis=-1):
    return 10 * torch.log10(x.double().square().mean(axis))


def test_gain_is_uniform_in_decibels():
    found = decibels(change_gain(torch.ones(4000, 8), 12.0))
    assert found.min() >= -12
    assert found.max() <= 12
    counts = torch.histc(found, 6, -12, 12)
    assert (counts / 4000 - 1 / 6).abs().max() < 0.03
    wave = torch.randn(2, 8)
    assert change_gain(wave, 0.0) is wave


def test_noise_has_the_drawn_ratio_over_a_clips_own_samples():
    B, N = 3000, 400
    clips = torch.randn(B, N)
    length = torch.randint(50, N + 1, (B,))
    clips[torch.arange(N) >= length[:, None]] = 0
    noisy = add_background(clips, length, torch.randn(B, N), 0.7, -5.0, 35.0)
    assert not noisy[torch.arange(N) >= length[:, None]].any()  # padding stays silent
    changed = (noisy != clips).any(1)
    assert abs(changed.float().mean() - 0.7) < 0.03
    added = (noisy - clips)[changed].double()
    snr = 10 * torch.log10(clips[changed].double().square().sum(1) / added.square().sum(1))
    assert snr.min() > -5.01
    assert snr.max() < 35.01
    counts = torch.histc(snr, 5, -5, 35)
    assert (counts / len(snr) - 1 / 5).abs().max() < 0.04


def test_a_silent_clip_stays_silent():
    silent = torch.zeros(4, 100)
    assert not add_background(silent, full(4, 100), torch.randn(4, 100), 1.0, 0.0, 0.0).any()
    assert not add_rooms(silent, full(4, 100), simulated_rooms(2, RATE), 1.0).any()


def test_pink_noise_falls_by_three_decibels_an_octave():
    frequency, power = scipy.signal.welch(pink_noise(64, RATE).numpy(), RATE, nperseg=1024)
    inside = (frequency > 100) & (frequency < 6000)
    slope = np.polyfit(np.log2(frequency[inside]), 10 * np.log10(power.mean(0)[inside]), 1)[0]
    assert slope == pytest.approx(-3.01, abs=0.1)


def test_rooms_are_the_convolution_and_keep_place_and_power():
    clips, bank = torch.randn(6, 300), torch.randn(2, 40) * 0.3
    bank[:, 0] = 1
    wet = add_rooms(clips, full(6, 300), bank, 1.0)
    for clip, found in zip(clips, wet, strict=True):
        options = [scipy.signal.fftconvolve(clip, response)[:300] for response in bank]
        options = [x * np.sqrt(clip.square().sum().item() / (x**2).sum()) for x in options]
        assert min(np.abs(found.numpy() - x).max() for x in options) < 1e-4
    assert torch.allclose(decibels(wet), decibels(clips), atol=1e-3)


def test_simulated_rooms_decay_as_they_are_drawn():
    responses = simulated_rooms(400, RATE).double()
    assert (responses[:, 0] == 1).all()
    direct = -10 * torch.log10(responses[:, 1:].square().sum(1))
    assert direct.min() > -6.01
    assert direct.max() < 12.01
    # Schroeder: the remaining energy falls by 60 dB in the reverberation time.
    left = responses[:, 1:].square().flip(1).cumsum(1).flip(1)
    level = 10 * torch.log10(left / left[:, :1])
    times = 2 * ((level > -35).sum(1) - (level > -5).sum(1)) / RATE  # -30 dB, doubled
    assert times.min() > 0.08
    assert times.max() < 0.9
    assert times.median() == pytest.approx(0.45, abs=0.06)


@pytest.mark.parametrize("background", ["white", "pink", "mixed", "folder"])
def test_the_same_seed_gives_the_same_sound(background, tmp_path, write):
    write(tmp_path / "noise" / "a.wav", seconds=0.5)
    given = str(tmp_path / "noise") if background == "folder" else background
    recipe = Recipe(gain=6.0, background=given, rooms="simulated")
    clips = torch.randn(4, 800)

    def altered(seed):
        torch.manual_seed(seed)
        return alter(clips, full(4, 800), recipe)

    assert torch.equal(altered(1), altered(1))
    assert not torch.equal(altered(1), altered(2))
    assert altered(1).dtype == torch.float32


def test_without_augmentation_the_batch_is_the_same_object():
    clips = torch.randn(4, 800)
    assert alter(clips, full(4, 800), Recipe()) is clips


def test_a_folder_of_responses(tmp_path):
    response = np.zeros(200, np.float32)
    response[50], response[90] = 0.5, -0.25  # sounds after a delay
    (tmp_path / "rooms").mkdir()
    soundfile.write(tmp_path / "rooms" / "hall.wav", response, RATE, subtype="FLOAT")
    clips = torch.zeros(1, 400)
    clips[0, 10] = 1
    wet = alter(clips, full(1, 400), Recipe(rooms=str(tmp_path / "rooms"), rooms_probability=1.0))
    found = wet[0] / wet[0, 10]
    assert found[50].item() == pytest.approx(-0.5, abs=1e-4)
    assert found[10].item() == 1


@pytest.mark.parametrize("field", ["background", "rooms"])
def test_a_folder_that_is_not_there_is_told_before_the_training(field, tmp_path):
    recipe = recipe_for("synthetic", **{field: "wite"})
    with pytest.raises(FileNotFoundError, match=f"{field} = 'wite': expected '.*', or a folder of sound files"):
        train(recipe, tmp_path / "run", device="cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no sound file in it"):
        check_folders(recipe_for("synthetic", **{field: str(tmp_path / "empty")}))
    assert not (tmp_path / "run").exists()


def test_the_named_sets_are_recipes():
    for name in AUGMENTATIONS:
        assert Recipe(**augmentation(name)).gain == AUGMENTATIONS[name]["gain"]
    assert Recipe(**augmentation("none")) == Recipe()
    with pytest.raises(ValueError, match="augment = 'strong': expected one of none, light, robust"):
        augmentation("strong")
