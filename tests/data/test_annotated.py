"""Clips cut out of long recordings by their annotations: as stretches, as windows, with background, in splits, and trained."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from specenhance.annotations import Annotation, write_annotations
from specenhance.audio import read_excerpt
from specenhance.conditions import create_condition
from specenhance.conditions.altered import Altered
from specenhance.data import CachedWaveforms, open_data
from specenhance.data.annotated import AnnotatedSounds
from specenhance.data.check import check_sounds, find_twins
from specenhance.training import load_stored, recipe_for
from specenhance.training.run import resume, train

RATE = 16000


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Eight recordings of 20 s. Each second's samples are its number / 100, so that a clip tells where it is from."""
    root = tmp_path_factory.mktemp("field")
    for i in range(8):
        values = np.repeat(np.arange(20) / 100, RATE)
        soundfile.write(root / f"rec{i}.wav", values, RATE)
    return root


def table(path, rows):
    write_annotations(path, [Annotation(*row) for row in rows])
    return path


ROWS = [
    ("rec0.wav", 2, 4, "wren"),
    ("rec0.wav", 3, 6, "rook"),
    ("rec0.wav", 12, 13, "wren"),
    ("rec1.wav", 5, 9, "rook"),
]


def every_split(field, csv, **options):
    found = {}
    for split in ("train", "validation", "test"):
        try:
            found[split] = AnnotatedSounds(field, csv, split, **options)
        except ValueError as error:
            assert "no clip in the split" in str(error)  # noqa: PT017
    return found


def all_clips(field, csv, **options):
    parts = every_split(field, csv, **options).values()
    return sorted(
        (part.paths[i].name, *part.spans[i], part.labels[i] if part.multi_label else part.classes[part.labels[i]])
        for part in parts
        for i in range(len(part))
    )


def test_each_annotation_is_a_clip_and_only_it_is_read(field, tmp_path):
    csv = table(tmp_path / "t.csv", ROWS)
    assert all_clips(field, csv) == [
        ("rec0.wav", 2, 4, "wren"),
        ("rec0.wav", 3, 6, "rook"),
        ("rec0.wav", 12, 13, "wren"),
        ("rec1.wav", 5, 9, "rook"),
    ]
    for data in every_split(field, csv).values():
        for i, (start, end) in enumerate(data.spans):
            waveform = data.waveform(i)
            assert len(waveform) == (end - start) * RATE
            seconds = [round(100 * float(part.mean())) for part in waveform.split(RATE)]
            assert seconds == list(range(int(start), int(end)))
            assert round(100 * float(data.excerpt(i, 0.5, place=1.0).mean())) == end - 1
            assert data.name(i).endswith(f"{data.paths[i].name}#t={start:g},{end:g}")


def test_windows_have_the_labels_that_overlap_them(field, tmp_path):
    csv = table(tmp_path / "t.csv", ROWS)
    found = all_clips(field, csv, window=2, multi_label=True, background="none")
    assert len(found) == 20
    # Classes: rook 0, wren 1. An overlap of half of the shorter of window and annotation counts.
    assert [clip for clip in found if clip[3]] == [
        ("rec0.wav", 2, 4, (0, 1)),
        ("rec0.wav", 4, 6, (0,)),
        ("rec0.wav", 12, 14, (1,)),
        ("rec1.wav", 4, 6, (0,)),
        ("rec1.wav", 6, 8, (0,)),
        ("rec1.wav", 8, 10, (0,)),
    ]
    assert len(all_clips(field, csv, window=2, multi_label=True)) == 6
    one = all_clips(field, csv, window=2)
    assert one[0] == ("rec0.wav", 2, 4, "wren")  # it overlaps more than the rook
    half = all_clips(field, csv, window=2, hop=1, multi_label=True)
    assert ("rec0.wav", 5, 7, (0,)) in half
    assert ("rec1.wav", 8, 10, (0,)) not in all_clips(field, csv, window=2, multi_label=True, overlap=0.6)


def test_background_is_what_no_annotation_names(field, tmp_path):
    csv = table(tmp_path / "t.csv", ROWS)
    found = all_clips(field, csv, background="silence")
    length = 2.5  # the median annotation
    silent = [(clip[1], clip[2]) for clip in found if clip[3] == "silence" and clip[0] == "rec0.wav"]
    assert silent == [(6, 8.5), (8.5, 11), (13, 15.5), (15.5, 18)]
    assert all(end - start == length for start, end in silent)
    with pytest.raises(ValueError, match="background = 'wren': is a label of the annotations"):
        AnnotatedSounds(field, csv, background="wren")


