"""Files that cannot be read are found all at once, and one file under two names too."""

import os
import re
import shutil

import numpy as np
import pytest
import soundfile

from specenhance.data import AudioDataset, SyntheticSounds
from specenhance.data.check import FaultsError, check_sounds, find_twins, listed


@pytest.fixture
def sounds(tmp_path, write):
    good = [write(tmp_path / f"{i}.wav", seconds=0.1 * (i + 1)) for i in range(3)]
    cut = write(tmp_path / "cut.wav", seconds=1)
    cut.write_bytes(cut.read_bytes()[:8000])
    text = tmp_path / "text.flac"
    text.write_text("no sound")
    huge = tmp_path / "huge.wav"
    soundfile.write(huge, np.array([0.0, 1e30]), 16000, subtype="FLOAT")
    hurt = write(tmp_path / "hurt.flac", seconds=2)  # its header and its end are whole
    content = bytearray(hurt.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    hurt.write_bytes(content)
    paths = [good[0], cut, good[1], text, huge, hurt, good[2], tmp_path / "none.wav"]
    return AudioDataset(["a"], [0] * len(paths), paths)


def test_all_bad_files_are_found_at_once_with_their_names(sounds):
    found = check_sounds(sounds)
    assert sorted(found.faults) == [1, 3, 4, 7]
    for i, reason in (
        (1, "ends after"),
        (3, "cannot be decoded"),
        (4, "a sample of 1e\\+30"),
        (7, "no such audio file"),
    ):
        assert str(sounds.paths[i]) in found.faults[i]
        assert re.search(reason, found.faults[i])
    assert found.good == [0, 2, 5, 6]
    assert [found.seconds[i] for i in (0, 2, 6)] == pytest.approx([0.1, 0.2, 0.3])
    assert found.seconds[1] is None


def test_a_thorough_look_decodes_everything(sounds):
    assert sorted(check_sounds(sounds, thorough=True).faults) == [1, 3, 4, 5, 7]
    sounds.allow_truncated = True
    assert sorted(check_sounds(sounds, thorough=True).faults) == [3, 4, 7]


def test_sounds_that_are_made_have_a_length_and_no_faults():
    made = SyntheticSounds("test", clips_per_class=1, seconds=0.5)
    assert check_sounds(made) == ([0.5] * 10, {})


def test_one_file_that_trains_and_tests_is_found_by_any_name(tmp_path, write):
    paths = [write(tmp_path / f"{i}.wav", seconds=0.1, frequency=100 + i) for i in range(4)]
    os.symlink(paths[0], tmp_path / "link.wav")
    os.link(paths[1], tmp_path / "hard.wav")
    shutil.copy(paths[2], tmp_path / "copy.wav")
    parts = {
        "train": AudioDataset(["a"], [0] * 3, paths[:3]),
        "validation": AudioDataset(["a"], [0] * 2, [tmp_path / "link.wav", paths[3]]),
        "test": AudioDataset(["a"], [0] * 2, [tmp_path / "hard.wav", tmp_path / "copy.wav"]),
    }
    links = [
        (f"train: {paths[0]}", f"validation: {tmp_path / 'link.wav'}"),
        (f"train: {paths[1]}", f"test: {tmp_path / 'hard.wav'}"),
    ]
    assert list(find_twins(parts)) == links
    assert list(find_twins(parts, by_content=True)) == [
        *links,
        (f"train: {paths[2]}", f"test: {tmp_path / 'copy.wav'}"),
    ]


def test_many_faults_are_listed_in_part():
    assert listed(["a", "b"]) == ["  a", "  b"]
    assert listed([str(i) for i in range(25)])[-1] == "  ... and 15 more"
    error = FaultsError("two faults:", ["a", "b"], "mend them")
    assert str(error).splitlines() == error.lines == ["two faults:", "  a", "  b", "mend them"]
