"""Compressed sound: whole or refused, in every format that FFmpeg reads."""

import logging
import re
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from specenhance.audio import AudioError, probe, read_blocks, read_excerpt, read_samples

# suffix, codec, rate (Hz), seconds that a codec adds in front or behind at the most
FORMATS = {
    "mp3": ("libmp3lame", 16000, 0.01),
    "m4a": ("aac", 16000, 0.1),
    "aac": ("aac", 16000, 0.13),
    "ogg": ("vorbis", 16000, 0.01),
    "opus": ("libopus", 48000, 0.01),
    "wma": ("wmav2", 16000, 0.07),
    "webm": ("libopus", 48000, 0.01),
    "mka": ("aac", 16000, 0.13),
    "mp2": ("mp2", 16000, 0.04),
}
CONTAINERS = {"m4a": "ipod", "aac": "adts", "wma": "asf", "mka": "matroska"}
SECONDS = 4.0


def encode(path: Path, wave: np.ndarray, rate: int, codec: str, **options: str) -> Path:
    suffix = path.suffix[1:]
    if codec == "vorbis":  # PyAV's wheels have no encoder for one channel
        soundfile.write(path, wave, rate)
        return path
    with av.open(path, "w", format=CONTAINERS.get(suffix, suffix), options=options) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 64000
        frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="flt", layout="mono")
        frame.rate = rate
        resampler = av.AudioResampler(stream.format, "mono", rate, frame_size=stream.codec_context.frame_size)
        for part in (*resampler.resample(frame), *resampler.resample(None), None):
            out.mux(stream.encode(part))
    return path


def speech(rate: int, seconds: float = SECONDS) -> np.ndarray:
    """Noise whose level rises and falls: no two parts are alike."""
    rng = np.random.default_rng(0)
    time = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * (300 + 100 * time) * time)
    return (0.4 * tone + 0.02 * rng.standard_normal(len(time))) * (0.3 + 0.2 * np.sin(3 * time))


@pytest.fixture(scope="module", params=FORMATS)
def encoded(request, tmp_path_factory):
    codec, rate, slack = FORMATS[request.param]
    path = tmp_path_factory.mktemp("sound") / f"a.{request.param}"
    return encode(path, speech(rate), rate, codec), slack


def test_every_format_is_read_whole(encoded):
    path, slack = encoded
    got = read_samples(path)
    assert SECONDS - 0.04 <= len(got) / 16000 <= SECONDS + slack
    original = speech(16000)
    # Where the codec put the start is found; then the sound is the one that was written.
    shifts = range(-1100, 2100)
    middle = original[20000:30000]
    likeness = max(np.corrcoef(middle, got[20000 + shift : 30000 + shift])[0, 1] for shift in shifts)
    assert likeness > 0.95


def test_blocks_and_parts_are_those_of_the_whole(encoded):
    path, _ = encoded
    whole = read_samples(path)
    blocks = np.concatenate(list(read_blocks(path, 16000)))
    assert abs(len(blocks) - len(whole)) <= 1
    np.testing.assert_allclose(blocks[: len(whole) - 1], whole[: len(blocks)][: len(whole) - 1], atol=1e-3)
    part = read_excerpt(path, 16000, 1.0)
    np.testing.assert_allclose(part, whole[:16000], atol=1e-3)
    assert len(read_excerpt(path, 16000, 1.0, place=0.5)) == 16000


def test_damage_in_the_middle_is_an_error_and_silence_where_it_is_allowed(encoded, tmp_path):
    path, _ = encoded
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 500] = bytes((37 * i + 11) % 256 for i in range(500))
    hurt = tmp_path / path.name
    hurt.write_bytes(content)
    with pytest.raises(
        AudioError,
        match=rf"{hurt.name}: ((cannot be decoded|misses|ends) .*\d\.\d+ s|is damaged at byte [\d,]+).*--allow-truncated",
    ):
        read_samples(hurt)
    taken = read_samples(hurt, allow_truncated=True)
    assert len(taken) / 16000 > (
        SECONDS - 0.5 if path.suffix not in (".webm", ".mka") else 1.5
    )  # lost up to the next cluster
    assert np.isfinite(taken).all()


def test_a_file_that_is_cut_short_is_never_longer_than_what_is_there(encoded, tmp_path):
    path, _ = encoded
    content = path.read_bytes()
    cut = tmp_path / path.name
    cut.write_bytes(content[: len(content) * 2 // 5])
    if path.suffix in (".mp2", ".aac"):  # their headers state no length
        kept = read_samples(cut, allow_truncated=True)
    else:
        with pytest.raises(AudioError, match=rf"{cut.name}: (ends after|cannot be decoded)"):
            read_samples(cut)
        if path.suffix == ".m4a":  # what tells how to decode it stood at its end
            return
        kept = read_samples(cut, allow_truncated=True)
    assert 0.1 < len(kept) / 16000 < SECONDS / 2


def test_an_ogg_without_its_last_page_may_have_been_cut(tmp_path, caplog):
    path = encode(tmp_path / "a.ogg", speech(16000), 16000, "vorbis")
    read_samples(path)
    assert not caplog.text
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"OggS")])
    with caplog.at_level(logging.WARNING):
        assert len(read_samples(path)) < SECONDS * 16000
    assert "a.ogg: its last page does not say that it is the last; the file may have been cut" in caplog.text


