"""Runs with the other losses, with several teachers, with values that change, and with students that teach."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from transformers import ASTConfig, ASTForAudioClassification

from specenhance.distillation.ensemble import mean_logits
from specenhance.training import load_recipe, load_stored, save_recipe
from specenhance.training.build import build_split
from specenhance.training.run import resume, train
from specenhance.training.teach import LESSONS, load_teacher, load_teaching, prepare_teacher

QUIET = {"device": "cpu"}
CLASSES = ["high", "low", "middle"]


@pytest.fixture(scope="module")
def table(quick, tmp_path_factory):
    """Values that tell the class of each clip apart, with some noise."""
    draw = np.random.default_rng(0)
    data = build_split(quick, "train")
    names = [path.relative_to(quick.root).as_posix() for path in data.paths]
    values = [np.eye(4)[label] + 0.1 * draw.normal(size=4) for label in data.labels]
    path = tmp_path_factory.mktemp("values") / "values.npz"
    np.savez(path, names=names, values=np.array(values, dtype=np.float32))
    return path


@pytest.fixture(scope="module")
def student(quick, tmp_path_factory):
    """A run of a student. It has a front end."""
    out = tmp_path_factory.mktemp("student") / "run"
    train(quick.replace(epochs=1, select="last"), out, **QUIET)
    return out


@pytest.fixture(scope="module")
def both(quick, student, table):
    """A recipe with a teacher that is asked at each step, and one whose logits are known."""
    return quick.replace(teacher=f"{student} + embedding:{table}", mean=-4.0, std=2.0)


def metrics(run: Path) -> str:
    return (run / "metrics.csv").read_text()


DIE = """
import os, signal, sys
from specenhance.training import load_recipe
from specenhance.training.history import History
from specenhance.training.run import train
from pathlib import Path
end = History.on_train_epoch_end
def die(self, *args):
    end(self, *args)
    os.kill(os.getpid(), signal.SIGKILL)
