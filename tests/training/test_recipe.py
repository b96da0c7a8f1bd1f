"""Recipes: each data set's defaults, values from a command line or a TOML file, and what is refused."""

import dataclasses

import pytest

from specenhance.features import NORMALISATION
from specenhance.training import DATA, Recipe, load_recipe, recipe_for, save_recipe


@pytest.mark.parametrize("data", list(DATA))
def test_every_data_set_has_a_recipe_that_survives_a_file(data, tmp_path):
    recipe = recipe_for(data, **({} if data == "synthetic" else {"root": "somewhere"}))
    save_recipe(recipe, tmp_path / "recipe.toml")
    assert load_recipe(tmp_path / "recipe.toml") == recipe


def test_the_published_data_sets_are_normalised_as_published():
    for data, frames in (("esc50", 512), ("speech_commands", 128)):
        recipe = recipe_for(data, root="x")
        assert (recipe.mean, recipe.std) == NORMALISATION[data]
        assert (recipe.frames, recipe.bins, recipe.sample_rate) == (frames, 128, 16000)


def test_a_file_needs_only_what_differs_from_the_data_sets_default(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('data = "esc50"\nroot = "x"\nepochs = 3\nlr = 1\n')
    assert load_recipe(path) == recipe_for("esc50", root="x", epochs=3, lr=1.0)


def test_text_from_a_command_line_becomes_the_fields_type():
    recipe = recipe_for("synthetic", epochs="3", lr="1e-4", pretrained="True", mean="-5", std="2", frontend="tfa")
    assert dataclasses.astuple(recipe) == dataclasses.astuple(
        recipe_for("synthetic", epochs=3, lr=1e-4, pretrained=True, mean=-5.0, std=2.0, frontend="tfa")
    )
    assert isinstance(recipe.mean, float)
    assert recipe.replace(mean=None, std=None).mean is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "esc"}, "data = 'esc': expected one of esc50, speech_commands, folder, synthetic"),
        ({"root": "x"}, "root = 'x': expected a folder for every data set but 'synthetic'"),
        ({"data": "esc50"}, "root = '': expected a folder"),
        ({"data": "esc50", "root": "x", "fold": 6}, "fold = 6: expected 1 to 5"),
        ({"fold": 2}, "fold = 2: expected 1 to 5 with data = 'esc50', else 0"),
        ({"csv": "a.csv"}, "csv = 'a.csv': expected a CSV only with data = 'folder'"),
        ({"epochs": 0}, "epochs = 0: expected a whole number >= 1"),
        ({"epochs": 1.5}, "epochs = 1.5: expected a value of type int"),
        ({"epochs": "ten"}, "epochs = 'ten': expected a value of type int"),
        ({"epochs": True}, "epochs = True: expected a value of type int"),
        ({"lr": 0}, "lr = 0.0: expected a rate > 0"),
        ({"lr": float("nan")}, "lr = nan: expected a rate > 0"),
        ({"pretrained": "yes"}, "pretrained = 'yes': expected a value of type bool"),
        ({"label_smoothing": 1.0}, r"label_smoothing = 1.0: expected a share in \[0, 1\)"),
        ({"noise": -1}, "noise = -1.0: expected a number >= 0"),
        ({"mean": 1.0}, "mean = 1.0: expected mean and std together"),
        ({"mean": 1.0, "std": 0.0}, "std = 0.0: expected a number > 0"),
        ({"select": "first"}, "select = 'first': expected 'best' or 'last'"),
        ({"epoch": 3}, r"unknown field 'epoch': did you mean \['epochs'\]"),
    ],
)
def test_what_a_recipe_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        recipe_for(**{"data": "synthetic"} | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 3", 'expected a line such as data = "esc50"'),
        ("data = ", "Invalid value"),
        ('data = "synthetic"\nepoch = 3', "unknown field 'epoch'"),
        ('data = "synthetic"\n[model]\nbackbone = "x"', "unknown field 'model'"),
    ],
)
def test_a_malformed_file_is_refused_with_its_path(text, message, tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"r\.toml: .*{message}"):
        load_recipe(path)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.toml"):
        load_recipe(tmp_path / "none.toml")


def test_a_recipe_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().epochs = 3
