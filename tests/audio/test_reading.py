"""Reading one file: what is converted, and what is refused by name."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from specenhance.audio import AudioError, probe, read_blocks, read_excerpt, read_samples, resampled
from specenhance.data import read_audio


def sine(rate: int, seconds: float, frequency: float = 440.0) -> torch.Tensor:
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return (0.5 * torch.sin(2 * torch.pi * frequency * time)).float()


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_file_at_the_asked_rate_comes_back_sample_by_sample(tmp_path, write, suffix):
    waveform = read_audio(write(tmp_path / f"a.{suffix}", seconds=0.25))
    assert waveform.dtype == torch.float32
    assert waveform.shape == (4000,)
    torch.testing.assert_close(waveform, sine(16000, 0.25), atol=1 / 32768, rtol=0)


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
    with pytest.raises(FileNotFoundError, match=r"a folder; give the path of one sound file"):
        read_audio(tmp_path)


def test_an_empty_file_is_refused(tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    with pytest.raises(AudioError, match=r"none\.wav: holds no sound"):
        read_audio(tmp_path / "none.wav")
    (tmp_path / "bytes.wav").write_bytes(b"")
    with pytest.raises(AudioError, match=r"bytes\.wav: cannot be decoded: the file is empty"):
        read_audio(tmp_path / "bytes.wav")


def test_a_sound_too_short_for_the_rate_is_refused(tmp_path):
    soundfile.write(tmp_path / "one.wav", np.ones(1), 44100)
    with pytest.raises(AudioError, match=r"one\.wav: holds no sound \(1 samples at 44100 Hz\)"):
        read_audio(tmp_path / "one.wav")


def test_what_is_no_audio_is_refused(tmp_path):
    (tmp_path / "text.flac").write_text("not a sound")
    with pytest.raises(AudioError, match=r"text\.flac: cannot be decoded .* Replace or remove it"):
        read_audio(tmp_path / "text.flac")


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "aiff", "au", "caf", "w64"])
def test_a_truncated_file_is_refused(tmp_path, write, suffix):
    whole = write(tmp_path / f"whole.{suffix}", seconds=1).read_bytes()
    path = tmp_path / f"half.{suffix}"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError, match=rf"half\.{suffix}: (ends after|cannot be decoded after) .* --allow-truncated"):
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
    assert f"pip install {missing}" in done.stderr.splitlines()[-1]


def test_a_file_of_the_rate_asked_for_needs_no_resampler(tmp_path, write):
    path = write(tmp_path / "a.wav", seconds=0.5, rate=8000)
    code = (
        "import sys; sys.modules['soxr'] = None\n"
        f"from specenhance.audio import read_samples; print(len(read_samples({str(path)!r}, 8000)), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.split() == ["4000", "False"], done.stderr


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize("sound", ["silent", "noisy"])
def test_a_recorder_that_lost_power_left_a_size_of_0_and_its_wav_is_read_to_the_end(tmp_path, caplog, subtype, sound):
    samples = np.zeros(8000) if sound == "silent" else np.random.default_rng(0).uniform(-0.5, 0.5, 8000)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype=subtype)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = bytes(4)
    content[4:8] = bytes(4)
    (tmp_path / "a.wav").write_bytes(content)
    np.testing.assert_allclose(read_samples(tmp_path / "a.wav"), samples, atol=1e-4)
    assert "a.wav: its header states no samples, as a recorder leaves it that lost power" in caplog.text


def test_an_empty_wav_with_a_tag_behind_holds_no_sound(tmp_path, caplog):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16000)
    tag = b"LIST" + (26).to_bytes(4, "little") + b"INFOISFT" + (14).to_bytes(4, "little") + b"Some recorder\0"
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes() + tag)
    with pytest.raises(AudioError, match="holds no sound"):
        read_samples(tmp_path / "a.wav")
    assert not caplog.text


def test_what_is_there_of_a_truncated_file_is_taken_where_that_is_allowed(tmp_path, write):
    for suffix in ("wav", "flac", "aiff"):
        whole = write(tmp_path / f"whole.{suffix}", seconds=1).read_bytes()
        path = tmp_path / f"half.{suffix}"
        path.write_bytes(whole[: len(whole) // 2])
        got = read_audio(path, allow_truncated=True)
        assert 0.2 < len(got) / 16000 < 0.6
        torch.testing.assert_close(got, sine(16000, 1)[: len(got)], atol=1 / 32768, rtol=0)


def test_a_header_that_states_more_than_the_file_can_hold_costs_no_memory(tmp_path, write):
    path = write(tmp_path / "a.flac", seconds=1)
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F  # the number of samples, 36 bits, all set
    content[22:26] = b"\xff" * 4
    path.write_bytes(content)
    with pytest.raises(
        AudioError, match=r"a.flac: its header states 4294967 s, more than a file of [\d,]+ bytes can hold"
    ):
        read_samples(path)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_sample_far_beyond_sound_is_named_with_its_place(tmp_path, rate):
    samples = np.zeros(rate)
    samples[rate // 2] = 1e30
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    for read in (read_samples, probe, lambda path: list(read_blocks(path, 16000))):
        with pytest.raises(
            AudioError, match=r"a\.wav: holds a sample of 1e\+30, after 0.50 s: expected sound within -1 and 1"
        ):
            read(tmp_path / "a.wav")


def test_a_name_that_is_no_utf8(tmp_path, write):
    path = Path(str(tmp_path / "a") + "\udce4.wav")
    try:
        write(tmp_path / "a.wav").rename(path)
    except OSError:
        pytest.skip("the file system takes UTF-8 alone")
    assert read_audio(path).shape == (1600,)


def test_text_named_as_a_sound_and_a_playlist_are_refused(tmp_path, write):
    write(tmp_path / "secret.wav")
    for content in (
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile secret.wav\n",
    ):
        (tmp_path / "a.mp3").write_text(content)
        with pytest.raises(AudioError, match=r"a\.mp3: cannot be decoded .* Replace or remove it"):
            read_samples(tmp_path / "a.mp3")


def test_a_file_longer_than_memory_should_take_is_refused(tmp_path, monkeypatch, write):
    monkeypatch.setattr("specenhance.audio.reading.LONGEST", 1)
    path = write(tmp_path / "a.wav", seconds=2)
    with pytest.raises(AudioError, match=r"a\.wav: is longer than 0 hours"):
        read_samples(path)
    assert sum(map(len, read_blocks(path, 16000))) == 32000


# ---- Parts of a file.


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_part_at_the_start_is_that_of_the_whole(tmp_path, rate, suffix):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / f"a.{suffix}", rng.uniform(-0.5, 0.5, 3 * rate), rate)
    whole = read_samples(tmp_path / f"a.{suffix}")
    part = read_excerpt(tmp_path / f"a.{suffix}", 16000, 1.2)
    assert len(part) == 19200
    np.testing.assert_allclose(part, whole[:19200], atol=0 if rate == 16000 else 2e-4)


def test_a_part_lies_where_it_is_asked_for(tmp_path):
    ramp = np.linspace(0, 0.9, 48000)
    soundfile.write(tmp_path / "a.wav", ramp, 16000)
    for place in (0.25, 0.5, 1.0):
        part = read_excerpt(tmp_path / "a.wav", 16000, 1.0, place)
        start = round(32000 * place)
        np.testing.assert_allclose(part, ramp[start : start + 16000], atol=1e-4)


def test_a_file_shorter_than_the_part_is_read_whole(tmp_path, write):
    path = write(tmp_path / "a.wav", seconds=0.5)
    for place in (0.0, 0.7):
        np.testing.assert_array_equal(read_excerpt(path, 16000, 3.0, place), read_samples(path))


@pytest.mark.parametrize(("seconds", "place"), [(0, 0), (-1, 0), (1, -0.1), (1, 1.1), (float("nan"), 0)])
def test_a_part_out_of_range(tmp_path, write, seconds, place):
    with pytest.raises(ValueError, match="expected a length > 0 and a place from 0 to 1"):
        read_excerpt(write(tmp_path / "a.wav"), 16000, seconds, place)


# ---- Headers.


def test_a_header_tells_rate_and_length(tmp_path, write):
    assert probe(write(tmp_path / "a.wav", seconds=0.5, rate=44100)) == (44100, 0.5)
    assert probe(write(tmp_path / "a.flac", seconds=0.25), thorough=True) == (16000, 0.25)


def test_a_flac_that_is_cut_is_found_without_decoding_the_whole(tmp_path, write):
    path = write(tmp_path / "a.flac", seconds=2)
    content = path.read_bytes()
    for cut in (1, 200, len(content) // 2):
        path.write_bytes(content[:-cut])
        with pytest.raises(AudioError, match=r"a\.flac: cannot be decoded after \d\.\d+ s .* --allow-truncated"):
            probe(path)
        assert 0 < probe(path, allow_truncated=True).seconds <= 2


def test_damage_that_no_header_shows_is_found_by_the_thorough_look(tmp_path, write):
    path = write(tmp_path / "a.flac", seconds=2)
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4 : len(content) * 3 // 4 + 40] = bytes(40)
    path.write_bytes(content)
    assert probe(path).seconds == 2
    with pytest.raises(AudioError, match=r"a\.flac: cannot be decoded after 1\.\d+ s"):
        probe(path, thorough=True)


# ---- Blocks.


def test_resampled_in_blocks_as_at_once(tmp_path):
    import soxr

    time = np.arange(44100) / 44100
    wave = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    got = np.concatenate(list(resampled(np.array_split(wave, 13), 44100, 16000)))
    expected = soxr.resample(wave, 44100, 16000, quality="HQ")
    assert len(got) == len(expected)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    soundfile.write(tmp_path / "stereo.wav", np.stack([wave, -wave], 1), 44100)
    assert np.abs(np.concatenate(list(read_blocks(tmp_path / "stereo.wav", 16000)))).max() < 1e-4


def test_a_sample_that_is_no_number_and_a_file_that_is_cut_short(tmp_path):
    wave = np.zeros(16000, np.float32)
    wave[9000] = np.nan
    soundfile.write(tmp_path / "nan.wav", wave, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"nan.wav: holds samples that are not finite, after 0.56 s"):
        list(read_blocks(tmp_path / "nan.wav", 16000))
    soundfile.write(tmp_path / "whole.wav", wave[:8000], 16000)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "whole.wav").read_bytes()[:9000])
    with pytest.raises(AudioError, match=r"cut.wav: ends after 0.28 s, before its header says"):
        next(read_blocks(tmp_path / "cut.wav", 16000))
    assert sum(map(len, read_blocks(tmp_path / "cut.wav", 16000, allow_truncated=True))) == 4478
