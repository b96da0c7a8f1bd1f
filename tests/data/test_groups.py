"""Folds by group: none in two folds, like sizes, the same for any order; what each data set knows of its groups."""

import csv
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specenhance.conditions import create_condition
from specenhance.conditions.altered import Altered
from specenhance.data import AudioDataset, SyntheticSounds, open_data
from specenhance.data.base import joined
from specenhance.data.cache import CachedWaveforms
from specenhance.data.classes import with_classes
from specenhance.data.groups import CLIP, fold_split, group_folds, groups_of
from specenhance.data.registry import DATA, list_data, register_data


@given(st.lists(st.sampled_from("abcdefghij"), min_size=10, max_size=200), st.integers(3, 6), st.randoms())
def test_no_group_is_in_two_folds_and_order_does_not_matter(names, folds, random):
    names += list("abcdefghij")
    place = group_folds(names, folds)
    of = dict(zip(names, place, strict=True))
    assert [of[name] for name in names] == place
    assert set(place) == set(range(1, folds + 1))
    order = random.sample(range(len(names)), len(names))
    assert group_folds([names[i] for i in order], folds) == [place[i] for i in order]


def test_folds_are_of_like_size():
    names = [f"g{i:02}" for i in range(40) for _ in range(1 + i % 3)]
    sizes = Counter(group_folds(names, 5)).values()
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("folds", "words"),
    [(2, "folds = 2: expected 3 or more"), (4, "folds = 4: expected at most 3, the number of groups")],
)
def test_numbers_of_folds_that_are_refused(folds, words):
    with pytest.raises(ValueError, match=words):
        group_folds(["a", "b", "c"], folds)


def test_kinds_that_are_refused():
    data = AudioDataset(["yes"], [0, 0])
    with pytest.raises(ValueError, match=r"group is missing.*one of clip"):
        groups_of(data)
    data.groups = {"speaker": ["a", "b"], "site": ["x", "x"]}
    with pytest.raises(ValueError, match=r"group is missing.*one of speaker, site, clip"):
        groups_of(data)
    with pytest.raises(ValueError, match=r"group = 'device'.*column of the CSV"):
        groups_of(data, "device")
    assert groups_of(data, "site") == ["x", "x"]


@pytest.mark.parametrize(("name", "kind", "count"), [("speech_commands", "speaker", 24), ("esc50", "recording", None)])
def test_real_data_sets_know_their_groups(shared, name, kind, count):
    root = shared / {"speech_commands": "arabic_speech_commands", "esc50": "esc50_fold4"}[name]
    parts = [open_data(name, split, root=root, fold=1) for split in ("train", "validation", "test")]
    whole = joined(parts)
    assert len(whole) == len(set(whole.paths)) == {"speech_commands": 8400, "esc50": 400}[name]
    assert count is None or len(set(groups_of(whole))) == count
    if name == "esc50":
        with (root / "meta" / "esc50.csv").open(encoding="utf-8") as table:
            source = {row["filename"]: row["src_file"] for row in csv.DictReader(table)}
        assert groups_of(whole) == [source[path.name] for path in whole.paths]
    tested = []
    for fold in range(1, 6):
        splits = {s: fold_split(parts, kind, 5, fold, s) for s in ("train", "validation", "test")}
        members = {s: set(groups_of(part)) for s, part in splits.items()}
        assert sum(map(len, splits.values())) == len(whole)
        assert not members["train"] & (members["validation"] | members["test"])
        assert not members["validation"] & members["test"]
        tested += splits["test"].paths
    assert sorted(tested) == sorted(whole.paths)


def test_a_clip_without_a_file_has_the_same_name_in_every_fold_and_no_other_has_it():
    parts = [SyntheticSounds(split, clips_per_class=1) for split in ("train", "validation", "test")]
    clips = [part.waveform(i).numpy().tobytes() for part in parts for i in range(len(part))]
    names = groups_of(joined(parts), CLIP)
    assert len(set(names)) == len(names) == 30
    clip = dict(zip(names, clips, strict=True))
    tested = []
    for fold in range(1, 6):
        data = {split: fold_split(parts, CLIP, 5, fold, split) for split in ("train", "validation", "test")}
        found = {split: groups_of(part, CLIP) for split, part in data.items()}
        assert sorted(name for part in found.values() for name in part) == sorted(names)
        for split, part in data.items():
            assert [part.waveform(i).numpy().tobytes() for i in range(len(part))] == [clip[n] for n in found[split]]
        tested += found["test"]
    assert sorted(tested) == sorted(names)


def test_a_data_set_made_of_another_has_its_names():
    whole = SyntheticSounds("test", clips_per_class=1)
    part = whole.subset([7, 4])
    turned = with_classes(part, whole.classes[::-1], "the model")
    heard = Altered(part, create_condition("gain:-6"))
    for made in (
        part,
        turned,
        CachedWaveforms(part),
        heard,
        Altered(CachedWaveforms(turned), create_condition("clean")),
    ):
        assert [made.name(0), made.name(1), made.subset([1]).name(0)] == ["clip 7", "clip 4", "clip 4"]


def test_no_clip_of_two_folds_has_the_same_name_where_a_data_set_without_files_has_its_own_folds(monkeypatch):
    assert list_data()  # the library's own are loaded
    monkeypatch.setattr(DATA, "_entries", dict(DATA._entries))

    @register_data("folded", folds=3)
    class Folded(AudioDataset):
        def __init__(self, split, fold=1, sample_rate=16000):
            super().__init__(["a"], [0, 0], (), sample_rate)

    @register_data("named", folds=3)
    class Named(Folded):
        def __init__(self, split, fold=1, sample_rate=16000):
            super().__init__(split, fold, sample_rate)
            self.names = [f"{fold}.{i}" for i in range(2)]

    folds = [open_data("folded", "test", fold=fold) for fold in (1, 2, 3)]
    assert len({name for data in folds for name in groups_of(data, CLIP)}) == 6
    assert groups_of(open_data("folded", "test", fold=2), CLIP) == groups_of(folds[1], CLIP)
    assert groups_of(open_data("named", "test", fold=2), CLIP) == ["2.0", "2.1"]


def test_every_further_column_of_a_table_is_a_kind_of_group(tones, tmp_path):
    files = sorted(tones.rglob("*.wav"))
    table = tmp_path / "clips.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "site", "device"])
        for i, path in enumerate(files):
            writer.writerow([path.relative_to(tones).as_posix(), path.parent.name, f"site{i % 5}", f"d{i % 2}"])
    parts = [open_data("folder", split, root=tones, csv=table) for split in ("train", "validation", "test")]
    assert set(parts[0].groups) == {"site", "device"}
    test = fold_split(parts, "site", 5, 2, "test")
    assert len(set(groups_of(test, "site"))) == 1
    waveform, label = test[0]
    assert waveform.ndim == 1
    assert test.paths[0].parent.name == test.classes[label]
