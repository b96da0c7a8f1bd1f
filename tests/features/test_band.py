"""The band of the filters, against torchaudio's and nnAudio's own."""

import math

import pytest
import torch

from specenhance.features import create_features

BAND = {"fmin": 300.0, "fmax": 6500.0}


def noise():
    return torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))


def test_kaldis_band_is_torchaudios():
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    wave = noise()
    ours = create_features("kaldi", num_mel_bins=40, mean=0.0, std=0.5, **BAND)(wave)
    for i in range(2):
        expected = kaldi.fbank(
            (wave[i] - wave[i].mean())[None], htk_compat=True, use_energy=False, window_type="hanning", num_mel_bins=40,
            dither=0.0, frame_shift=10, low_freq=300, high_freq=6500,
        )  # fmt: skip
        assert torch.allclose(ours[i, 0], expected, atol=2e-4)


def test_logmels_band_is_torchaudios():
    transforms = pytest.importorskip("torchaudio.transforms")
    wave = noise()
    mel = transforms.MelSpectrogram(
        16000, 512, hop_length=160, f_min=300, f_max=6500, n_mels=40, center=False, mel_scale="slaney"
    )
    expected = mel(wave).clamp(min=1e-10).log().transpose(1, 2)
    assert torch.allclose(create_features("logmel", num_mel_bins=40, **BAND)(wave)[:, 0], expected, atol=1e-4)


def test_the_learned_filters_start_as_logmels():
    wave = noise()
    start, fixed = (create_features(name, num_mel_bins=40, **BAND)(wave) for name in ("trainable_mel", "logmel"))
    assert torch.allclose(start, fixed, atol=1e-3)


@pytest.mark.parametrize("name", ["kaldi", "logmel", "trainable_mel"])
def test_centres_lie_in_the_band_and_another_is_refused(name):
    features = create_features(name, num_mel_bins=40, **BAND)
    assert 300 < features.frequencies[0] < features.frequencies[-1] < 6500
    assert features.made_with["fmax"] == 6500
    for band in (
        {"fmin": 9000.0},
        {"fmax": 9000.0},
        {"fmin": 500.0, "fmax": 400.0},
        {"fmin": -1.0},
        {"fmin": math.nan},
    ):
        with pytest.raises(ValueError, match="expected a band in Hz, 0 <= fmin < fmax <= 8000"):
            create_features(name, num_mel_bins=40, **band)
