"""``--import``: what a module of the user's registers is known to every command, and to every process that it starts."""

import os
import subprocess
import sys

import pytest
import soundfile

from specenhance._imports import import_modules
from specenhance.training import load_recipe

MODULE = """
from torch import nn

from specenhance import register_frontend


@register_frontend("gain")
class Gain(nn.Module):
    def __init__(self, in_chans=1, factor=2.0):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_gain.py").write_text(MODULE)
    return folder


def run(folder, *args):
    """The command in a process of its own, whose registries nobody has added to."""
    command = [sys.executable, "-m", "specenhance", *map(str, args)]
    # The package is found where this process finds it, whatever the current folder is.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_a_front_end_of_ones_own_is_trained_by_name_and_used(folder):
    done = run(
        folder, "--import", "my_gain", "train", "--data", "synthetic", "--frontend", "gain", "--backbone", "test_resnet",
        "--set", "frontend_args.factor=3.0", "--epochs", 1, "--device", "cpu", "--out", "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    recipe = load_recipe(folder / "run" / "recipe.toml")
    assert (recipe.frontend, recipe.frontend_args) == ("gain", {"factor": 3.0})
    soundfile.write(folder / "a.wav", [0.0, 0.1] * 8000, 16000)
    done = run(folder, "--import", "my_gain", "predict", "run", "a.wav", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("a.wav: ")
    done = run(folder, "predict", "run", "a.wav", "--device", "cpu")
    assert done.returncode == 1
    assert done.stderr.startswith("error: unknown front end 'gain': known: ")
    assert "specenhance --import MODULE" in done.stderr


def test_every_process_of_a_training_knows_it(folder, tones):
    done = run(
        folder, "--import", "my_gain", "train", "--data", "folder", "--root", tones, "--frontend", "gain", "--backbone",
        "test_resnet", "--set", "frames=24", "--set", "bins=32", "--batch-size", 8, "--epochs", 1, "--device", "cpu",
        "--devices", 2, "--workers", 1, "--out", "ranks",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch   1/1") == 1
    assert (folder / "ranks" / "result.json").is_file()


def test_what_is_registered_is_listed(folder):
    assert "gain" in run(folder, "--import", "my_gain", "list", "frontends").stdout.split()
    assert "gain" not in run(folder, "list", "frontends").stdout.split()


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("nothing", "No module named 'nothing'; expected a module that is installed, or lies in the current folder"),
        ("my_gain.py", "expected the name of a module, such as my_module for my_module.py in the current folder"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(folder, name, cure):
    done = run(folder, "--import", name, "list")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: --import {name}: ")
    assert done.stderr.count("\n") == 1
    assert cure in done.stderr


def test_an_unknown_data_set_names_the_option(folder):
    assert "--import MODULE" in run(folder, "train", "--data", "nothing").stderr


def test_a_module_with_a_fault_of_its_own_keeps_its_traceback(folder, monkeypatch):
    (folder / "faulty.py").write_text("1 / 0")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", sys.path[:])
    with pytest.raises(ZeroDivisionError):
        import_modules(["faulty"])