def test_two_labels_of_one_stretch_need_multi_label(field, tmp_path):
    csv = table(tmp_path / "t.csv", [("rec0.wav", 2, 4, "wren"), ("rec0.wav", 2, 4, "rook")])
    with pytest.raises(
        ValueError, match=r"rec0\.wav, 2 to 4 s has the labels wren, rook; expected one, or --multi-label"
    ):
        AnnotatedSounds(field, csv)
    assert all_clips(field, csv, multi_label=True) == [("rec0.wav", 2, 4, (0, 1))]


def test_files_are_whole_in_a_split_or_divided_in_time(field, tmp_path):
    rows = [(f"rec{i}.wav", start, start + 2, "ab"[i % 2]) for i in range(8) for start in range(0, 20, 2)]
    csv = table(tmp_path / "t.csv", rows)
    parts = every_split(field, csv)
    files = {split: set(part.groups["file"]) for split, part in parts.items()}
    assert sum(len(names) for names in files.values()) == 8
    assert sum(len(part) for part in parts.values()) == 80
    (tmp_path / "moved").mkdir()
    for path in field.iterdir():
        (tmp_path / "moved" / path.name).symlink_to(path)
    moved = every_split(tmp_path / "moved", csv)
    assert {split: set(part.groups["file"]) for split, part in moved.items()} == files  # wherever the data lies
    timed = every_split(field, csv, split_by="time")
    assert set(timed) == {"train", "validation", "test"}
    assert all(end <= 14 for _, end in timed["train"].spans)
    assert all(start >= 14 and end <= 17 for start, end in timed["validation"].spans)
    assert all(start >= 17 for start, _ in timed["test"].spans)
    assert list(find_twins(timed)) == []


def test_parts_that_overlap_are_twins(field, tmp_path):
    data = AnnotatedSounds(
        field, table(tmp_path / "t.csv", [(f"rec{i}.wav", 2, 4, "a") for i in range(8)]), split_by="time"
    )
    other = AnnotatedSounds(field, table(tmp_path / "o.csv", [("rec0.wav", 3.5, 5, "a")]), split_by="time")
    assert [twin[1].rpartition("/")[2] for twin in find_twins({"train": data, "test": other})] == ["rec0.wav#t=3.5,5"]


@pytest.mark.parametrize("kind", ["raven", "audacity"])
def test_ravens_and_audacitys_tables_train(field, tmp_path, kind):
    rows = [
        Annotation(str(field / f"rec{i}.wav"), start, start + 1, "ab"[start % 2])
        for i in range(8)
        for start in range(5)
    ]
    write_annotations(tmp_path / kind, rows, kind)
    data = AnnotatedSounds(field, tmp_path / kind, split_by="time")
    assert len(data) == 40
    assert data.classes == ["a", "b"]
    assert {path.parent for path in data.paths} == {field}


def test_what_is_wrong_is_named(field, tmp_path):
    csv = table(tmp_path / "t.csv", [("rec9.wav", 2, 4, "wren")])
    with pytest.raises(FileNotFoundError, match=r"t\.csv names 1 files that are not there: .*rec9\.wav"):
        AnnotatedSounds(field, csv)
    with pytest.raises(ValueError, match=r"'wren' in rec0\.wav at 2 s has no length"):
        AnnotatedSounds(field, table(tmp_path / "p.csv", [("rec0.wav", 2, 2, "wren")]))
    good = table(tmp_path / "g.csv", ROWS)
    for options, message in (
        ({"window": -1}, "window = -1: expected seconds"),
        ({"window": 2, "hop": 3}, "hop = 3: expected seconds, at most the window"),
        ({"overlap": 0}, "overlap = 0: expected a part above 0"),
        ({"split_by": "day"}, "split_by = 'day': expected one of file, time"),
    ):
        with pytest.raises(ValueError, match=message):
            AnnotatedSounds(field, good, **options)
    missing = next(split for split in ("train", "validation", "test") if split not in every_split(field, good))
    with pytest.raises(ValueError, match=r"--set data_args\.split_by=time divides each recording"):
        AnnotatedSounds(field, good, missing)
    with pytest.raises(
        ValueError, match=r"data_args\.windw: the data set 'annotations' takes window, hop, overlap, background"
    ):
        open_data("annotations", "train", root=field, csv=good, arguments={"windw": 2})
    late = AnnotatedSounds(
        field,
        table(tmp_path / "l.csv", [("rec0.wav", 30, 31, "a"), ("rec0.wav", 19, 22, "a")]),
        split_by="file",
        split=split_of("rec0.wav"),
    )
    checked = check_sounds(late)
    assert list(checked.seconds) == [None, 1.0] or list(checked.seconds) == [1.0, None]
    (fault,) = checked.faults.values()
    assert "starts after the end of its file, which has 20 s" in fault


