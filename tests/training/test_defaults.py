"""What a recipe leaves to the data is fitted to it, told, and stored."""

import numpy as np
import pytest
import soundfile

from specenhance.training import load_recipe, recipe_for
from specenhance.training.batches import steps_per_epoch
from specenhance.training.defaults import STEPS, fitted
from specenhance.training.run import train


@pytest.fixture
def left():
    return recipe_for("folder", root=".")


@pytest.mark.parametrize(
    ("clips", "batch_size", "epochs"),
    [(20, 8, 200), (93, 8, 84), (300, 16, 53), (600, 32, 53), (1100, 64, 56), (6300, 64, 30)],
)
def test_batch_and_epochs_come_from_the_number_of_clips(left, clips, batch_size, epochs):
    recipe = fitted(left, [1.0] * clips)
    assert (recipe.batch_size, recipe.epochs) == (batch_size, epochs)
    steps = recipe.epochs * steps_per_epoch(clips, recipe.batch_size)
    assert steps >= STEPS or recipe.epochs == 200


@pytest.mark.parametrize(("seconds", "frames"), [(0.3, 32), (1.0, 112), (5.0, 512), (30.0, 1024), (0.01, 16)])
def test_frames_hold_the_usual_clip(left, seconds, frames):
    recipe = fitted(left, [seconds] * 100)
    assert recipe.frames == frames
    assert recipe.clip_seconds == pytest.approx(seconds)


def test_one_long_file_among_short_ones_changes_nothing(left):
    assert fitted(left, [1.0] * 99 + [1800.0]).frames == fitted(left, [1.0] * 100).frames


def test_what_the_recipe_says_stays(left):
    recipe = fitted(left.replace(frames=50, batch_size=3, epochs=7, clip_seconds=2.0), [1.0] * 100)
    assert (recipe.frames, recipe.batch_size, recipe.epochs, recipe.clip_seconds) == (50, 3, 7, 2.0)


@pytest.mark.parametrize("features", ["kaldi", "logmel", "trainable_mel", "leaf", "sincnet"])
@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
def test_the_frames_reach_to_the_end_of_the_clip(left, features, sample_rate):
    from specenhance.training.build import build_features

    recipe = fitted(left.replace(features=features, sample_rate=sample_rate), [1.0] * 10)
    assert build_features(recipe).samples >= sample_rate
    assert build_features(recipe.replace(frames=recipe.frames - 16)).samples < sample_rate


def test_a_small_folder_gets_enough_steps_and_is_told_what_was_chosen(tmp_path, news):
    """116 clips of six classes: a batch of 64 without its short last batch ended at chance."""
    rng = np.random.default_rng(0)
    time = np.arange(6400) / 16000
    root = tmp_path / "sounds"
    for number in range(6):
        (root / f"class{number}").mkdir(parents=True)
        for i in range(20 if number < 2 else 19):
            pitch = 200 * 1.5**number * rng.uniform(0.9, 1.1)
            samples = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.05 * rng.standard_normal(len(time))
            soundfile.write(root / f"class{number}" / f"{i}.wav", samples[: rng.integers(5000, 6400)], 16000)
    result = train(
        recipe_for("folder", root=root, backbone="test_resnet", bins=32),
        tmp_path / "run",
        device="cpu",
    )
    stored = load_recipe(tmp_path / "run" / "recipe.toml")
    assert (stored.frames, stored.batch_size) == (48, 8)
    assert 0.38 < stored.clip_seconds <= 0.4
    (told,) = [line for line in news if line.startswith("fitted to")]
    assert "training clips of 0.3" in told
    assert (
        f"95% of them at most {stored.clip_seconds:.2f} s: frames = 48, epochs = {stored.epochs}, batch_size = 8"
        in told
    )
    steps = stored.epochs * steps_per_epoch(78, 8)
    assert any(f"{steps:,} steps in all" in line for line in news), news
    assert result["test_accuracy"] > 0.85
