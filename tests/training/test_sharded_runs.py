"""Runs on shards: their order, its parts, and that no stop changes where they end."""

import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from test_run import QUIET, assert_same_end
from typer.testing import CliRunner

from specenhance._stopping import Stopped
from specenhance.cli import app
from specenhance.data import AudioDataset
from specenhance.data.shards import ShardedSounds
from specenhance.training import load_recipe, recipe_for, save_recipe
from specenhance.training.batches import WINDOW, Place, TrainingOrder, loader
from specenhance.training.module import Classifier
from specenhance.training.recipe import Recipe
from specenhance.training.run import resume, train
from specenhance.training.sharding import shard

pytest.importorskip("webdataset")
CLIPS, BLOCK = 1000, 20


def numbers(order):
    return [draw.clip for batch in order for draw in batch]


def order_of(*arguments, blocks=None, epoch=0, **changes):
    order = TrainingOrder(CLIPS, Recipe(batch_size=16, **changes), *arguments, blocks=blocks)
    order.set_epoch(epoch)
    return order


@pytest.fixture
def blocks():
    return torch.arange(CLIPS) // BLOCK


def test_without_blocks_the_order_is_the_permutation_of_seed_and_epoch():
    for epoch in range(3):
        expected = torch.randperm(CLIPS, generator=torch.Generator().manual_seed(7 + epoch)).tolist()
        assert numbers(order_of(epoch=epoch, seed=7)) == expected