def test_an_mp3_without_a_length_is_read_whole(tmp_path):
    path = encode(tmp_path / "a.mp3", speech(16000), 16000, "libmp3lame", write_xing="0")
    assert b"Xing" not in path.read_bytes()
    assert abs(len(read_samples(path)) / 16000 - SECONDS) < 0.15
    assert abs(probe(path).seconds - SECONDS) < 0.15


def test_a_tag_in_front_of_an_mp3_does_not_hide_its_length(tmp_path):
    path = encode(tmp_path / "a.mp3", speech(16000), 16000, "libmp3lame")
    tag = b"ID3\x03\x00\x00" + bytes([0, 0, 16, 0]) + bytes(2048)
    content = tag + path.read_bytes()
    path.write_bytes(content)
    assert abs(len(read_samples(path)) / 16000 - SECONDS) < 0.01
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(AudioError, match=r"a\.mp3: ends after \d\.\d+ s, before its header says \(4\.00 s\)"):
        read_samples(path)


def test_a_film_without_sound_says_so(tmp_path):
    with av.open(tmp_path / "a.mp4", "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for frame in (av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8)), None):
            out.mux(stream.encode(frame))
    with pytest.raises(AudioError, match=r"a\.mp4: holds no sound, only video"):
        read_samples(tmp_path / "a.mp4")


def test_the_sound_of_a_film_and_a_file_with_a_wrong_suffix_are_read(tmp_path):
    path = encode(tmp_path / "a.mp3", speech(16000), 16000, "libmp3lame")
    wrong = path.rename(tmp_path / "b.wav")
    assert abs(len(read_samples(wrong)) / 16000 - SECONDS) < 0.01


AWKWARD = {"vbr_without_xing_header_2s.mp3": 2.0, "cbr_ffmpeg_to_a_pipe.mp3": 1.0, "gsm610.wav": 1.0, "tone.aiff": 1.0}


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_files_are_read_whole(shared, name):
    for samples in (
        read_samples(shared / "awkward" / name),
        np.concatenate([*read_blocks(shared / "awkward" / name, 16000)]),
    ):
        assert AWKWARD[name] <= len(samples) / 16000 + 1e-9 < AWKWARD[name] + 0.1


def test_an_awkward_mp3_that_is_cut(shared):
    path = shared / "awkward" / "mp3_cut_9.5s_declared_3.4s_there.mp3"
    for read in (read_samples, lambda path: list(read_blocks(path, 16000))):
        with pytest.raises(AudioError, match=r"ends after 3\.46 s, before its header says \(9\.50 s\)"):
            read(path)
    assert len(read_samples(path, allow_truncated=True)) == round(3.4589375 * 16000)
    with pytest.raises(AudioError, match=r"ends after 3\.[45]\d s, before its header says \(9\.50 s\)"):
        probe(path)
    assert probe(path, allow_truncated=True).seconds == pytest.approx(3.5, abs=0.1)


def test_an_awkward_sample_of_1e30(shared):
    for look in (read_samples, probe):
        with pytest.raises(AudioError, match=r"float_one_huge_sample.wav: holds a sample of 1e\+30"):
            look(shared / "awkward" / "float_one_huge_sample.wav")


def test_an_ogg_with_a_damaged_page_is_an_error_wherever_it_is(tmp_path):
    path = encode(tmp_path / "a.ogg", speech(16000), 16000, "vorbis")
    content = path.read_bytes()
    pages = [page.start() for page in re.finditer(b"OggS", content)]
    assert len(pages) > 4
    for at in pages[2:]:  # the first two hold no sound
        damaged = bytearray(content)
        damaged[at + 27 + content[at + 26]] ^= 1  # behind its header and the lengths of its segments
        path.write_bytes(damaged)
        for look in (read_samples, probe):
            with pytest.raises(AudioError, match=rf"a\.ogg: is damaged at byte {at:,}: that page .* --allow-truncated"):
                look(path)
        assert len(read_samples(path, allow_truncated=True)) > 0


def test_an_ogg_that_ends_in_a_page_is_an_error_that_says_how_much_there_is(tmp_path):
    path = encode(tmp_path / "a.ogg", speech(16000), 16000, "vorbis")
    path.write_bytes(path.read_bytes()[:-20])
    for look in (read_samples, probe):
        with pytest.raises(
            AudioError, match=r"a\.ogg: ends after [23]\.\d\d s, in a page that should have 20 bytes more"
        ):
            look(path)
    assert 2 < len(read_samples(path, allow_truncated=True)) / 16000 < SECONDS
