"""What README and docs show runs: every snippet of Python, and the commands on sound that the test makes."""

import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from typer.testing import CliRunner

from specenhance import with_frontend
from specenhance.cli import app
from specenhance.frontends.registry import FRONTENDS

ROOT = Path(__file__).parents[1]
PAGES = [path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]

# What a test has not: the hub's weights, published data sets, hours.
LEFT_OUT = ("arabic_speech_commands", "reproduce", "--root DIR", "--format aoti")


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
def test_every_python_snippet_runs(page, exported, tones, tmp_path, monkeypatch):
    shutil.copy(exported, tmp_path / "model.onnx")
    shutil.copy(tones / "test" / "low" / "0.wav", tmp_path / "a.wav")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(FRONTENDS, "_entries", dict(FRONTENDS._entries))
    names = needed(monkeypatch)
    for code in snippets(page, "python"):
        exec(compile(code, page, "exec"), names)  # in one namespace, as a reader goes on


@pytest.mark.parametrize("page", ["README.md", "docs/compare.md", "docs/export.md"])
def test_every_command_runs(page, tones, tmp_path, monkeypatch):
    shutil.copytree(tones, tmp_path / "my_sounds")
    for name in ("a.wav", "b.wav", "long.wav"):
        shutil.copy(tones / "test" / "low" / "0.wav", tmp_path / name)
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
        if words[0] == "compare":
            words += [*quick, "--backbones", "test_resnet", "--out", f"compared {found.index(line)}"]
        if "--int8" in words:
            words.append("--force")  # of a model that has learned nothing
        if words[-1].startswith("model.onnx") or "model.onnx" in words:
            words = [
                word.replace("model.onnx", "RUN/model.onnx") if not word.startswith("RUN") else word for word in words
            ]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{line}: {result.output}"