def test_with_blocks_an_epoch_reads_each_clip_once_and_eight_blocks_at_a_time(blocks):
    drawn = numbers(order_of(blocks=blocks))
    assert sorted(drawn) == list(range(CLIPS))
    size = WINDOW * BLOCK
    windows = [{clip // BLOCK for clip in drawn[start : start + size]} for start in range(0, CLIPS, size)]
    assert all(len(window) <= WINDOW for window in windows)
    assert sum(len(window) for window in windows) == CLIPS // BLOCK
    assert windows[0] != set(range(WINDOW))  # the blocks are shuffled
    inside = drawn[:size]
    assert len({clip // BLOCK for clip in inside[:16]}) > 4  # and the clips in the window
    assert drawn == numbers(order_of(blocks=blocks))
    assert drawn != numbers(order_of(blocks=blocks, epoch=1))


def test_two_ranks_read_each_clip_once_in_the_batches_of_one(blocks):
    one = [[draw.clip for draw in batch] for batch in order_of(blocks=blocks)]
    parts = [[[draw.clip for draw in batch] for batch in order_of(2, rank, blocks=blocks)] for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(batch) for batch in one]
    assert sorted(clip for part in parts for batch in part for clip in batch) == list(range(CLIPS))


def test_a_stopped_epoch_goes_on_where_it_was(blocks):
    whole = list(order_of(blocks=blocks))
    start = TrainingOrder(CLIPS, Recipe(batch_size=16), start=Place(0, 11), blocks=blocks)
    assert list(start) == whole[11:]


def test_drawn_clips_lie_together_too(blocks):
    data = AudioDataset(["a", "b"], [int(i >= 900) for i in range(CLIPS)])
    data.blocks = blocks.tolist()
    drawn = numbers(loader(data, Recipe(batch_size=16, sampling="balanced"), train=True).batch_sampler)
    assert 350 < sum(clip >= 900 for clip in drawn) < 650
    seen = [clip // BLOCK for clip in drawn]
    ends = {block: max(i for i, one in enumerate(seen) if one == block) - seen.index(block) for block in set(seen)}
    assert max(ends.values()) < CLIPS


# Runs


@pytest.fixture(scope="module")
def sharded(quick, tmp_path_factory):
    """The tones in twelve training shards of two clips each."""
    folder = tmp_path_factory.mktemp("sharded") / "shards"
    assert shard(quick, folder, megabytes=0.016)["train"] == 12
    return folder


@pytest.fixture(scope="module")
def recipe(quick, sharded):
    return quick.replace(data="shards", root=sharded, batch_size=5, mixup=0.5)


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(recipe, out, **QUIET)
    return out


def test_the_processes_that_read_clips_do_not_matter(recipe, whole, tmp_path):
    train(recipe, tmp_path / "run", workers=2, **QUIET)
    assert_same_end(whole, tmp_path / "run")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_stopped_in_mid_epoch_ends_as_if_nothing_had_happened(recipe, whole, tmp_path, monkeypatch, workers):
    take_step = Classifier.training_step

    def take_step_or_signal(self, *args):
        if self.global_step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return take_step(self, *args)

    monkeypatch.setattr(Classifier, "training_step", take_step_or_signal)
    with pytest.raises(Stopped, match="after step 3 of 5 in epoch 2"):
        train(recipe, tmp_path / "run", workers=workers, **QUIET)
    monkeypatch.undo()
    resume(tmp_path / "run", workers=workers, **QUIET)
    assert_same_end(whole, tmp_path / "run")


KILLED = """
import os, signal, sys
from pathlib import Path
from specenhance.training import load_recipe
from specenhance.training.module import Classifier
from specenhance.training.run import train
step = Classifier.training_step
def step_or_die(self, *args):
    if self.global_step == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *args)
Classifier.training_step = step_or_die
train(load_recipe(sys.argv[1]), Path(sys.argv[2]), device="cpu", workers=2)
"""


def test_a_killed_run_ends_as_if_nothing_had_happened(recipe, whole, tmp_path):
    save_recipe(recipe, tmp_path / "recipe.toml")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "recipe.toml"), str(tmp_path / "run")]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    resume(tmp_path / "run", **QUIET)
    assert_same_end(whole, tmp_path / "run")


def test_a_cache_does_not_change_the_order(recipe, whole, tmp_path):
    train(recipe, tmp_path / "run", cache="memory", **QUIET)
    assert_same_end(whole, tmp_path / "run")


def test_a_run_refuses_other_shards(recipe, quick, sharded, tmp_path):
    place = shutil.copytree(sharded, tmp_path / "shards")
    train(recipe.replace(root=place, epochs=1), tmp_path / "run", **QUIET)
    shutil.rmtree(place)
    shard(quick, place, megabytes=0.03)
    with pytest.raises(ValueError, match="are not those that it was trained on, their index is another"):
        resume(tmp_path / "run", epochs=2, **QUIET)


def test_a_shard_damaged_in_training_is_told_by_name(recipe, sharded, tmp_path):
    place = shutil.copytree(sharded, tmp_path / "shards")
    path = place / "train-000004.tar"
    content = bytearray(path.read_bytes())
    content[content.index(b"RIFF") + 3000] ^= 255
    path.write_bytes(content)
    for workers in (0, 2):
        with pytest.raises(ValueError, match=r"train-000004\.tar: damaged, the bytes of the sound train/"):
            train(recipe.replace(root=place), tmp_path / f"run{workers}", workers=workers, **QUIET)


def test_two_processes_share_the_shards(recipe, tmp_path):
    still = {"time_mask": 0, "freq_mask": 0, "shift": 0, "noise": 0.0, "mixup": 0.0}
    plain = recipe.replace(backbone="test_vit", frames=48, batch_size=8, epochs=1, **still)
    train(plain, tmp_path / "one", **QUIET)
    train(plain, tmp_path / "two", devices=2, **QUIET)
    lines = [(tmp_path / name / "confusion_matrix.csv").read_text() for name in ("one", "two")]
    assert lines[0] == lines[1]


# The command


def told(*words):
    found = CliRunner().invoke(app, list(map(str, words)))
    return SimpleNamespace(code=found.exit_code, text=found.output + (found.stderr or ""))


def test_the_commands_make_shards_and_train_on_them(tones, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = ["path,label,split"]
    for path in sorted(tones.glob("*/*/*.wav")):
        split, label, _ = path.relative_to(tones).parts
        rows.append(f"{path.relative_to(tones)},{label};{'odd' if label == 'low' else ''},{split}".replace(";,", ","))
    (tmp_path / "t.csv").write_text("\n".join(rows))
    made = told("shard", "--data", "folder", "--root", tones, "--csv", "t.csv", "--multi-label", "--out", "shards")
    assert made.code == 0, made.text
    assert "3 shards in shards; train on them: specenhance train --data shards --root shards" in made.text
    assert ShardedSounds("shards", "test").classes == ["high", "low", "middle", "odd"]
    # The shards know what their data set was: several labels, and the loss for them.
    chosen = recipe_for("shards", root=tmp_path / "shards")
    assert (chosen.multi_label, chosen.loss, chosen.shift) == (True, "binary_cross_entropy", 10)
    small = [
        "--backbone",
        "test_resnet",
        "--set",
        "bins=32",
        "--epochs",
        1,
        "--batch-size",
        8,
        "--device",
        "cpu",
        "--no-progress",
    ]
    trained = told("train", "--data", "shards", "--root", "shards", "--out", "run", *small)
    assert trained.code == 0, trained.text
    stored = load_recipe("run/recipe.toml")
    assert stored.multi_label
    shutil.move("shards", "elsewhere")
    assert load_recipe("run/recipe.toml") == stored  # which needs no shards
    moved = told("evaluate", "run", "--root", "elsewhere", "--device", "cpu")
    assert moved.code == 0, moved.text


def test_the_command_refuses_what_cannot_be_read_before_it_writes(tones, tmp_path):
    root = shutil.copytree(tones, tmp_path / "tones")
    (root / "train" / "low" / "0.wav").write_bytes(b"nothing")
    words = ["shard", "--data", "folder", "--root", root, "--out", tmp_path / "shards"]
    refused = told(*words)
    assert refused.code == 1
    assert "1 files cannot be used" in refused.text
    assert not (tmp_path / "shards").exists()
    assert told(*words, "--skip-bad").code == 0
    assert len(ShardedSounds(tmp_path / "shards", "train")) == 23
    again = told(*words)
    assert again.code == 1
    assert "already there" in again.text


def test_check_reads_every_sound_of_the_shards(sharded, tmp_path):
    assert told("check", "--data", "shards", "--root", sharded).code == 0
    place = shutil.copytree(sharded, tmp_path / "shards")
    path = place / "test-000000.tar"
    content = bytearray(path.read_bytes())
    content[content.index(b"RIFF") + 3000] ^= 255
    path.write_bytes(content)
    found = told("check", "--data", "shards", "--root", place)
    assert found.code == 1
    assert "test-000000.tar: damaged" in found.text
