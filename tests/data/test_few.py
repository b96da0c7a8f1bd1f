"""A few clips of each class."""

from collections import Counter

import pytest

from specenhance.data import AudioDataset
from specenhance.data.few import few
from specenhance.training import recipe_for
from specenhance.training.build import build_split


def test_each_class_has_at_most_so_many_and_a_small_choice_is_part_of_a_larger_one(tmp_path):
    labels = [0] * 10 + [1] * 3 + [2] * 20
    data = AudioDataset(["a", "b", "c"], labels, [tmp_path / f"{i}.wav" for i in range(33)])
    five, ten = few(data, 5, seed=1), few(data, 10, seed=1)
    assert Counter(five.labels) == {0: 5, 1: 3, 2: 5}
    assert set(five.paths) < set(ten.paths)
    assert few(data, 5, seed=1).paths == five.paths
    assert few(data, 5, seed=2).paths != five.paths
    assert all(labels[data.paths.index(path)] == label for path, label in zip(five.paths, five.labels, strict=True))


def test_only_the_training_clips_are_few_and_the_seed_chooses_them(tones):
    def names(split, **changes):
        return sorted(build_split(recipe_for("folder", root=tones, **changes), split).paths)

    assert len(names("train", clips_per_class=3)) == 9
    assert names("train", clips_per_class=3, seed=1) != names("train", clips_per_class=3, seed=2)
    assert len(names("train", clips_per_class=100)) == len(names("train")) == 24
    for split in ("validation", "test"):
        assert names(split, clips_per_class=3) == names(split)
    assert len(build_split(recipe_for("synthetic", clips_per_class=2), "train")) == 20


def test_a_negative_number_is_an_error():
    with pytest.raises(ValueError, match="clips_per_class"):
        recipe_for("synthetic", clips_per_class=-1)
