"""AudioFolder: a table of labels, folders of labels, and the splits of both."""

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
            "path,label,split\nsounds/a.wav,dog,dev\n",
            ValueError,
            "line 2: split 'dev' of sounds/a.wav: expected one of train",
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


def test_folders_give_labels_and_parts_of_their_clips_are_held_out(labelled):
    (labelled / "dog" / "notes.txt").write_text("not a sound")
    parts = [AudioFolder(labelled, split=split) for split in SPLITS]
    assert all(part.classes == ["bird", "cat", "cow", "dog"] for part in parts)
    assert sum(map(len, parts)) == len({path for part in parts for path in part.paths}) == 58
    assert all(len(part) >= 5 for part in parts)
    for part in parts:
        assert [path.parent.name for path in part.paths] == [part.classes[label] for label in part.labels]


def test_fifteen_clips_of_a_hundred_test_and_as_many_validate(root):
    for i in range(2000):
        (root / "sounds" / f"{i}.wav").touch()
    rows = [f"sounds/{i}.wav,dog" for i in range(2000)]
    parts = [AudioFolder(root, table(root, "\n".join(["path,label", *rows])), split) for split in SPLITS]
    assert [len(part) / 20 for part in parts] == pytest.approx([70, 15, 15], abs=2.5)


def test_made_splits_depend_on_the_paths_below_root_alone(labelled, tmp_path):
    expected = {path.relative_to(labelled).as_posix() for path in AudioFolder(labelled, split="test").paths}
    # These hashes are a promise: a change would move clips between the splits of trained models.
    assert {path for path in expected if path.startswith("cow")} == {"cow/0.wav", "cow/1.flac"}
    rows = [f"{path.relative_to(labelled).as_posix()},{path.parent.name}" for path in labelled.glob("*/*")]
    for order in (sorted(rows), sorted(rows, reverse=True)):
        sounds = AudioFolder(labelled, table(tmp_path, "\n".join(["path,label", *order])), "test")
        assert {path.relative_to(labelled).as_posix() for path in sounds.paths} == expected
    moved = labelled.rename(tmp_path / "moved")
    assert {path.relative_to(moved).as_posix() for path in AudioFolder(moved, split="test").paths} == expected


def test_a_clip_that_comes_or_goes_moves_no_other(labelled, write):
    def split_of():
        return {path: split for split in SPLITS for path in AudioFolder(labelled, split=split).paths}

    before = split_of()
    for i in range(100, 130):
        write(labelled / "dog" / f"{i}.wav", seconds=0.02)
    (labelled / "cat" / "0.wav").unlink()
    after = split_of()
    assert {path: after[path] for path in before if path in after} == {p: s for p, s in before.items() if p in after}
    assert len(after) == len(before) + 29


@pytest.mark.parametrize("validation", ["validation", "val", "Valid", "validate"])
def test_folders_may_be_splits(tmp_path, write, validation):
    for split, label in (("train", "dog"), ("train", "cat"), (validation, "dog"), ("test", "train")):
        write(tmp_path / split / label / "a.wav")
    (tmp_path / ".git").mkdir()
    train, validating, test = (AudioFolder(tmp_path, split=split) for split in SPLITS)
    assert train.classes == test.classes == ["cat", "dog", "train"]
    assert (train.labels, validating.labels, test.labels) == ([0, 1], [1], [2])


def test_a_folder_beside_those_of_the_splits_is_told(tmp_path, write):
    for split in ("train", "test", "more"):
        write(tmp_path / split / "dog" / "a.wav")
    with pytest.raises(ValueError, match=r"holds test and train, and beside them more; expected .*splits .* only, or"):
        AudioFolder(tmp_path)


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


def test_a_folder_that_holds_the_sounds_themselves_is_told_what_is_expected(root):
    with pytest.raises(ValueError, match=r"sounds: holds 4 files and no folder; expected .*sounds/LABEL/\*\.wav"):
        AudioFolder(root / "sounds")


def test_what_is_not_read_is_listed(labelled, write):
    write(labelled / "beside.wav")
    write(labelled / "dog" / "old" / "a.wav")
    (labelled / "cat" / "notes.txt").touch()
    (labelled / "cat" / ".DS_Store").touch()
    assert AudioFolder(labelled).passed_over == ["beside.wav", "cat/notes.txt", "dog/old/"]
    for split in SPLITS:
        write(labelled / "in" / split / "dog" / "a.wav")
    write(labelled / "in" / "train" / "dog" / "old" / "a.wav")
    write(labelled / "in" / "test" / "stray.wav")
    assert AudioFolder(labelled / "in").passed_over == ["test/stray.wav", "train/dog/old/"]


def test_every_format_that_can_be_read_is_found(tmp_path, shared):
    folder = tmp_path / "train" / "tone"
    folder.mkdir(parents=True)
    for name in ("tone.aiff", "gsm610.wav", "vbr_without_xing_header_2s.mp3"):
        (folder / name).write_bytes((shared / "awkward" / name).read_bytes())
    for suffix in ("opus", "au", "caf", "w64", "m4a", "WMA", "webm"):
        (folder / f"other-{suffix}.{suffix}").touch()
    sounds = AudioFolder(tmp_path)
    assert len(sounds) == 10
    assert sounds.passed_over == []
    by_name = {path.name: i for i, path in enumerate(sounds.paths)}
    assert all(len(sounds[by_name[name]][0]) >= 16000 for name in ("tone.aiff", "gsm610.wav"))


def test_a_table_with_spaces_behind_its_commas(root, shared):
    for text in (
        'path, label, split\n"sounds/a.wav", "a dog, barking", train\nsounds/b.wav , cat , train\n',
        '"path" ,"label"  ,split\nsounds/a.wav,"a dog, barking",train\nsounds/b.wav,cat,train\n',
    ):
        sounds = AudioFolder(root, table(root, text))
        assert names(sounds) == ["a", "b"]
        assert [sounds.classes[label] for label in sounds.labels] == ["a dog, barking", "cat"]
    text = (shared / "awkward" / "space_after_comma.csv").read_text()
    assert text.startswith("path, label")


def test_real_recordings_as_a_folder(shared, tmp_path):
    root = shared / "esc50_fold4" / "audio"
    rows = [f"{path.name},{path.stem.split('-')[-1]}" for path in sorted(root.iterdir())]
    parts = [AudioFolder(root, table(tmp_path, "\n".join(["path,label", *rows])), split) for split in SPLITS]
    assert [len(part) for part in parts] == [287, 51, 62]
    assert len(parts[0].classes) == 50
