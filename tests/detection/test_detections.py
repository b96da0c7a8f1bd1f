"""What counts as found in a window, what is one detection, and which sounds are meant."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from specenhance.detection import detected, find_sounds, read_thresholds
from specenhance.detection.detections import Collector
from specenhance.detection.thresholds import several_classes, stored_thresholds

ROWS = np.array([[0.7, 0.6, 0.1], [0.4, 0.45, 0.3], [0.1, 0.1, 0.5]])


def test_a_window_has_the_likeliest_class_or_all_that_reach_their_thresholds():
    assert detected(ROWS, 0.5, several=False) == [[(0, 0.7)], [], [(2, 0.5)]]
    assert detected(ROWS, 0.5, several=True) == [[(0, 0.7), (1, 0.6)], [], [(2, 0.5)]]
    least = [0.8, 0.45, 0.3]
    assert detected(ROWS, least, several=True) == [[(1, 0.6)], [(1, 0.45), (2, 0.3)], [(2, 0.5)]]
    assert detected(ROWS, least, several=False) == [[], [(1, 0.45)], [(2, 0.5)]]
    with pytest.raises(ValueError, match="broadcast"):
        detected(ROWS, [0.5, 0.5], several=True)


def collected(rows, hop=1.0, **settings):
    collector = Collector(**{"thresholds": 0.5, **settings})
    for i, row in enumerate(rows):
        collector.add(i * hop, i * hop + 1, np.array(row))
    return collector.result()


def test_without_merging_each_window_is_a_row():
    assert collected(ROWS) == [[0.0, 1.0, 0, 0.7], [2.0, 3.0, 2, 0.5]]


def test_windows_of_one_class_that_follow_within_the_gap_are_one_row():
    rows = [[0.9, 0.1], [0.6, 0.4], [0.4, 0.4], [0.8, 0.1]]
    assert collected(rows, merge=0.0) == [[0.0, 2.0, 0, 0.9], [3.0, 4.0, 0, 0.8]]
    assert collected(rows, merge=1.0) == [[0.0, 4.0, 0, 0.9]]
    assert collected(rows, hop=0.5, merge=0.0) == [[0.0, 2.5, 0, 0.9]]  # the windows overlap


def test_classes_are_merged_each_on_its_own():
    rows = [[0.9, 0.8], [0.1, 0.7], [0.6, 0.6]]
    found = collected(rows, several=True, merge=0.0)
    assert found == [[0.0, 1.0, 0, 0.9], [0.0, 3.0, 1, 0.8], [2.0, 3.0, 0, 0.6]]


def test_all_windows_give_their_likeliest_classes():
    assert collected(ROWS[1:], top=2) == [
        [0.0, 1.0, 1, 0.45],
        [0.0, 1.0, 0, 0.4],
        [1.0, 2.0, 2, 0.5],
        [1.0, 2.0, 0, 0.1],
    ]


def test_thresholds_of_a_model_and_of_a_table(tmp_path):
    classes = ["=x", "wren"]
    assert stored_thresholds(SimpleNamespace(classes=classes)) is None
    assert stored_thresholds(SimpleNamespace(classes=classes, metadata={"thresholds": [0.3, 1]})) == [0.3, 1.0]
    assert several_classes(SimpleNamespace(classes=classes, thresholds=[0.3, 0.2]))
    table = tmp_path / "least.csv"
    table.write_text("label,threshold\nwren,0.25\n'=x,1\n")
    assert read_thresholds(str(table), classes) == [1.0, 0.25]
    for text, message in (
        ("label,threshold\nwren,0.25\n", r"has no threshold for =x; add a row"),
        ("label,threshold\nowl,0.25\n", "line 2: the model has no class owl; it has =x, wren"),
        ("label,threshold\nwren,2\n", "line 2: expected a number from 0 to 1, not 2"),
        ("label,threshold\nwren,x\n", "line 2: expected a number from 0 to 1, not 'x'"),
        ("label,threshold\nwren,1\nwren,1\n", "line 3: wren has a threshold already"),
        ("class,least\nwren,1\n", "names the columns label and threshold"),
    ):
        table.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_thresholds(str(table), classes)
    with pytest.raises(ValueError, match=r"threshold 1\.5: expected a number from 0 to 1"):
        read_thresholds("1.5", classes)
    with pytest.raises(FileNotFoundError, match=r"threshold none\.csv: expected a number"):
        read_thresholds("none.csv", classes)


def test_folders_and_patterns_are_searched_and_files_taken_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b/y.WAV", "b/x.mp3", "a/z.flac", "a/notes.txt", "a/.hidden.wav", ".git/w.wav", "odd.bin", "[1].wav"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert find_sounds(["b", "odd.bin", "a"]) == ["b/x.mp3", "b/y.WAV", "odd.bin", "a/z.flac"]
    assert find_sounds(["."]) == ["./[1].wav", "./a/z.flac", "./b/x.mp3", "./b/y.WAV"]
    assert find_sounds(["*/*", "b/x.mp3"]) == ["a/z.flac", "b/x.mp3", "b/y.WAV"]
    assert find_sounds(["**/*.mp3", "?"]) == ["b/x.mp3", "a/z.flac", "b/y.WAV"]
    assert find_sounds(["[1].wav"]) == ["[1].wav"]  # a name, although it looks like a pattern
    for path, message in (("none.wav", "no such audio file"), ("*.ogg", "no sound file has a name like this")):
        with pytest.raises(FileNotFoundError, match=message):
            find_sounds([path])
    Path("empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty: the folder holds no sound file"):
        find_sounds(["b", "empty"])
