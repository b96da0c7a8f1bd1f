"""The built-in set: the same bits whatever the order, and neither trivial nor hopeless."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from specenhance.data import AudioDataset, SyntheticSounds, collate

SPLITS = ("train", "validation", "test")


def test_each_class_has_its_clips():
    sounds = SyntheticSounds("train", clips_per_class=3)
    assert isinstance(sounds, AudioDataset)
    assert len(sounds.classes) == 10
    assert Counter(sounds.labels) == dict.fromkeys(range(10), 3)
    assert sounds.paths == []


@pytest.mark.parametrize(("rate", "seconds"), [(16000, 1.0), (8000, 0.5), (44100, 2.5)])
def test_clips_have_the_length_asked_for_and_stay_in_range(rate, seconds):
    sounds = SyntheticSounds("test", clips_per_class=10, sample_rate=rate, seconds=seconds)
    waveform = collate(list(sounds)).waveform
    assert waveform.shape == (100, round(rate * seconds))
    assert waveform.dtype == torch.float32
    assert waveform.isfinite().all()
    peaks = waveform.abs().amax(1)
    assert peaks.max() <= 1
    assert peaks.min() > 0.01
    assert peaks.max() / peaks.min() > 5  # levels vary


def test_a_clip_does_not_depend_on_the_order_nor_on_how_many_there_are():
    few, many = SyntheticSounds("train", clips_per_class=2), SyntheticSounds("train", clips_per_class=50)
    backwards = {i: many[i][0] for i in reversed(range(20))}
    for i in range(20):
        assert torch.equal(few[i][0], backwards[i])
        assert few[i][1] == many[i][1]
    assert torch.equal(few[-1][0], few[19][0])


def test_a_clip_is_the_same_in_another_process_whatever_was_seeded():
    code = (
        "import hashlib, numpy, torch; numpy.random.seed(7); torch.manual_seed(7);"
        "from specenhance.data import SyntheticSounds;"
        "print(hashlib.sha256(SyntheticSounds('test', seed=3)[123][0].numpy().tobytes()).hexdigest())"
    )
    python = [sys.executable, "-c"]
    done = subprocess.run([*python, code], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    again = subprocess.run(
        [*python, code.replace("seed(7)", "seed(8)")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    assert done.stdout == again.stdout


def test_splits_and_seeds_share_no_clip():
    clips = [
        SyntheticSounds(split, clips_per_class=5, seed=seed)[i][0]
        for split in SPLITS
        for seed in (0, 1)
        for i in range(50)
    ]
    assert len({clip.numpy().tobytes() for clip in clips}) == 300


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, "split='dev': expected one of train, validation, test"),
        ({"clips_per_class": 0}, "clips_per_class=0"),
        ({"seed": -1}, "seed=-1"),
        ({"sample_rate": 4000}, "sample_rate=4000: expected a rate in Hz >= 8000"),
        ({"seconds": 0.1}, "seconds=0.1"),
        ({"seconds": float("nan")}, "seconds=nan"),
    ],
)
def test_what_is_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SyntheticSounds(**{"split": "train"} | arguments)


def spectrogram(waveform: Tensor) -> Tensor:
    power = torch.stft(waveform, 512, 160, window=torch.hann_window(512), return_complex=True).abs().square()
    bands = power.unfold(1, 8, 8).mean(-1)  # (B, 32, T)
    return bands.clamp_min(1e-8).log()


def test_it_is_neither_trivial_nor_hopeless():
    def describe(split: str) -> tuple[Tensor, Tensor]:
        batch = collate(list(SyntheticSounds(split, clips_per_class=60)))
        spec = spectrogram(batch.waveform)
        steps = spec.diff(dim=2).abs()
        return torch.cat([spec.mean(2), spec.std(2), steps.mean(2), steps.amax(2)], dim=1), batch.label

    x, y = describe("train")
    x_test, y_test = describe("test")
    mean, std = x.mean(0), x.std(0)
    x, x_test = (x - mean) / std, (x_test - mean) / std
    weights = torch.linalg.solve(
        x.T @ x + 100 * torch.eye(x.shape[1]), x.T @ torch.nn.functional.one_hot(y, 10).float()
    )
    accuracy = ((x_test @ weights).argmax(1) == y_test).float().mean().item()
    assert 0.3 < accuracy < 0.8  # a linear map of what changes in which band; chance is 0.1
