"""AudioFolder: a table of labels, folders of labels, and the splits of both."""

from collections import Counter
from pathlib import Path

import pytest

from specenhance.data import AudioFolder

SPLITS = ("train", "validation", "test")


@pytest.fixture
def root(tmp_path, write) -> Path:
    for name in ("a", "b", "c", "d"):
        write(tmp_path / "sounds" / f"{name}.wav", seconds=0.05)
    return tmp_path


def table(root: Path, text: str) -> Path:
    path = root / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def names(sounds: AudioFolder) -> list[str]:
    return [path.stem for path in sounds.paths]


SPLIT_TABLE = """path,label,split
sounds/a.wav,dog,train
sounds/b.wav,cat,validation
sounds/c.wav,bird,test
./sounds/d.wav , dog ,train
"""


def test_a_table_gives_labels_and_splits(root):
    train, validation, test = (AudioFolder(root, table(root, SPLIT_TABLE), split) for split in SPLITS)
    assert [names(sounds) for sounds in (train, validation, test)] == [["a", "d"], ["b"], ["c"]]
    assert train.classes == validation.classes == test.classes == ["bird", "cat", "dog"]
    assert (train.labels, validation.labels, test.labels) == ([2, 2], [1], [0])
    waveform, label = test[0]
    assert waveform.shape == (800,)
    assert label == 0


def test_classes_can_be_given_in_any_order(root):
    sounds = AudioFolder(root, table(root, SPLIT_TABLE), classes=["dog", "cow", "cat", "bird"])
    assert sounds.classes == ["dog", "cow", "cat", "bird"]
    assert sounds.labels == [0, 0]


def test_a_label_that_is_no_class_is_named_by_row_and_path(root):
    with pytest.raises(
        ValueError, match=r"labels\.csv, line 4: label 'bird' of sounds/c\.wav is none of the classes dog, cat"
    ):
        AudioFolder(root, table(root, SPLIT_TABLE), classes=["dog", "cat"])


def test_classes_given_twice_are_refused(root):
    with pytest.raises(ValueError, match="expected each label once"):
        AudioFolder(root, table(root, SPLIT_TABLE), classes=["dog", "cat", "bird", "dog"])


def test_a_table_may_come_from_a_spreadsheet_on_windows(root):
    text = "\ufeff" + SPLIT_TABLE.replace("\n", "\r\n").replace("sounds/a", "sounds\\a")
    assert names(AudioFolder(root, table(root, text))) == ["a", "d"]


def test_a_path_may_be_absolute(root, write, tmp_path_factory):
    path = write(tmp_path_factory.mktemp("elsewhere") / "z.wav")
    assert AudioFolder(root, table(root, f"path,label,split\n{path},dog,train\n")).paths == [path]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("file,label\na.wav,dog\n", ValueError, "no column path; .* it names file, label"),
        ("", ValueError, "no column path, label; .* it names nothing"),
        ("path,label\nsounds/a.wav,\n", ValueError, "line 2: no label; fill the cell"),
        ("path,label\nsounds/a.wav\n", ValueError, "line 2: no label"),
        ("path,label\nsounds/a.wav,dog,extra\n", ValueError, "line 2: more cells than the first line has names"),
        (
            "path,label,split\nsounds/a.wav,dog,val\n",
            ValueError,
            "line 2: split 'val' of sounds/a.wav: expected one of train",
        ),
        ("path,label,split\nsounds/a.wav,dog,\n", ValueError, "line 2: split '' of sounds/a.wav"),
        (
            "path,label\nsounds/a.wav,dog\nsounds/../sounds/a.wav,cat\n",
            ValueError,
            r"line 3: sounds/a\.wav is already named in .*line 2",
        ),
        ("path,label\nsounds/a.wav,dog\nsounds/x.wav,cat\n", FileNotFoundError, r"names 1 files .*sounds/x\.wav;"),
        ("path,label\nnowhere/x.wav,cat\n", FileNotFoundError, r"names 1 files .*nowhere/x\.wav;"),
    ],
)
def test_a_malformed_table_is_refused(root, text, error, message):
    with pytest.raises(error, match=message):
        AudioFolder(root, table(root, text))


def test_a_table_that_is_no_text_is_refused(root):
    path = root / "labels.csv"
    path.write_bytes(b"path,label\nsounds/a.wav,caf\xe9\n")
    with pytest.raises(ValueError, match=r"labels\.csv: no CSV in UTF-8"):
        AudioFolder(root, path)


