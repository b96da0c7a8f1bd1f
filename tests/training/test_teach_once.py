"""Teachers whose logits are known before the first step: embeddings with a head, and any teacher of clean clips."""

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

from specenhance.data.base import collate
from specenhance.training import load_stored, save_recipe
from specenhance.training.batches import mix
from specenhance.training.build import build_split
from specenhance.training.run import resume, train
from specenhance.training.teach import LESSONS, load_teaching, prepare_teacher

QUIET = {"device": "cpu"}
CALM = {"time_mask": 0, "freq_mask": 0, "shift": 0, "noise": 0.0, "mixup": 0.0, "label_smoothing": 0.0}


@pytest.fixture(scope="module")
def table(quick, tmp_path_factory):
    """Values that tell the class of each clip apart, with some noise."""
    draw = np.random.default_rng(0)
    names, values = [], []
    for split in ("train", "validation", "test"):
        data = build_split(quick, split)
        names += [path.relative_to(quick.root).as_posix() for path in data.paths]
        values += [np.eye(4)[label] + 0.1 * draw.normal(size=4) for label in data.labels]
    names, values = zip(*dict(zip(names, values, strict=True)).items(), strict=True)
    path = tmp_path_factory.mktemp("values") / "values.npz"
    np.savez(path, names=names, values=np.array(values, dtype=np.float32))
    return path


@pytest.fixture(scope="module")
def learner(quick, table):
    return quick.replace(teacher=f"embedding:{table}", mixup=0.5, epochs=2)


@pytest.fixture(scope="module")
def taught(learner, tmp_path_factory):
    out = tmp_path_factory.mktemp("student") / "run"
    train(learner, out, **QUIET)
    return out


def test_an_embedding_teaches_by_a_head_that_is_fitted_on_the_training_clips(learner, taught):
    logits = safetensors.torch.load_file(taught / LESSONS)["logits"]
    data = build_split(learner, "train")
    assert logits.shape == (len(data), len(data.classes))
    assert (logits.argmax(1) == torch.tensor(data.labels)).all()


def test_the_teacher_changes_what_is_learned(learner, taught, tmp_path):
    train(learner.replace(teacher=""), tmp_path / "alone", **QUIET)
    alone = json.loads((tmp_path / "alone" / "result.json").read_text())
    assert alone["recipe"]["teacher"] == ""
    assert (tmp_path / "alone" / "metrics.csv").read_text() != (taught / "metrics.csv").read_text()


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


def test_a_killed_run_ends_as_if_nothing_had_happened(learner, taught, tmp_path):
    save_recipe(learner, tmp_path / "r.toml")
    command = [sys.executable, "-c", DIE, str(tmp_path / "r.toml"), str(tmp_path / "run")]
    assert subprocess.run(command, capture_output=True, env=os.environ).returncode == -signal.SIGKILL
    resume(tmp_path / "run", **QUIET)
    assert (tmp_path / "run" / "metrics.csv").read_text() == (taught / "metrics.csv").read_text()


