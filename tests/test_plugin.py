"""A package outside adds a front end, features, a data set, a teacher and an export format by entry points alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """The command line where the example package is installed beside the library."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    shutil.copytree(ROOT / "examples" / "plugin", folder / "source")  # pip builds in the source's folder
    subprocess.run([*pip, "--target", str(folder), str(folder / "source")], check=True, timeout=300)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "specenhance", *map(str, arguments)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
            cwd=folder,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_one_package_adds_one_of_each_kind_and_the_command_line_uses_them(command, tmp_path):
    named = command("list")
    for name in ("gain", "louder", "beeps", "loudness", "npz"):
        assert name in named
    run = tmp_path / "run"
    settings = ["--set", "features=louder", "--set", "feature_args.times=3", "--set", "bins=32"]
    teacher = ["--teacher", "loudness:2"]
    model = ["--data", "beeps", "--frontend", "gain", "--backbone", "test_resnet", "--device", "cpu"]
    said = command("train", *model, *settings, *teacher, "--out", run)
    assert "16 clips train, 8 validate, 8 test; 2 epochs of 2 steps" in said
    config = json.loads((run / "config.json").read_text())
    assert config["frontend"] == {"name": "gain", "in_chans": 1}
    assert (config["features"]["name"], config["features"]["times"]) == ("louder", 3)
    assert config["label_names"] == ["high", "low"]
    assert "gives what PyTorch gives" in command("export", run, "--format", "npz")
    assert (run / "model.npz").is_file()
    assert "gives what PyTorch gives" in command("export", run)  # the library's own formats take its features too
