"""Reading one file: what is converted, and what is refused by name."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from specenhance.data import AudioError, read_audio


def sine(rate: int, seconds: float, frequency: float = 440.0) -> torch.Tensor:
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return (0.5 * torch.sin(2 * torch.pi * frequency * time)).float()


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_file_at_the_asked_rate_comes_back_sample_by_sample(tmp_path, write, suffix):
    waveform = read_audio(write(tmp_path / f"a.{suffix}", seconds=0.25))
    assert waveform.dtype == torch.float32
    assert waveform.shape == (4000,)
    torch.testing.assert_close(waveform, sine(16000, 0.25), atol=1 / 32768, rtol=0)


@pytest.mark.parametrize("suffix", ["ogg", "mp3"])
def test_lossy_formats_are_read(tmp_path, write, suffix):
    waveform = read_audio(str(write(tmp_path / f"a.{suffix}", seconds=0.5)))
    assert waveform.shape == (8000,)
    assert (waveform - sine(16000, 0.5)).abs().mean() < 0.05


@pytest.mark.parametrize("rate", [44100, 8000, 22050, 11127])
def test_another_rate_is_resampled(tmp_path, write, rate):
    waveform = read_audio(write(tmp_path / "a.wav", seconds=0.5, rate=rate))
    assert abs(len(waveform) - 8000) <= 1
    inner = slice(1000, 7000)  # the filter rings at the ends
    torch.testing.assert_close(waveform[inner], sine(16000, 0.5)[inner], atol=2e-3, rtol=0)


def test_what_lies_above_half_the_new_rate_is_filtered_out(tmp_path, write):
    waveform = read_audio(write(tmp_path / "a.wav", seconds=0.5, rate=44100, frequency=9000))
    assert waveform[1000:7000].abs().max() < 1e-3


def test_the_rate_can_be_chosen(tmp_path, write):
    assert read_audio(write(tmp_path / "a.wav", seconds=0.5), sample_rate=32000).shape == (16000,)


def test_stereo_becomes_its_average(tmp_path):
    left, right = np.full(100, 0.5), np.linspace(-0.5, 0.25, 100)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16000, subtype="FLOAT")
    expected = torch.from_numpy((left + right) / 2).float()
    torch.testing.assert_close(read_audio(tmp_path / "a.wav"), expected)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.wav: no such audio file"):
        read_audio(tmp_path / "nothing.wav")
    with pytest.raises(FileNotFoundError, match="no such audio file"):
        read_audio(tmp_path)


def test_an_empty_file_is_refused(tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    with pytest.raises(AudioError, match=r"none\.wav: holds no sound"):
        read_audio(tmp_path / "none.wav")
    (tmp_path / "bytes.wav").write_bytes(b"")
    with pytest.raises(AudioError, match=r"bytes\.wav: cannot be decoded"):
        read_audio(tmp_path / "bytes.wav")


def test_a_sound_too_short_for_the_rate_is_refused(tmp_path):
    soundfile.write(tmp_path / "one.wav", np.ones(1), 44100)
    with pytest.raises(AudioError, match=r"one\.wav: holds no sound \(1 samples at 44100 Hz\)"):
        read_audio(tmp_path / "one.wav")


def test_what_is_no_audio_is_refused(tmp_path):
    (tmp_path / "text.flac").write_text("not a sound")
    with pytest.raises(AudioError, match=r"text\.flac: cannot be decoded .* Replace or remove it"):
        read_audio(tmp_path / "text.flac")


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_a_truncated_file_is_refused(tmp_path, write, suffix):
    whole = write(tmp_path / f"whole.{suffix}", seconds=1).read_bytes()
    path = tmp_path / f"half.{suffix}"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError, match=rf"half\.{suffix}: (ends after|cannot be decoded)"):
        read_audio(path)


def test_a_corrupt_file_is_refused(tmp_path, write):
    path = write(tmp_path / "a.flac", seconds=1)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.flac: cannot be decoded"):
        read_audio(path)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_written_to_a_pipe_does_not_know_its_size_and_is_read(tmp_path, write, size):
    path = write(tmp_path / "a.wav", seconds=0.5)
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = size.to_bytes(4, "little")
    path.write_bytes(content)
    assert read_audio(path).shape == (8000,)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_samples_that_are_not_finite_are_refused(tmp_path, value, rate):
    samples = np.zeros(1000)
    samples[500] = value
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav: holds samples that are not finite"):
        read_audio(tmp_path / "a.wav")


def test_a_rate_below_one_is_refused(tmp_path, write):
    with pytest.raises(ValueError, match="sample_rate=0"):
        read_audio(write(tmp_path / "a.wav"), sample_rate=0)


@pytest.mark.parametrize("missing", ["soundfile", "soxr"])
def test_without_the_readers_the_message_says_what_to_install(missing, tmp_path, write):
    path = write(tmp_path / "a.wav", rate=8000)
    code = f"import sys; sys.modules[{missing!r}] = None; from specenhance.data import read_audio; read_audio({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].endswith(f"pip install {missing}")


def test_a_file_of_the_rate_asked_for_needs_no_resampler(tmp_path, write):
    path = write(tmp_path / "a.wav", seconds=0.5, rate=8000)
    code = (
        "import sys; sys.modules['soxr'] = None\n"
        f"from specenhance.audio import read_samples; print(len(read_samples({str(path)!r}, 8000)), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.split() == ["4000", "False"], done.stderr