History.on_train_epoch_end = die
train(load_recipe(Path(sys.argv[1])), Path(sys.argv[2]), device="cpu")
"""


def killed_and_resumed(recipe, folder: Path) -> None:
    """Train a recipe whole and with a kill after its first epoch, and compare all figures and weights."""
    train(recipe, folder / "whole", **QUIET)
    save_recipe(recipe, folder / "r.toml")
    command = [sys.executable, "-c", DIE, str(folder / "r.toml"), str(folder / "killed")]
    assert subprocess.run(command, capture_output=True, env=os.environ).returncode == -signal.SIGKILL
    assert not (folder / "killed" / "result.json").exists()
    resume(folder / "killed", **QUIET)
    assert metrics(folder / "killed") == metrics(folder / "whole")
    ours, theirs = (safetensors.torch.load_file(folder / name / "model.safetensors") for name in ("killed", "whole"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_killed_run_that_matches_features_ends_as_if_nothing_had_happened(quick, table, tmp_path):
    """Its projector goes on from the checkpoint, and is not in the model."""
    recipe = quick.replace(teacher=f"embedding:{table}", kd_loss="feature_mse", kd_weight_end=0.9, mixup=0.5, epochs=2)
    killed_and_resumed(recipe, tmp_path)
    lessons = safetensors.torch.load_file(tmp_path / "whole" / LESSONS)
    assert set(lessons) == {"logits"}  # the values themselves, without a head
    assert lessons["logits"].shape[1] == 4
    state = torch.load(tmp_path / "whole" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert state["criterion.projector.weight"].shape[0] == 4
    stored = safetensors.torch.load_file(tmp_path / "whole" / "model.safetensors")
    assert not any("projector" in name for name in stored)
    load_stored(tmp_path / "whole")


def test_a_killed_run_of_two_kinds_of_teachers_ends_as_if_nothing_had_happened(both, tmp_path):
    killed_and_resumed(both.replace(kd_temperature_end=1.0, teacher_weights="2,1", mixup=0.5, epochs=2), tmp_path)


def test_teachers_of_two_kinds_keep_what_is_known_and_ask_the_other(both, student, tmp_path):
    data = build_split(both, "train")
    recipe = both.replace(teacher_weights=(3, 1))
    prepare_teacher(recipe, tmp_path, data)
    found = safetensors.torch.load_file(tmp_path / LESSONS)
    assert set(found) == {"1.logits", "1.head.mean", "1.head.std", "1.head.weight", "1.head.bias"}
    teaching = load_teaching(recipe, tmp_path, CLASSES)
    assert torch.equal(teaching.logits, found["1.logits"])
    assert [(live.hears, live.weight) for live in teaching.live] == [("spectrogram", 3)]
    assert teaching.weight == 1
    spec = torch.randn(2, 1, 24, 32)
    alone = load_teacher(recipe.replace(teacher=student, teacher_weights=None), CLASSES)
    assert torch.equal(teaching.live[0].teacher(spec), alone(spec))


@pytest.mark.parametrize("mean", ["logits", "probabilities"])
def test_teachers_of_clean_clips_are_averaged_once(both, mean, tmp_path):
    recipe = both.replace(teacher_input="clean", teacher_mean=mean, teacher_weights=(1, 4))
    prepare_teacher(recipe, tmp_path, build_split(both, "train"))
    found = safetensors.torch.load_file(tmp_path / LESSONS)
    teaching = load_teaching(recipe, tmp_path, CLASSES)
    assert not teaching.live
    assert torch.equal(teaching.logits, mean_logits([found["0.logits"], found["1.logits"]], [1, 4], mean))


def test_each_of_several_teachers_is_checked_before_a_folder_is_made(both, tmp_path):
    with pytest.raises(FileNotFoundError, match="none: no training run"):
        train(both.replace(teacher=both.teacher + f" + {tmp_path / 'none'}"), tmp_path / "run", **QUIET)
    np.savez(tmp_path / "few.npz", names=["nothing.wav"], values=np.ones((1, 2)))
    with pytest.raises(ValueError, match="has no values of"):
        train(both.replace(teacher=both.teacher + f" + embedding:{tmp_path / 'few.npz'}"), tmp_path / "run", **QUIET)
    assert not (tmp_path / "run").exists()


def test_paths_of_several_teachers_are_relative_to_the_recipe(tmp_path, monkeypatch):
    (tmp_path / "deep" / "a").mkdir(parents=True)
    (tmp_path / "deep" / "b.npz").touch()
    text = 'data = "synthetic"\nteacher = "a + embedding:b.npz + ast:hub/name"\nteacher_weights = [1, 2.5, 3]\n'
    (tmp_path / "deep" / "r.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("deep/r.toml")
    assert recipe.teachers == [f"{tmp_path}/deep/a", f"embedding:{tmp_path}/deep/b.npz", "ast:hub/name"]
    save_recipe(recipe, "r.toml")
    assert load_recipe("r.toml") == recipe


def test_features_of_a_run_of_other_classes_teach(quick, student):
    recipe = quick.replace(teacher=student, kd_loss="feature_cosine", mean=-4.0, std=2.0)
    assert load_teacher(recipe, ["a", "b"])(torch.randn(2, 1, 24, 32)).shape == (2, 96)
    with pytest.raises(ValueError, match="knows 3 classes"):
        load_teacher(recipe.replace(kd_loss="paper"), ["a", "b"])


def test_a_teacher_that_only_teaches_later_is_loaded(quick, student):
    recipe = quick.replace(teacher=student, kd_weight=1.0, mean=-4.0, std=2.0)
    assert load_teacher(recipe, CLASSES) is None
    assert load_teacher(recipe.replace(kd_weight_end=1.0), CLASSES) is None
    assert load_teacher(recipe.replace(kd_weight_end=0.5), CLASSES) is not None


def test_a_student_teaches_the_next_student_which_teaches_a_transformer(quick, student, tmp_path):
    """Iterated teaching, and a CNN as the teacher of an AST that starts from nothing, as in CMKD."""
    train(quick.replace(teacher=student, kd_loss="hinton", epochs=1), tmp_path / "next", **QUIET)
    second = load_stored(tmp_path / "next")
    assert second.recipe.teacher == str(student)
    config = ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_length=24, num_mel_bins=32,
        id2label=dict(enumerate(CLASSES)), label2id={name: i for i, name in enumerate(CLASSES)},
    )  # fmt: skip
    ASTForAudioClassification(config).save_pretrained(tmp_path / "ast")
    transformer = quick.replace(backbone=f"ast:{tmp_path / 'ast'}", pretrained=False, epochs=1, select="last")
    taught = transformer.replace(teacher=tmp_path / "next")
    for name, recipe in (
        ("alone", transformer),
        ("logits", taught),
        ("features", taught.replace(kd_loss="feature_cosine")),
    ):
        train(recipe, tmp_path / name, **QUIET)
    assert len({metrics(tmp_path / name) for name in ("alone", "logits", "features")}) == 3
    learned = load_stored(tmp_path / "logits")
    assert type(learned.model.backbone).__name__ == "AST"
    result = json.loads((tmp_path / "logits" / "result.json").read_text())
    assert result["recipe"]["teacher"] == str(tmp_path / "next")
    # The transformer may teach a CNN in turn.
    found = load_teacher(quick.replace(teacher=tmp_path / "logits", mean=-4.0, std=2.0), CLASSES)
    assert found(torch.randn(2, 1, 24, 32)).shape == (2, 3)
