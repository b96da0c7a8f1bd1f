"""ESC-50: the published layout in miniature, and real clips."""

from collections import defaultdict
from pathlib import Path

import pytest

from specenhance.data import ESC50

HEADER = "filename,fold,target,category,esc10,src_file,take"


def row(name: str, fold: object, target: object, category: str) -> str:
    return f"{name},{fold},{target},{category},False,1,A"


@pytest.fixture
def root(tmp_path, write) -> Path:
    """Five folds of three classes, whose targets are not in the order of their names, nor without a gap."""
    rows = []
    for fold in range(1, 6):
        for target, category in ((7, "cat"), (0, "dog"), (3, "wind")):
            name = f"{fold}-1-A-{target}.wav"
            write(tmp_path / "audio" / name, seconds=0.05, rate=44100)
            rows.append(row(name, fold, target, category))
    table(tmp_path, *rows)
    return tmp_path


def table(root: Path, *rows: str, header: str = HEADER) -> None:
    (root / "meta").mkdir(exist_ok=True)
    (root / "meta" / "esc50.csv").write_text("\n".join([header, *rows]) + "\n")


def test_a_fold_is_held_out_and_the_others_train(root):
    train, test = ESC50(root, fold=2, train=True), ESC50(str(root), fold=2, train=False)
    assert (len(train), len(test)) == (12, 3)
    assert all(path.name.startswith("2-") for path in test.paths)
    assert not set(train.paths) & set(test.paths)


def test_classes_are_in_the_order_of_their_targets(root):
    sounds = ESC50(root, fold=1, train=False)
    assert sounds.classes == ["dog", "wind", "cat"]
    assert [(path.stem[-1], label) for path, label in zip(sounds.paths, sounds.labels, strict=True)] == [
        ("7", 2),
        ("0", 0),
        ("3", 1),
    ]


def test_clips_at_44_khz_are_resampled(root):
    waveform, label = ESC50(root, fold=1, train=False)[0]
    assert waveform.shape == (800,)
    assert label == 2


@pytest.mark.parametrize("fold", [0, 6, None])
def test_a_fold_out_of_range_is_refused(root, fold):
    with pytest.raises(ValueError, match=rf"fold={fold}: expected the fold to hold out, 1 to 5"):
        ESC50(root, fold=fold, train=True)


def test_a_missing_folder_or_table_is_named(tmp_path, root):
    with pytest.raises(FileNotFoundError, match="elsewhere: no such folder; root is expected to hold ESC-50's folders"):
        ESC50(tmp_path / "elsewhere", fold=1, train=True)
    (root / "meta" / "esc50.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"esc50\.csv: no such table"):
        ESC50(root, fold=1, train=True)


def test_missing_files_of_any_fold_are_named_when_it_is_opened(root):
    for fold in (2, 3, 4, 5):
        (root / "audio" / f"{fold}-1-A-0.wav").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"names 4 files that are not there: \S+2-1-A-0\.wav, .*4-1\S+, \.\.\.;"
    ):
        ESC50(root, fold=1, train=False)


def test_a_missing_column_is_named(root):
    table(root, "a.wav,1,dog", header="filename,fold,category")
    with pytest.raises(ValueError, match=r"no column target; .* it names filename, fold, category"):
        ESC50(root, fold=1, train=True)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row("1-1-A-0.wav", 6, 0, "dog"), "line 3: fold='6', target='0': expected a fold from 1 to 5"),
        (row("1-1-A-0.wav", 1, "dog", "dog"), "line 3: fold='1', target='dog'"),
        (row("1-1-A-0.wav", "", 0, "dog"), "line 3: no fold"),
        (row("1-1-A-0.wav", 1, 7, "dog"), "line 3: target 7 is 'dog', but 'cat' in a row above"),
    ],
)
def test_a_malformed_row_is_named(root, bad, message):
    table(root, row("1-1-A-7.wav", 1, 7, "cat"), bad)
    with pytest.raises(ValueError, match=message):
        ESC50(root, fold=1, train=True)


def test_a_fold_without_a_clip_is_refused(root):
    table(root, row("1-1-A-0.wav", 1, 0, "dog"))
    with pytest.raises(ValueError, match=r"no clip in fold 2; it has the folds \[1\]"):
        ESC50(root, fold=2, train=False)
    with pytest.raises(ValueError, match="no clip outside fold 1"):
        ESC50(root, fold=1, train=True)


def test_real_clips(shared):
    folds_of_source = defaultdict(set)
    clips = 0
    for fold in range(1, 6):
        test, train = (ESC50(shared / "esc50_fold4", fold=fold, train=train) for train in (False, True))
        assert len(test) + len(train) == 400
        assert not set(test.paths) & set(train.paths)
        assert sorted(test.labels + train.labels) == sorted(list(range(50)) * 8)
        assert all(path.stem.endswith(f"-{label}") for path, label in zip(test.paths, test.labels, strict=True))
        clips += len(test)
        for path in test.paths:
            folds_of_source[path.name.split("-")[1]].add(fold)
    assert clips == 400
    assert all(len(folds) == 1 for folds in folds_of_source.values())
    assert (test.classes[0], test.classes[49]) == ("dog", "hand_saw")
    waveform, _ = test[0]
    assert waveform.shape == (80000,)