def test_a_missing_root_or_table_is_named(root):
    with pytest.raises(FileNotFoundError, match="elsewhere: no such folder"):
        AudioFolder(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"none\.csv: no such table"):
        AudioFolder(root, root / "none.csv")
    table(root, SPLIT_TABLE)
    with pytest.raises(FileNotFoundError, match=r"did you mean \S+/labels\.csv\?"):
        AudioFolder(root, "labels.csv")


def test_an_empty_split_is_refused(root):
    path = table(root, "path,label,split\nsounds/a.wav,dog,train\n")
    with pytest.raises(ValueError, match=r"labels\.csv: no clip in the split 'test' \(clips: train 1\)"):
        AudioFolder(root, path, "test")
    with pytest.raises(ValueError, match=r"no clip in the split 'train' \(clips: none at all\)"):
        AudioFolder(root, table(root, "path,label\n"))
    with pytest.raises(ValueError, match="split='eval'"):
        AudioFolder(root, path, "eval")


@pytest.fixture
def labelled(tmp_path, write) -> Path:
    """20 dogs, 33 cats, 3 birds and 2 cows: a folder each, in all four formats."""
    for label, count in {"dog": 20, "cat": 33, "bird": 3, "cow": 2}.items():
        for i in range(count):
            write(tmp_path / "labelled" / label / f"{i}.{('wav', 'flac', 'ogg', 'WAV')[i % 4]}", seconds=0.02)
    return tmp_path / "labelled"


def test_folders_give_labels_and_their_clips_are_split_in_tenths(labelled):
    (labelled / "dog" / "notes.txt").write_text("not a sound")
    parts = [AudioFolder(labelled, split=split) for split in SPLITS]
    assert all(part.classes == ["bird", "cat", "cow", "dog"] for part in parts)
    counts = [Counter(part.classes[label] for label in part.labels) for part in parts]
    assert counts[0] == {"dog": 16, "cat": 27, "bird": 1, "cow": 2}
    assert counts[1] == counts[2] == {"dog": 2, "cat": 3, "bird": 1}
    assert len({path for part in parts for path in part.paths}) == 58
    for part in parts:
        assert [path.parent.name for path in part.paths] == [part.classes[label] for label in part.labels]


def test_made_splits_depend_on_the_paths_below_root_alone(labelled, tmp_path):
    expected = {path.relative_to(labelled).as_posix() for path in AudioFolder(labelled, split="test").paths}
    # These hashes are a promise: a change would move clips between the splits of trained models.
    assert {path for path in expected if path.startswith("bird")} == {"bird/2.ogg"}
    rows = [f"{path.relative_to(labelled).as_posix()},{path.parent.name}" for path in labelled.glob("*/*")]
    for order in (sorted(rows), sorted(rows, reverse=True)):
        sounds = AudioFolder(labelled, table(tmp_path, "\n".join(["path,label", *order])), "test")
        assert {path.relative_to(labelled).as_posix() for path in sounds.paths} == expected
    moved = labelled.rename(tmp_path / "moved")
    assert {path.relative_to(moved).as_posix() for path in AudioFolder(moved, split="test").paths} == expected


def test_folders_may_be_splits(tmp_path, write):
    for split, label in (("train", "dog"), ("train", "cat"), ("validation", "dog"), ("test", "train")):
        write(tmp_path / split / label / "a.wav")
    (tmp_path / ".git").mkdir()
    train, validation, test = (AudioFolder(tmp_path, split=split) for split in SPLITS)
    assert train.classes == test.classes == ["cat", "dog", "train"]
    assert (train.labels, validation.labels, test.labels) == ([0, 1], [1], [2])


def test_a_label_may_be_called_train(tmp_path, write):
    for label in ("train", "ship"):
        write(tmp_path / label / "a.wav")
    assert AudioFolder(tmp_path).classes == ["ship", "train"]


def test_a_label_of_a_folder_that_is_no_class_is_named(labelled):
    with pytest.raises(ValueError, match=r"labelled/cow: label 'cow' of cow/0\.wav is none of the classes"):
        AudioFolder(labelled, classes=["bird", "cat", "dog"])


def test_a_folder_without_sounds_is_refused(labelled, tmp_path):
    (labelled / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: holds no audio file"):
        AudioFolder(labelled)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="none at all"):
        AudioFolder(tmp_path / "nothing")


def test_real_recordings_as_a_folder(shared, tmp_path):
    root = shared / "esc50_fold4" / "audio"
    rows = [f"{path.name},{path.stem.split('-')[-1]}" for path in sorted(root.iterdir())]
    parts = [AudioFolder(root, table(tmp_path, "\n".join(["path,label", *rows])), split) for split in SPLITS]
    assert [len(part) for part in parts] == [300, 50, 50]
    assert parts[1].labels.count(0) == parts[2].labels.count(0) == 1
