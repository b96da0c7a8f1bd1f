"""Speech Commands V2: the published layout in miniature, and real recordings."""

from pathlib import Path

import pytest

from specenhance.data import SpeechCommandsV2

SPLITS = ("train", "validation", "test")


@pytest.fixture(params=["wav", "flac"])
def root(tmp_path, write, request) -> Path:
    """Two keywords of four speakers: c validates, d tests."""
    for keyword in ("yes", "no"):
        for speaker in "abcd":
            write(tmp_path / keyword / f"{speaker}_nohash_0.{request.param}")
    write(tmp_path / "_background_noise_" / "hum.wav")
    write(tmp_path / ".cache" / "hum.wav")
    (tmp_path / "README.md").write_text("A data set.")
    for name, speaker in (("validation", "c"), ("testing", "d")):
        lines = [f"{keyword}/{speaker}_nohash_0.{request.param}" for keyword in ("yes", "no")]
        (tmp_path / f"{name}_list.txt").write_text("\n".join(lines) + "\n\n")
    return tmp_path


def speakers(sounds: SpeechCommandsV2) -> set[str]:
    return {path.name.split("_")[0] for path in sounds.paths}


def add(root: Path, name: str, line: str) -> None:
    with (root / name).open("a") as file:
        file.write(line + "\n")


def test_the_lists_make_the_splits(root):
    train, validation, test = (SpeechCommandsV2(root, split) for split in SPLITS)
    assert (len(train), len(validation), len(test)) == (4, 2, 2)
    assert (speakers(train), speakers(validation), speakers(test)) == ({"a", "b"}, {"c"}, {"d"})


def test_classes_are_the_keywords_sorted(root):
    for split in SPLITS:
        sounds = SpeechCommandsV2(str(root), split)
        assert sounds.classes == ["no", "yes"]
        assert all(
            path.parent.name == sounds.classes[label] for path, label in zip(sounds.paths, sounds.labels, strict=True)
        )
    waveform, label = sounds[-1]
    assert waveform.shape == (1600,)
    assert label == 1


def test_the_lists_may_have_the_line_ends_of_windows(root):
    path = root / "testing_list.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(SpeechCommandsV2(root, "test")) == 2


def test_the_lists_may_have_a_byte_order_mark_backslashes_and_dots(root):
    path = root / "testing_list.txt"
    lines = path.read_text().splitlines()
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join([lines[0].replace("/", "\\"), f"./{lines[1]}"]).encode())
    assert speakers(SpeechCommandsV2(root, "test")) == {"d"}
    assert speakers(SpeechCommandsV2(root, "train")) == {"a", "b"}
    path.write_bytes("ja/für.wav".encode("latin-1"))
    with pytest.raises(ValueError, match=r"testing_list\.txt: no text in UTF-8"):
        SpeechCommandsV2(root, "test")


def test_what_is_not_read_is_listed(root, write):
    write(root / "stray.wav")
    (root / "yes" / "notes.txt").touch()
    assert SpeechCommandsV2(root, "train").passed_over == ["stray.wav", "yes/notes.txt"]


def test_an_unknown_split_is_refused(root):
    with pytest.raises(ValueError, match="split='testing': expected one of train, validation, test"):
        SpeechCommandsV2(root, "testing")


def test_a_missing_folder_or_list_is_named(root):
    with pytest.raises(FileNotFoundError, match="elsewhere: no such folder"):
        SpeechCommandsV2(root / "elsewhere", "train")
    (root / "validation_list.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"validation_list\.txt: no such list"):
        SpeechCommandsV2(root, "train")


@pytest.mark.parametrize("split", SPLITS)
def test_a_listed_file_that_is_missing_is_named(root, split):
    add(root, "testing_list.txt", "yes/e_nohash_0.wav")
    with pytest.raises(FileNotFoundError, match=r"testing_list\.txt names 1 files .*: yes/e_nohash_0\.wav;"):
        SpeechCommandsV2(root, split)


def test_a_file_in_two_splits_is_refused(root):
    line = (root / "validation_list.txt").read_text().splitlines()[0]
    add(root, "testing_list.txt", line)
    with pytest.raises(ValueError, match=f"{line} and 0 more are in both"):
        SpeechCommandsV2(root, "train")


def test_a_copy_in_another_format_is_refused(root, write):
    write(root / "yes" / "d_nohash_0.ogg")
    with pytest.raises(ValueError, match=r"d_nohash_0.* one sound in two formats"):
        SpeechCommandsV2(root, "train")


def test_a_keyword_without_a_file_is_refused(root):
    (root / "maybe").mkdir()
    with pytest.raises(ValueError, match="maybe: holds no audio file"):
        SpeechCommandsV2(root, "train")


def test_an_empty_split_is_refused(root):
    (root / "validation_list.txt").write_text("")
    with pytest.raises(ValueError, match="no file in the split 'validation'; 8 files in 2 keywords"):
        SpeechCommandsV2(root, "validation")


def test_real_recordings(shared):
    train, validation, test = (SpeechCommandsV2(shared / "arabic_speech_commands", split) for split in SPLITS)
    assert (len(train), len(validation), len(test)) == (6300, 1050, 1050)
    assert len(set(train.paths) | set(validation.paths) | set(test.paths)) == 8400
    assert not speakers(train) & speakers(validation)
    assert not speakers(train) & speakers(test)
    assert not speakers(validation) & speakers(test)
    assert len(train.classes) == 35
    assert train.classes == test.classes == sorted(train.classes)
    assert set(train.labels) == set(test.labels) == set(range(35))
    waveform, label = test[-1]
    assert waveform.shape == (16000,)
    assert label == 34
