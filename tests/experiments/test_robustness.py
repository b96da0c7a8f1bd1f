"""The study over all speakers: folds without a speaker in two splits, intervals over speakers, runs that are kept."""

import csv
import json
import sys

import pytest

from specenhance.experiments import robustness
from specenhance.experiments.robustness import FOLDS, group_of, speaker_folds, speaker_of, write_tables


def test_every_speaker_is_in_one_fold():
    speakers = [f"s{i:02}" for i in range(24)]
    folds = speaker_folds(speakers, speakers[5:8], speakers[11:14])
    assert folds[:2] == [speakers[5:8], speakers[11:14]]
    assert [len(fold) for fold in folds] == [3] * FOLDS
    assert sorted(name for fold in folds for name in fold) == speakers


def test_tables_have_each_clip_once_and_no_speaker_in_two_splits(shared, tmp_path):
    root = shared / "arabic_speech_commands"
    tested = []
    for table in write_tables(root, tmp_path):
        rows = list(csv.DictReader(table.open(encoding="utf-8")))
        assert len(rows) == 8400
        speakers = {
            split: {speaker_of(row["path"]) for row in rows if row["split"] == split}
            for split in ("train", "validation", "test")
        }
        assert [len(found) for found in speakers.values()] == [18, 3, 3]
        assert not speakers["train"] & (speakers["validation"] | speakers["test"])
        assert not speakers["validation"] & speakers["test"]
        tested += [row["path"] for row in rows if row["split"] == "test"]
    assert len(tested) == len(set(tested)) == 8400


def test_esc50s_tables_have_no_recording_in_two_splits(shared, tmp_path):
    root = shared / "esc50_fold4"
    group, tested = group_of(root), []
    for table in write_tables(root, tmp_path):
        rows = list(csv.DictReader(table.open(encoding="utf-8")))
        assert len(rows) == 400
        groups = {
            split: {group(root / row["path"]) for row in rows if row["split"] == split}
            for split in ("train", "validation", "test")
        }
        assert not groups["train"] & (groups["validation"] | groups["test"])
        assert not groups["validation"] & groups["test"]
        tested += [row["path"] for row in rows if row["split"] == "test"]
    assert len(tested) == len(set(tested)) == 400


@pytest.fixture
def spoken(tones, tmp_path):
    """The tones as files of Speech Commands, each by a speaker who says every word."""
    root = tmp_path / "spoken"
    lists = {"validation": [], "testing": [], "train": []}
    for split, lines in zip(("validation", "test", "train"), lists.values(), strict=True):
        for file in sorted((tones / split).rglob("*.wav")):
            name = f"{file.parent.name}/{split}{file.stem}_nohash_0.wav"
            (root / file.parent.name).mkdir(exist_ok=True, parents=True)
            (root / name).write_bytes(file.read_bytes())
            lines.append(name)
    for name in ("validation", "testing"):
        (root / f"{name}_list.txt").write_text("\n".join(lists[name]))
    return root


def test_it_trains_once_and_reports(spoken, tmp_path, monkeypatch, capsys):
    changes = {"BACKBONE": "test_resnet", "FOLDS": 3, "CONDITIONS": ("clean", "gain:-12")}
    for name, value in changes.items():
        monkeypatch.setattr(robustness, name, value)
    arms = ["identity", "clipnorm, robust"]
    command = [
        "robustness",
        "train",
        str(spoken),
        "--out",
        str(tmp_path),
        "--folds",
        "1",
        "--epochs",
        "1",
        "--arms",
        *arms,
    ]
    monkeypatch.setattr(sys, "argv", command)
    robustness.main()
    heard = tmp_path / "clipnorm-robust-fold1" / "heard-test.json"
    assert set(json.loads(heard.read_text())) == {"groups", "clean", "gain:-12"}
    stamp = heard.stat().st_mtime_ns
    robustness.main()
    assert heard.stat().st_mtime_ns == stamp
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", [*command[:1], "report", *command[2:], "--json", str(tmp_path / "counts.json")])
    robustness.main()
    said = capsys.readouterr().out
    assert "| clipnorm, robust |" in said
    assert "Difference to identity, paired:" in said
    right = json.loads(heard.read_text())
    for group, counted in json.loads((tmp_path / "counts.json").read_text())["clipnorm, robust"].items():
        clips = [i for i, name in enumerate(right["groups"]) if name == group]
        assert counted == {"clips": len(clips)} | {c: sum(right[c][i] for i in clips) for c in ("clean", "gain:-12")}
