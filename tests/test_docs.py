"""What README and docs show runs: every snippet of Python, and the commands on sound that the test makes."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import timm
import torch
from torch.distributed.run import get_args_parser
from typer.main import get_command
from typer.testing import CliRunner

from specenhance import with_frontend
from specenhance.cli import app
from specenhance.conditions.registry import CONDITIONS
from specenhance.data.registry import DATA
from specenhance.frontends.registry import FRONTENDS

ROOT = Path(__file__).parents[1]
PAGES = [path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]

# What a test has not: the hub's weights, published data sets, hours.
LEFT_OUT = (
    "arabic_speech_commands",
    "reproduce",
    "--root DIR",
    "--format aoti",
    "--format tflite",
    "--format pte",
    "example.org",
    "specenhance serve",
)


def snippets(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


def commands(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = re.findall(r"^(?:    |\$ )(specenhance .*?)(?:  +#.*)?$", text, re.M)
    return [line for line in lines if not any(part in line for part in LEFT_OUT)]


def needed(monkeypatch):
    """What the snippets of the guides speak of without making it."""
    student = with_frontend(timm.create_model("test_resnet", in_chans=1, num_classes=3), "tfe1")
    teacher = timm.create_model("test_resnet", in_chans=1, num_classes=3)
    spec, labels = torch.randn(2, 1, 48, 32), torch.tensor([0, 2])
    hub = pytest.importorskip("transformers").AutoModelForAudioClassification
    network = SimpleNamespace(logits=None)

    class Network(torch.nn.Module):
        def forward(self, x):
            network.logits = teacher(x[:, None])
            return network

    monkeypatch.setattr(hub, "from_pretrained", lambda name: Network())
    optimizer = torch.optim.Adam(student.parameters())
    clips = [(torch.randn(8000), i % 2) for i in range(8)]
    models = {"student": student, "teacher": teacher, "optimizer": optimizer}
    return models | {"clips": clips, "spec": spec, "labels": labels, "loader": [(spec, labels)]}


@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page, "python")])
def test_every_python_snippet_runs(page, untrained, exported, tones, tmp_path, monkeypatch):
    shutil.copytree(untrained, tmp_path / "first")
    shutil.copy(exported, tmp_path / "model.onnx")
    shutil.copy(tones / "test" / "low" / "0.wav", tmp_path / "a.wav")
    monkeypatch.chdir(tmp_path)
    for registry in (FRONTENDS, DATA, CONDITIONS):
        registry.names()  # loads the library's own
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    names = needed(monkeypatch) | {"tmp_path": tmp_path}
    for code in snippets(page, "python"):
        exec(compile(code, page, "exec"), names)  # in one namespace, as a reader goes on


def train_options(words):
    """What ``specenhance train`` reads from the words of a command."""
    assert words[:2] == ["specenhance", "train"]
    return get_command(app).commands["train"].make_context("train", words[2:]).params


def test_torchrun_and_the_command_are_told_of_the_same_machines():
    text = "".join(snippets("docs/machines.md", "console"))
    lines = re.findall(r"^machine(\d)\$ torchrun (.*)$", text, re.M)
    assert len(lines) == 2
    for number, line in lines:
        torchrun = get_args_parser().parse_args(shlex.split(line))
        assert (torchrun.node_rank, torchrun.module) == (int(number), True)
        train = train_options([torchrun.training_script, *torchrun.training_script_args])
        assert (train["nodes"], train["devices"]) == (int(torchrun.nnodes), int(torchrun.nproc_per_node))


def test_the_file_for_slurm_starts_a_run_and_goes_on_with_it(tmp_path):
    (script,) = snippets("docs/machines.md", "bash")
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", script, re.M))
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    script = script.replace("/shared/", f"{tmp_path}/")
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}

    def started():
        done = subprocess.run(["bash", "-euc", script], env=environment, capture_output=True, text=True, check=True)
        option, *words = done.stdout.splitlines()
        assert option == "--kill-on-bad-exit=1"
        options = train_options(words)
        assert (options["nodes"], options["devices"]) == (int(asked["nodes"]), int(asked["ntasks-per-node"]))
        assert asked["gres"] == f"gpu:{options['devices']}"
        return options["out"], options["resume"]

    run = tmp_path / "run"
    assert started() == (run, None)
    run.mkdir()
    (run / "recipe.toml").touch()
    assert started() == (None, run)


def make_tables(tones, folder):
    """Write labels.csv for clips of several labels, and a recording of all clips with its annotations, field.csv."""
    clips = sorted((tones).glob("*/*/*.wav"))
    rows = [(clip.relative_to(tones).as_posix(), clip.parent.name, clip.parent.parent.name) for clip in clips]
    lines = [
        f"{path},{label};rain,{split}" if i % 3 else f"{path},{label},{split}"
        for i, (path, label, split) in enumerate(rows)
    ]
    (folder / "labels.csv").write_text("\n".join(["path,label,split", *lines]) + "\n")
    (folder / "field").mkdir()
    shuffled = [clips[i] for i in np.random.default_rng(0).permutation(len(clips))]
    sound = np.concatenate([soundfile.read(clip)[0] for clip in shuffled])
    soundfile.write(folder / "field" / "day.wav", sound, 16000)
    lines = [f"day.wav,{i / 4},{(i + 1) / 4},{clip.parent.name}" for i, clip in enumerate(shuffled)]
    (folder / "field.csv").write_text("\n".join(["file,start,end,label", *lines]) + "\n")


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        *(f"docs/{n}.md" for n in ("compare", "distillation", "export", "labels", "recordings", "shards", "training")),
        *(f"docs/{n}.md" for n in ("first_model", "frontends", "own_data")),
    ],
)
def test_every_command_runs(page, tones, tmp_path, monkeypatch):
    shutil.copytree(tones, tmp_path / "my_sounds")
    for name in ("a.wav", "b.wav", "long.wav"):
        shutil.copy(tones / "test" / "low" / "0.wav", tmp_path / name)
    make_tables(tones, tmp_path)
    monkeypatch.chdir(tmp_path)
    quick = ["--epochs", "1", "--set", "frames=24", "--set", "bins=32", "--set", "batch_size=8", "--device", "cpu"]
    if page != "README.md":
        trained = "train --data folder --root my_sounds --backbone mobilenetv3_small_050 --out RUN"
        assert CliRunner().invoke(app, [*trained.split(), *quick]).exit_code == 0
    found = commands(page)
    assert found
    for line in found:
        words = shlex.split(line)[1:]
        if words[0] == "train":
            if "--resume" not in words:
                words += (
                    quick if "--out" in words else [*quick, "--out", "RUN" if not Path("RUN").exists() else "taught"]
                )
                words = [{"mobilenetv3_large_100": "mobilenetv3_small_050"}.get(word, word) for word in words]
            words = ["2" if word == "200" else word for word in words]
            if "synthetic" in words:
                words += ["--set", "data_args.clips_per_class=8"]
            if page in ("docs/distillation.md", "docs/labels.md", "docs/training.md"):
                words += ["--backbone", "test_resnet"]
        if words[0] == "tune":
            words += ["--set", "backbone=test_resnet", "--set", "bins=32", "--device", "cpu"]
        if words[0] == "compare":
            words += [*quick, "--backbones", "test_resnet", "--out", f"compared {found.index(line)}"]
        if "--int8" in words:
            words.append("--force")  # of a model that has learned nothing
        if words[-1].startswith("model.onnx") or "model.onnx" in words:
            words = ["RUN/model.onnx" if word == "model.onnx" else word for word in words]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{line}: {result.output}"
