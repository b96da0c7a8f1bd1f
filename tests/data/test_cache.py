"""Waveforms that are decoded once."""

import os
import pickle

import pytest
import torch

from specenhance.data import AudioFolder, CachedWaveforms, SyntheticSounds
from specenhance.data.audio import AudioError


@pytest.fixture
def sounds(tmp_path, write):
    """Four clips of unequal lengths, one of another rate."""
    for label in "ab":
        write(tmp_path / "sounds" / label / "long.wav", seconds=0.3)
        write(tmp_path / "sounds" / label / "short.wav", seconds=0.1, rate=8000)
    return AudioFolder(tmp_path / "sounds", split="train")


@pytest.mark.parametrize("folder", [None, "cache"])
def test_a_cache_gives_what_the_files_give_and_reads_them_no_more(sounds, tmp_path, folder):
    cached = CachedWaveforms(sounds, folder and tmp_path / folder)
    expected = list(sounds)
    for path in sounds.paths:
        path.write_bytes(b"")
    assert (cached.classes, cached.labels, len(cached)) == (sounds.classes, sounds.labels, len(sounds))
    for (waveform, label), (reference, truth) in zip(cached, expected, strict=True):
        assert torch.equal(waveform, reference)
        assert label == truth


def test_a_clip_that_is_written_into_does_not_change_the_cache(sounds, tmp_path):
    for cached in (CachedWaveforms(sounds), CachedWaveforms(sounds, tmp_path / "cache")):
        before = cached[0][0].clone()
        cached[0][0].zero_()
        assert torch.equal(cached[0][0], before)


def test_a_folder_is_found_again_by_the_same_files_only(sounds, tmp_path, write):
    CachedWaveforms(sounds, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    samples = kept / "samples.f32"
    samples.write_bytes(bytes(samples.stat().st_size))  # to tell the kept from the new
    assert CachedWaveforms(sounds, tmp_path / "cache")[0][0].abs().max() == 0
    write(sounds.paths[0], seconds=0.2, frequency=1000)
    os.utime(sounds.paths[0], ns=(1, 1))
    changed = CachedWaveforms(sounds, tmp_path / "cache")
    assert torch.equal(changed[0][0], sounds[0][0])
    other_rate = AudioFolder(tmp_path / "sounds", split="train", sample_rate=8000)
    assert torch.equal(CachedWaveforms(other_rate, tmp_path / "cache")[1][0], other_rate[1][0])
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_of_two_processes_that_decode_the_same_the_first_keeps_its_folder(sounds, tmp_path, monkeypatch):
    class Slow(AudioFolder):
        def waveform(self, i):
            if i == len(self) - 1:
                with monkeypatch.context() as other:
                    other.setattr(os, "getpid", lambda: 1)
                    CachedWaveforms(sounds, tmp_path / "cache")
                kept.append(next((tmp_path / "cache").glob("[!.]*")).stat().st_ino)
            return super().waveform(i)

    kept = []
    slow = CachedWaveforms(Slow(tmp_path / "sounds", split="train"), tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    assert kept == [folder.stat().st_ino]
    assert torch.equal(slow[0][0], sounds[0][0])


def test_a_mapped_cache_travels_to_another_process_by_its_path(sounds, tmp_path):
    cached = CachedWaveforms(sounds, tmp_path / "cache")
    first = cached[0][0]
    sent = pickle.dumps(cached)
    assert len(sent) < 10_000 < first.numel() * 4
    assert torch.equal(pickle.loads(sent)[0][0], first)


def test_what_cannot_be_cached_is_refused(sounds, tmp_path):
    with pytest.raises(ValueError, match="SyntheticSounds makes its sounds, a folder keeps files' alone; use memory"):
        CachedWaveforms(SyntheticSounds("test", clips_per_class=1), tmp_path / "cache")
    sounds.paths[1].write_bytes(b"no sound")
    with pytest.raises(AudioError, match=sounds.paths[1].name):
        CachedWaveforms(sounds, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_sounds_that_are_made_are_kept_in_memory():
    made = SyntheticSounds("test", clips_per_class=1)
    assert torch.equal(CachedWaveforms(made)[3][0], made[3][0])


def test_a_part_of_it_has_the_right_sounds():
    data = SyntheticSounds("test", clips_per_class=1)
    cached = CachedWaveforms(data)
    part = cached.subset([3, 1])
    assert part.labels == [data.labels[3], data.labels[1]]
    for i, chosen in enumerate((3, 1)):
        assert torch.equal(part.waveform(i), data.waveform(chosen))
        assert torch.equal(part.excerpt(i, 0.01), data.waveform(chosen)[:160])
    assert torch.equal(part.subset([1]).waveform(0), data.waveform(1))
    with pytest.raises(ValueError, match="seconds=-1, place=0"):
        part.excerpt(0, -1)