def test_features_in_the_worker_get_the_same_lessons(learner, taught, tmp_path):
    calm = learner.replace(**CALM)
    train(calm, tmp_path / "device", **QUIET)
    train(calm, tmp_path / "worker", device="cpu", workers=1, features_on="worker")
    losses = [
        [float(line.split(",")[1]) for line in (tmp_path / name / "metrics.csv").read_text().splitlines()[1:]]
        for name in ("device", "worker")
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.fixture(scope="module")
def teacher(quick, tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher") / "run"
    train(quick.replace(role="teacher", frontend="identity", epochs=1, select="last"), out, **QUIET)
    return out


def test_a_clean_teacher_is_asked_once_and_says_what_the_live_one_says(quick, teacher, tmp_path):
    """Without augmentation each step's input is the clean clip, so both runs are the same up to rounding."""
    calm = quick.replace(teacher=teacher, epochs=2, **CALM)
    train(calm, tmp_path / "live", **QUIET)
    train(calm.replace(teacher_input="clean"), tmp_path / "once", **QUIET)
    assert not (tmp_path / "live" / LESSONS).exists()
    data = build_split(calm, "train")
    model = load_stored(teacher).model.eval()
    with torch.no_grad():
        expected = torch.cat([model(data.waveform(i)[None]) for i in range(len(data))])
    assert torch.allclose(safetensors.torch.load_file(tmp_path / "once" / LESSONS)["logits"], expected, atol=1e-4)
    losses = [
        [float(line.split(",")[1]) for line in (tmp_path / name / "metrics.csv").read_text().splitlines()[1:]]
        for name in ("live", "once")
    ]
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_known_logits_are_mixed_as_the_labels_are(quick):
    recipe = quick.replace(mixup=1.0)
    batch = collate([(torch.randn(800), label) for label in (0, 1, 2, 0)])
    certain = torch.eye(3)[batch.label].log()  # a teacher that is as sure as the labels
    torch.manual_seed(0)
    _, target, taught = mix(batch._replace(taught=certain), recipe, 3)
    assert torch.allclose(taught.softmax(1), target, atol=1e-6)
    torch.manual_seed(0)
    assert torch.equal(mix(batch, recipe, 3).target, target)  # the same draws with a teacher and without


def test_a_damaged_file_of_lessons_says_how_it_is_made_again(learner, taught, tmp_path):
    (tmp_path / LESSONS).write_bytes((taught / LESSONS).read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"teacher\.safetensors.*remove it"):
        load_teaching(learner, tmp_path, ["high", "low", "middle"])


def test_clips_without_values_are_told_before_the_first_step(quick, tmp_path):
    np.savez(tmp_path / "few.npz", names=["nothing.wav"], values=np.ones((1, 2)))
    recipe = quick.replace(teacher=f"embedding:{tmp_path / 'few.npz'}")
    with pytest.raises(ValueError, match="has no values of"):
        train(recipe, tmp_path / "run", **QUIET)
    assert not Path(tmp_path / "run").exists()


def test_lessons_are_made_once(learner, taught, tmp_path):
    data = build_split(learner, "train")
    prepare_teacher(learner, tmp_path, data)
    before = (tmp_path / LESSONS).stat().st_mtime_ns
    prepare_teacher(learner, tmp_path, data)
    assert (tmp_path / LESSONS).stat().st_mtime_ns == before
    assert (tmp_path / LESSONS).read_bytes() == (taught / LESSONS).read_bytes()


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """An ONNX embedding from waveforms: the absolute values of random sums of samples."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(0)
    weight = draw.normal(size=(400, 24)).astype(np.float32)
    nodes = [
        helper.make_node("Slice", ["x", "start", "end", "axis"], ["part"]),
        helper.make_node("MatMul", ["part", "w"], ["z"]),
        helper.make_node("Abs", ["z"], ["y"]),
    ]
    given = {"start": np.array([0]), "end": np.array([400]), "axis": np.array([1]), "w": weight}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", "N"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 24])],
        [numpy_helper.from_array(value, name) for name, value in given.items()],
    )
    path = tmp_path_factory.mktemp("onnx") / "embedding.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_an_onnx_embedding_teaches_live_by_the_command_line_and_a_killed_run_resumes(quick, heard, tmp_path):
    recipe = quick.replace(teacher=f"onnx:{heard}", epochs=2, gain=6.0)
    save_recipe(recipe, tmp_path / "r.toml")
    command = [sys.executable, "-m", "specenhance", "train", "--recipe", str(tmp_path / "r.toml"), "--device", "cpu"]
    done = subprocess.run([*command, "--out", str(tmp_path / "run")], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "a head on 24 values was fitted" in done.stdout + done.stderr
    stored = safetensors.torch.load_file(tmp_path / "run" / LESSONS)
    assert "logits" not in stored
    assert stored["head.weight"].shape == (3, 24)
    kill = [sys.executable, "-c", DIE, str(tmp_path / "r.toml"), str(tmp_path / "killed")]
    assert subprocess.run(kill, capture_output=True, env=os.environ).returncode == -signal.SIGKILL
    resume(tmp_path / "killed", **QUIET)
    assert (tmp_path / "killed" / "metrics.csv").read_text() == (tmp_path / "run" / "metrics.csv").read_text()


def test_a_live_teacher_of_waveforms_needs_them(quick, heard, tmp_path):
    recipe = quick.replace(teacher=f"onnx:{heard}")
    with pytest.raises(ValueError, match=r"gets waveforms at each step.*--set teacher_input=clean"):
        train(recipe, tmp_path / "run", device="cpu", workers=1, features_on="worker")
    train(
        recipe.replace(teacher_input="clean", epochs=1), tmp_path / "run", device="cpu", workers=1, features_on="worker"
    )