def split_of(file):
    from specenhance.data.layout import hashed_split

    return hashed_split(file)


def test_caches_and_conditions_know_the_place(field, tmp_path):
    data = AnnotatedSounds(
        field, table(tmp_path / "t.csv", [("rec0.wav", 2, 4, "a"), ("rec0.wav", 8, 9, "a")]), split_by="time"
    )
    for cached in (CachedWaveforms(data), CachedWaveforms(data, tmp_path / "cache")):
        assert all(torch.equal(cached.waveform(i), data.waveform(i)) for i in range(2))
        assert cached.name(1) == data.name(1)
    noisy = Altered(data, create_condition("noise:10"))
    first, second = (noisy.waveform(i)[:RATE] - data.waveform(i)[:RATE] for i in range(2))
    assert not torch.allclose(first / first.std(), second / second.std())  # two clips of a file have noise of their own


def test_a_part_is_read_from_any_place(field):
    part = read_excerpt(field / "rec0.wav", RATE, 1.5, start=7.25)
    assert len(part) == 1.5 * RATE
    assert sorted(set(np.round(100 * part).astype(int).tolist())) == [7, 8]
    with pytest.raises(ValueError, match=r"ends after 20 s, and a part of it is to start at 20 s"):
        read_excerpt(field / "rec0.wav", RATE, 1.0, start=20)


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """Four recordings of 10 s with a low or a high tone each half second, and their annotations."""
    folder = tmp_path_factory.mktemp("calls")
    rng, time = np.random.default_rng(0), np.arange(10 * RATE) / RATE
    rows = []
    for i in range(4):
        wave = 0.02 * rng.standard_normal(10 * RATE)
        for start in np.arange(0, 9.5, 0.5):
            label = "low" if rng.random() < 0.5 else "high"
            inside = (time >= start) & (time < start + 0.4)
            wave[inside] += 0.3 * np.sin(2 * np.pi * {"low": 400, "high": 3000}[label] * time[inside])
            rows.append((f"{i}.wav", float(start), float(start) + 0.4, label))
        soundfile.write(folder / f"{i}.wav", wave, RATE)
    return folder, rows


def test_a_run_on_annotations_is_trained_resumed_and_scored(calls, tmp_path):
    sounds, rows = calls
    csv = table(tmp_path / "t.csv", rows)
    recipe = recipe_for(
        "annotations", root=sounds, csv=csv, backbone="test_resnet", frontend="identity", epochs=10, batch_size=8,
        **{"data_args.split_by": "time", "data_args.window": 0.5, "bins": 32},
    )  # fmt: skip
    result = train(recipe, tmp_path / "run", device="cpu")
    assert result["test_accuracy"] > 0.6
    clips = [json.loads(line) for line in (tmp_path / "run" / "clips.jsonl").read_text().splitlines()[1:]]
    assert clips[0]["path"] == "0.wav#t=0,0.5"
    assert clips[0]["seconds"] == 0.5
    assert load_stored(tmp_path / "run").recipe.data_args == {"split_by": "time", "window": 0.5}
    assert resume(tmp_path / "run", device="cpu") == result
    table(csv, [*rows[:-1], (*rows[-1][:3], "low" if rows[-1][3] == "high" else "high")])
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(ValueError, match=r"3\.wav#t=9,9\.5: was '(low|high)', now '(low|high)'"):
        resume(tmp_path / "run", device="cpu")


def test_the_command_line_trains_on_a_table(calls, tmp_path):
    from typer.testing import CliRunner

    from specenhance.cli.program import app

    sounds, rows = calls
    csv = table(tmp_path / "t.jsonl", rows)
    arguments = ["--data", "annotations", "--root", str(sounds), "--csv", str(csv), "--backbone", "test_resnet"]
    arguments += [
        "--frontend",
        "identity",
        "--epochs",
        "1",
        "--device",
        "cpu",
        "--set",
        "frames=48",
        "--set",
        "bins=32",
    ]
    found = CliRunner().invoke(
        app, ["train", *arguments, "--folds", "4", "--group", "file", "--fold", "1", "--out", str(tmp_path / "run")]
    )
    assert found.exit_code == 0, found.output
    assert Path(tmp_path / "run" / "result.json").is_file()
