"""What the conditions do to a sound, and that every model hears the same."""

import json

import numpy as np
import pytest
import scipy.signal
import torch
from typer.testing import CliRunner

from specenhance.cli import app
from specenhance.conditions import create_condition, list_conditions
from specenhance.conditions.altered import Altered
from specenhance.conditions.registry import generator
from specenhance.data import AudioFolder, SyntheticSounds

RATE = 16000
EXAMPLES = ("clean", "codec:opus-16k", "gain:-12", "lowpass:4000", "noise:20", "reverb:0.5")


def speechlike(seconds=1.0, seed=0):
    noise = np.random.default_rng(seed).standard_normal(int(RATE * seconds))
    sos = scipy.signal.butter(4, [200, 3000], "band", fs=RATE, output="sos")
    return (0.2 * scipy.signal.sosfilt(sos, noise)).astype(np.float32)


def decibels(x):
    return 10 * np.log10(np.mean(np.square(x, dtype=np.float64)))


def test_there_is_an_example_of_each():
    assert [text.partition(":")[0] for text in EXAMPLES] == list_conditions()


@pytest.mark.parametrize("text", EXAMPLES)
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_length_and_type_stay_and_the_clip_decides_the_rest(text, rate):
    condition, wave = create_condition(text), speechlike()
    first = condition(wave.copy(), rate, generator("a/1.wav"))
    assert (first.shape, first.dtype) == (wave.shape, np.float32)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, create_condition(text)(wave.copy(), rate, generator("a/1.wav")))
    silent = condition(np.zeros(8000, np.float32), rate, generator("a"))
    assert np.abs(silent).max() < 1e-3


def test_each_does_what_it_says():
    wave = speechlike()

    def heard(text):
        return create_condition(text)(wave, RATE, generator("a"))

    assert decibels(heard("gain:+12")) - decibels(wave) == pytest.approx(12, abs=1e-3)
    assert decibels(wave) - decibels(heard("noise:10") - wave) == pytest.approx(10, abs=0.2)
    assert decibels(heard("reverb:1")) == pytest.approx(decibels(wave), abs=1e-3)
    frequency, power = scipy.signal.welch(heard("noise:0"), RATE)
    low_frequency, low_power = scipy.signal.welch(
        create_condition("lowpass:2000")(heard("noise:0"), RATE, generator("a")), RATE
    )
    loss = 10 * np.log10(low_power / power)
    assert abs(loss[(frequency > 100) & (frequency < 1500)]).max() < 1.5
    assert loss[frequency > 4000].max() < -40
    assert (low_frequency == frequency).all()


def test_a_room_sounds_on_as_long_as_it_says():
    click = np.zeros(2 * RATE, np.float32)
    click[0] = 1
    response = create_condition("reverb:0.8")(click, RATE, generator("a")).astype(np.float64)
    left = np.cumsum(response[::-1][:-1] ** 2)[::-1]
    level = 10 * np.log10(np.maximum(left, 1e-12) / left[0])
    seconds = 2 * (np.sum(level > -35) - np.sum(level > -5)) / RATE
    assert seconds == pytest.approx(0.8, abs=0.08)


@pytest.mark.parametrize(
    ("codec", "alike"), [("opus-64k", 0.98), ("opus-16k", 0.85), ("mp3-32k", 0.95), ("aac-32k", 0.9)]
)
def test_a_codec_keeps_the_place(codec, alike):
    wave = speechlike(2.0)
    found = create_condition(f"codec:{codec}")(wave, RATE, generator("a"))
    assert np.corrcoef(wave, found)[0, 1] > alike


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nois:3", "unknown condition 'nois': did you mean 'noise'"),
        ("noise", "condition 'noise': noise takes an argument, such as noise:20"),
        ("clean:1", "condition 'clean:1': clean takes no argument"),
        ("noise:loud", "condition 'noise:loud': expected dB from -60 to 120, not 'loud'"),
        ("reverb:nan", "expected seconds from 0.05 to 5, not 'nan'"),
        ("codec:flac-16k", r"expected a codec \(opus, mp3, aac\) and a bit rate"),
        ("codec:opus-0k", "a bit rate from 4k to 512k"),
    ],
)
def test_a_condition_that_is_none_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        create_condition(text)


def test_the_place_of_the_data_changes_nothing(tmp_path, write):
    for place in ("one", "two/three"):
        for split in ("train", "test"):
            for label in "ab":
                write(tmp_path / place / split / label / "x.wav", seconds=0.2)
    first, second = (
        Altered(AudioFolder(tmp_path / place, split="test"), create_condition("noise:5"))
        for place in ("one", "two/three")
    )
    assert torch.equal(first.waveform(1), second.waveform(1))
    assert not torch.equal(first.waveform(0) - first.waveform(1), torch.zeros(3200))


def test_an_altered_data_set_is_a_data_set():
    data = SyntheticSounds("test", clips_per_class=2)
    softer = Altered(data, create_condition("gain:-20"))
    assert len(softer) == len(data)
    assert softer[3][1] == data[3][1]
    torch.testing.assert_close(softer.excerpt(3, 0.1), 0.1 * data.excerpt(3, 0.1))
    torch.testing.assert_close(softer.subset([3]).waveform(0), 0.1 * data.waveform(3))


def test_evaluate_and_report_measure_under_conditions(untrained, tmp_path):
    run = str(untrained)
    file = tmp_path / "figures.json"
    done = CliRunner().invoke(
        app, ["evaluate", run, "--conditions", "clean,noise:-20", "--json", str(file), "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    assert ", noise:-20: test accuracy" in done.output
    rows = json.loads(file.read_text())
    assert [row["condition"] for row in rows] == ["clean", "noise:-20"]
    assert all(row["low"] <= row["accuracy"] <= row["high"] for row in rows)
    again = CliRunner().invoke(app, ["evaluate", run, "--conditions", "noise:-20", "--device", "cpu"])
    assert again.output.splitlines()[0] in done.output.splitlines()
    wrong = CliRunner().invoke(app, ["evaluate", run, "--conditions", "clean,noise"])
    assert wrong.exit_code == 1
    assert "noise takes an argument, such as noise:20" in wrong.output
    page = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["report", run, "--out", str(page), "--conditions", "gain:-12", "--worst", "0"])
    assert done.exit_code == 0, done.output
    assert "Under other conditions" in page.read_text()
