"""The commands that look and explain: check, recipe."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from specenhance.cli import app
from specenhance.training import load_recipe, recipe_for


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def own(tones, tmp_path):
    shutil.copytree(tones, tmp_path / "tones")
    return tmp_path / "tones"


def test_check_says_what_there_is(own):
    result = run("check", "--data", "folder", "--root", own)
    assert result.exit_code == 0, result.output
    assert "train: 24 sounds of 3 classes, 0.25 to 0.25 s, 0.1 min in all" in result.stdout
    assert "nothing is wrong with them" in result.stdout


def test_check_finds_what_only_decoding_shows_and_copies_too(own):
    hurt = own / "train" / "low" / "0.wav"
    hurt.write_bytes(hurt.read_bytes()[:-1000])
    shutil.copy(own / "train" / "high" / "1.wav", own / "test" / "high" / "copy.wav")
    (own / "stray.wav").touch()
    result = run("check", "--data", "folder", "--root", own)
    assert result.exit_code == 1
    assert "1 files cannot be used:" in result.stdout
    assert "0.wav: ends after" in result.stdout
    assert "1 sounds train and also validate or test:" in result.stdout
    assert "1 files and folders are ignored:" in result.stdout
    assert run("check", "--data", "folder", "--root", own, "--allow-truncated").stdout.count("cannot be used") == 0


def test_check_reads_all_five_folds(shared, five_folds):
    result = run("check", "--data", "esc50", "--root", shared / "esc50_fold4")
    assert result.exit_code == 0, result.output
    result = run("check", "--data", "esc50", "--root", five_folds)  # every fold has the same two sounds
    assert "2 sounds train and also validate or test:" in result.stdout


@pytest.mark.parametrize("data", ["esc50", "speech_commands", "folder", "synthetic"])
def test_a_recipe_is_explained_field_by_field_and_is_a_file_that_trains(data, tmp_path):
    result = run("recipe", "--data", data)
    assert result.exit_code == 0, result.output
    (tmp_path / "r.toml").write_text(result.stdout)
    expected = recipe_for(data, **({} if data == "synthetic" else {"root": tmp_path}))
    assert load_recipe(tmp_path / "r.toml") == expected
    for line in result.stdout.splitlines():
        assert "  # " in line, line


LIGHT = """
import sys
from specenhance.cli import main
try:
    main()
except SystemExit as end:
    print(end.code, "torch" in sys.modules)
"""


def test_what_is_not_there_is_told_before_anything_heavy_is_loaded(tmp_path):
    for args in (
        ["train", "--data", "folder", "--root", tmp_path / "none"],
        ["train", "--data", "nothing"],
        ["train", "--recipe", tmp_path / "nix.toml"],
        ["evaluate", tmp_path],
        ["train", "--resume", tmp_path],
    ):
        done = subprocess.run([sys.executable, "-c", LIGHT, *map(str, args)], capture_output=True, text=True)
        assert done.stdout.split() == ["1", "False"], (args, done.stdout, done.stderr)
        assert done.stderr.startswith("error: ")


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "specenhance", "--version"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.strip()[0].isdigit()


def test_the_page_of_fields_is_what_the_command_prints():
    page = (Path(__file__).parents[2] / "docs" / "recipe.md").read_text()
    for data in ("folder", "esc50", "speech_commands"):
        assert f"```toml\n{run('recipe', '--data', data).stdout}```" in page, f"specenhance recipe --data {data}"
