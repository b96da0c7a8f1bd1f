"""One new file of the library adds a thing of any kind; a new configuration of a kernel is in one file, its test in another."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FILES = {
    "frontends/half.py": """
from torch import nn
from specenhance.frontends.registry import register_frontend

@register_frontend("half")
class Half(nn.Module):
    def __init__(self, in_chans=1):
        super().__init__()

    def forward(self, spec):
        return spec / 2
""",
    "features/shorter.py": """
from specenhance.features.kaldi import KaldiFbank
from specenhance.features.registry import register_features

@register_features("shorter")
class Shorter(KaldiFbank):
    def __init__(self, frames=None, **arguments):
        super().__init__(frames and frames // 2, **arguments)
""",
    "data/clicks.py": """
from specenhance.data.base import AudioDataset
from specenhance.data.registry import register_data

@register_data("clicks", frames=32, epochs=1, batch_size=4)
class Clicks(AudioDataset):
    def __init__(self, split, sample_rate=16000):
        super().__init__(["once", "twice"], [0, 1] * 4, sample_rate=sample_rate)

    def waveform(self, i):
        import torch
        wave = torch.zeros(8000)
        wave[i + 1 :: 4000 // (1 + self.labels[i])] = 0.5
        return wave
""",
    "distillation/first.py": """
import torch
from specenhance.distillation.registry import register_teacher

@register_teacher("first")
def first(rest, classes):
    return lambda spec: torch.eye(len(classes))[:1].expand(len(spec), -1) * 3
""",
    "deploy/formats/state.py": """
import torch
from specenhance.deploy.formats.registry import register_format

@register_format("state")
class State:
    file = "model.state"
    cure = "choose another format"

    def require(self):
        pass

    def write(self, program, path, about):
        torch.save(program.state_dict, path)
        return program.module

    def finish(self, path):
        pass
""",
    "cli/count.py": """
import typer
from specenhance.data.registry import open_data

def count(data: str) -> None:
    typer.echo(f"{len(open_data(data, 'test'))} test clips")

COMMANDS = {"count": count}
""",
}


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """The command line of a copy of the library with one more file in each room."""
    root = tmp_path_factory.mktemp("library")
    shutil.copytree(ROOT / "specenhance", root / "specenhance", ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in FILES.items():
        assert not (root / "specenhance" / path).exists()
        (root / "specenhance" / path).write_text(text)

    def run(*arguments):
        # -c, and not -m: only so does the copy come before the library that is installed.
        done = subprocess.run(
            [sys.executable, "-c", "from specenhance.cli import main; main()", *map(str, arguments)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(root)},
            cwd=root,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_one_file_adds_one_of_each_kind(command, tmp_path):
    assert command("count", "clicks") == "8 test clips\n"
    run = tmp_path / "run"
    parts = ["--data", "clicks", "--frontend", "half", "--backbone", "test_resnet", "--teacher", "first:any"]
    command("train", *parts, "--set", "features=shorter", "--device", "cpu", "--out", run)
    command("export", run, "--format", "state")
    assert (run / "model.state").is_file()
    listed = command("list")
    for name in ("half", "shorter", "clicks", "first", "state"):
        assert name in listed


def test_a_new_configuration_of_a_kernel_is_compiled_by_the_test_without_a_change_to_the_kernel(monkeypatch):
    """What is changed is ``configs.py``; the list of what is compiled ahead of time, in ``aot.py``, follows it."""
    from specenhance_kernels import aot, configs

    before = aot.configurations(hip=False)
    stages = configs.stages(hip=False)
    monkeypatch.setattr(configs, "stages", lambda hip: (*stages, 4))
    added = {made.name for made in aot.configurations(hip=False)} - {made.name for made in before}
    assert added
    assert all(name.endswith("stage 4") for name in added)
