"""A few augmented views of each clip: repeated exactly, and the teacher's logits of them kept for all runs that meet them."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from specenhance.distillation.teachers import FrozenTeacher
from specenhance.training import save_recipe
from specenhance.training.build import build_split
from specenhance.training.module import Classifier
from specenhance.training.run import resume, train

QUIET = {"device": "cpu"}


@pytest.fixture(scope="module")
def teacher(quick, tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher") / "run"
    train(quick.replace(role="teacher", frontend="identity", epochs=1, select="last"), out, **QUIET)
    return out


@pytest.fixture(scope="module")
def learner(quick, teacher):
    return quick.replace(teacher=teacher, teacher_views=2, epochs=4, mixup=0.5, gain=6.0, mixstyle=0.5)


@pytest.fixture(scope="module")
def live(learner, tmp_path_factory):
    out = tmp_path_factory.mktemp("live") / "run"
    train(learner, out, **QUIET)
    return out


@pytest.fixture
def asked(monkeypatch):
    """Count the batches that a teacher is asked for."""
    counts = []
    forward = FrozenTeacher.forward

    def counted(self, x, keys=None):
        counts.append(len(x))
        return forward(self, x, keys)

    monkeypatch.setattr(FrozenTeacher, "forward", counted)
    return counts


def figures(run):
    return (run / "metrics.csv").read_text()


def test_a_view_is_met_again_to_the_last_bit(learner, monkeypatch, tmp_path):
    seen = []
    augment = Classifier.augment

    def watched(self, spec, real=None):
        found = augment(self, spec, real)
        seen.append(found[0].clone())
        return found

    monkeypatch.setattr(Classifier, "augment", watched)
    train(learner.replace(teacher=""), tmp_path / "run", **QUIET)
    steps = len(seen) // 4
    epochs = [seen[steps * epoch : steps * (epoch + 1)] for epoch in range(4)]
    for first, again in ((0, 2), (1, 3)):
        for one, other in zip(epochs[first], epochs[again], strict=True):
            assert torch.equal(one, other)
    assert not any(torch.equal(one, other) for one, other in zip(epochs[0], epochs[1], strict=True))


def test_without_views_no_epoch_repeats_another(learner, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(
        Classifier, "augment", lambda self, spec, real=None: (seen.append(spec.clone()), (spec, real))[1]
    )
    train(learner.replace(teacher="", teacher_views=0), tmp_path / "run", **QUIET)
    steps = len(seen) // 4
    assert not any(
        torch.equal(one, other) for one, other in zip(seen[:steps], seen[2 * steps : 3 * steps], strict=True)
    )


def test_a_run_with_the_cache_has_the_digits_of_one_without(learner, live, asked, tmp_path):
    cache = str(tmp_path / "cache")
    train(learner, tmp_path / "one", **QUIET, teacher_cache=cache)
    clips = len(build_split(learner, "train"))
    assert sum(asked) == 2 * clips  # two views of each clip, in four epochs
    assert figures(tmp_path / "one") == figures(live)
    # Another student meets the same views, and asks for nothing.
    train(learner.replace(frontend="identity", lr=2e-3), tmp_path / "two", **QUIET, teacher_cache=cache)
    assert sum(asked) == 2 * clips
    # With other views there is another file.
    train(learner.replace(seed=1, epochs=1), tmp_path / "three", **QUIET, teacher_cache=cache)
    assert sum(asked) == 3 * clips
    assert len(list((tmp_path / "cache").glob("*.sqlite"))) == 2


DIE = """
import os, signal, sys
from pathlib import Path
from specenhance.training import load_recipe
from specenhance.training.history import History
from specenhance.training.run import train
end = History.on_train_epoch_end
def die(self, trainer, *args):
    end(self, trainer, *args)
    if trainer.current_epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
History.on_train_epoch_end = die
train(load_recipe(Path(sys.argv[1])), Path(sys.argv[2]), device="cpu", teacher_cache=sys.argv[3])
"""


def test_a_killed_run_with_the_cache_ends_as_if_nothing_had_happened(learner, live, tmp_path):
    save_recipe(learner, tmp_path / "r.toml")
    command = [sys.executable, "-c", DIE, str(tmp_path / "r.toml"), str(tmp_path / "run"), str(tmp_path / "cache")]
    assert subprocess.run(command, capture_output=True, env=os.environ).returncode == -signal.SIGKILL
    resume(tmp_path / "run", **QUIET, teacher_cache=str(tmp_path / "cache"))
    assert figures(tmp_path / "run") == figures(live)


def test_a_teacher_that_hears_is_kept_too(quick, asked, tmp_path):
    """An ONNX model with a head."""
    weight = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    nodes = [
        helper.make_node("Slice", ["x", "start", "end", "axis"], ["part"]),
        helper.make_node("MatMul", ["part", "w"], ["y"]),
    ]
    given = {"start": np.array([0]), "end": np.array([400]), "axis": np.array([1]), "w": weight}
    shapes = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["B", d]) for n, d in (("x", "N"), ("y", 16))]
    constants = [numpy_helper.from_array(value, name) for name, value in given.items()]
    graph = helper.make_graph(nodes, "g", shapes[:1], shapes[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "e.onnx")
    recipe = quick.replace(teacher=f"onnx:{tmp_path / 'e.onnx'}", teacher_views=1, epochs=3, gain=6.0)
    train(recipe, tmp_path / "live", **QUIET)
    asked.clear()
    train(recipe, tmp_path / "kept", **QUIET, teacher_cache=str(tmp_path / "cache"))
    assert sum(asked) == len(build_split(recipe, "train"))
    assert figures(tmp_path / "kept") == figures(tmp_path / "live")


def test_a_changed_teacher_is_refused(learner, teacher, tmp_path):
    cache = tmp_path / "cache"
    train(learner.replace(epochs=1), tmp_path / "one", **QUIET, teacher_cache=str(cache))
    (file,) = cache.glob("*.sqlite")
    with closing(sqlite3.connect(file)) as database, database:
        facts = database.execute("SELECT value FROM about WHERE name = 'facts'").fetchone()[0]
        database.execute("UPDATE about SET value = ? WHERE name = 'facts'", (facts.replace("float32", "float33", 1),))
    with pytest.raises(ValueError, match=r"holds the logits of another teacher"):
        train(learner.replace(epochs=1), tmp_path / "two", **QUIET, teacher_cache=str(cache))


def test_a_cache_without_views_is_refused_before_a_clip_is_read(learner, tmp_path):
    with pytest.raises(ValueError, match=r"no logits are met twice.*--set teacher_views=4"):
        train(learner.replace(teacher_views=0), tmp_path / "run", **QUIET, teacher_cache=str(tmp_path / "cache"))
    assert not (tmp_path / "run").exists()
