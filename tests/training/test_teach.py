"""Teachers of recipes: trained, stored, found again, refused where they do not fit; and students that learn from them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from transformers import ASTConfig, ASTForAudioClassification

from specenhance import ast_teacher, timm_teacher
from specenhance.data import ESC50
from specenhance.training import load_stored, recipe_for, save_recipe
from specenhance.training.run import resume, train
from specenhance.training.teach import load_teacher

QUIET = {"device": "cpu"}
CLASSES = ["high", "low", "middle"]


@pytest.fixture(scope="module")
def small_ast(tmp_path_factory):
    """A folder of an AST for 24 x 32 spectrograms and three classes, in an order of its own."""
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_length=24, num_mel_bins=32,
        id2label={0: "middle", 1: "high", 2: "low"}, label2id={"middle": 0, "high": 1, "low": 2},
    )  # fmt: skip
    path = tmp_path_factory.mktemp("ast")
    ASTForAudioClassification(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def teacher_recipe(quick):
    return quick.replace(role="teacher", frontend="identity", epochs=1, select="last")


@pytest.fixture(scope="module")
def teacher(teacher_recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher") / "run"
    train(teacher_recipe, out, **QUIET)
    return out


@pytest.fixture(scope="module")
def learner(quick, teacher):
    """A student's recipe."""
    return quick.replace(teacher=teacher, mixup=0.5, epochs=2)


@pytest.fixture(scope="module")
def taught(learner, tmp_path_factory):
    """A student's run that nothing interrupted."""
    out = tmp_path_factory.mktemp("student") / "run"
    train(learner, out, **QUIET)
    return out


def weights(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / "model.safetensors")


def test_a_teacher_is_stored_as_its_own_library_stores_it(teacher):
    stored = load_stored(teacher)
    again = timm_teacher("local-dir:" + str(teacher / "pretrained"), 3).eval()
    spec = torch.randn(2, 1, 24, 32)
    assert torch.equal(again(spec), stored.model.classify(spec))
    config = json.loads((teacher / "pretrained" / "config.json").read_text())
    assert config["label_names"] == CLASSES


def test_an_ast_is_fine_tuned_stored_and_taken_up_by_the_next_run(small_ast, teacher_recipe, tmp_path):
    recipe = teacher_recipe.replace(backbone=f"ast:{small_ast}", pretrained=True)
    train(recipe, tmp_path / "run", **QUIET)
    stored = load_stored(tmp_path / "run")
    spec = torch.randn(2, 1, 24, 32)
    fresh = ast_teacher(small_ast, 3, frames=24, bins=32).eval()
    again = ast_teacher(tmp_path / "run" / "pretrained", 3, frames=24, bins=32).eval()
    assert torch.equal(again(spec), stored.model.classify(spec))
    assert not torch.allclose(again(spec), fresh(spec))  # it was trained,
    positions = "audio_spectrogram_transformer.embeddings.position_embeddings"
    before, after = fresh.model.state_dict()[positions], again.model.state_dict()[positions]
    assert 0 < (before - after).abs().max() < 0.1  # from the weights that were given
    assert list(again.model.config.id2label.values()) == CLASSES
    train(recipe.replace(backbone=f"ast:{tmp_path / 'run' / 'pretrained'}"), tmp_path / "next", **QUIET)
    assert (tmp_path / "next" / "pretrained" / "model.safetensors").is_file()


def test_a_run_teaches_what_it_has_learned(learner, teacher):
    stored = load_stored(teacher)
    found = load_teacher(learner.replace(mean=stored.recipe.mean, std=stored.recipe.std), CLASSES)
    assert found.transform is None
    spec = torch.randn(2, 1, 24, 32)
    assert torch.equal(found(spec), stored.model.classify(spec))


def test_a_teacher_of_another_normalisation_and_length_meets_its_own_kind(learner, teacher):
    stored = load_stored(teacher)
    recipe = learner.replace(frames=30, mean=-2.0, std=3.0)
    found = load_teacher(recipe, CLASSES)
    values = torch.randn(2, 1, 30, 32)  # before any normalisation
    theirs = (values[:, :, :24] - stored.recipe.mean) / (2 * stored.recipe.std)
    assert torch.allclose(found((values + 2) / 6), stored.model.classify(theirs), atol=1e-5)
    shorter = load_teacher(recipe.replace(frames=20), CLASSES)
    theirs = torch.nn.functional.pad(values[:, :, :20], (0, 0, 0, 4)).sub(stored.recipe.mean) / (2 * stored.recipe.std)
    assert torch.allclose(shorter((values[:, :, :20] + 2) / 6), stored.model.classify(theirs), atol=1e-5)


def test_a_run_whose_spectrograms_are_interpolated_is_stored_and_teaches(learner, teacher_recipe, tmp_path):
    recipe = teacher_recipe.replace(backbone="test_vit", frames=25, fit="resize")
    train(recipe, tmp_path / "run", **QUIET)
    stored = load_stored(tmp_path / "run")
    assert stored.model.fit == "resize"
    measured = {name: getattr(stored.recipe, name) for name in ("mean", "std")}
    found = load_teacher(learner.replace(teacher=tmp_path / "run", frames=25, **measured), CLASSES)
    spec = torch.randn(2, 1, 25, 32)
    assert torch.equal(found(spec), stored.model.classify(spec))


def test_an_ast_from_elsewhere_teaches_by_the_names_of_its_classes(quick, small_ast):
    recipe = quick.replace(teacher=f"ast:{small_ast}", mean=0.0, std=1.0)
    found = load_teacher(recipe, CLASSES)
    spec = torch.randn(2, 1, 24, 32)
    theirs = ASTForAudioClassification.from_pretrained(small_ast).eval()(spec[:, 0]).logits
    assert torch.equal(found(spec), theirs[:, [1, 2, 0]])
    with pytest.raises(ValueError, match=r"has not learned these classes .*--role teacher"):
        load_teacher(recipe, ["high", "low", "other"])


def test_no_teacher_is_loaded_where_none_is_asked(quick):
    assert load_teacher(quick, CLASSES) is None
    assert load_teacher(quick.replace(teacher="nowhere", kd_weight=1.0), CLASSES) is None


def test_a_teacher_that_does_not_fit_is_refused_before_a_folder_is_made(learner, teacher, tmp_path):
    for changes, message in (
        ({"teacher": str(tmp_path / "none")}, r"none: no training run"),
        ({"bins": 16}, "was trained with bins = 32, the student has 16"),
        ({"sample_rate": 8000}, "was trained with sample_rate = 16000, the student has 8000"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            train(learner.replace(**changes), tmp_path / "run", **QUIET)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"knows 3 classes \(high, low, middle, ...\), the data has 2 \(a, b"):
        load_teacher(learner, ["a", "b"])


def test_a_student_learns_something_else_with_a_teacher(learner, taught, tmp_path):
    train(learner.replace(teacher=""), tmp_path / "alone", **QUIET)
    name = "frontend.blocks.0.time.conv1.weight"
    assert not torch.equal(weights(taught)[name], weights(tmp_path / "alone")[name])
    assert set(weights(taught)) == set(weights(tmp_path / "alone"))  # nothing of the teacher's
    rows = (taught / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3


DIE_AFTER_AN_EPOCH = """
import logging, os, signal, sys
from pathlib import Path
from specenhance.training import load_recipe
from specenhance.training.run import train

class Die(logging.Handler):
    def emit(self, record):
        if record.getMessage().startswith("epoch   2/2"):
            os.kill(os.getpid(), signal.SIGKILL)

logging.basicConfig(level=logging.INFO, handlers=[Die()])
train(load_recipe(sys.argv[1]), Path(sys.argv[2]), device="cpu")
"""


def test_a_killed_student_ends_as_if_nothing_had_happened(learner, taught, tmp_path):
    save_recipe(learner, tmp_path / "r.toml")
    command = [sys.executable, "-c", DIE_AFTER_AN_EPOCH, str(tmp_path / "r.toml"), str(tmp_path / "run")]
    assert subprocess.run(command, capture_output=True, env=os.environ).returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "result.json").exists()
    resume(tmp_path / "run", **QUIET)
    for name, tensor in weights(taught).items():
        assert torch.equal(tensor, weights(tmp_path / "run")[name]), name
    assert (tmp_path / "run" / "metrics.csv").read_text() == (taught / "metrics.csv").read_text()


def test_each_fold_has_the_teacher_that_has_not_heard_it(tmp_path, five_folds):
    assert ESC50(five_folds, fold=1, train=True).classes == ["a", "b"]
    small = {"backbone": "test_resnet", "pretrained": False, "frames": 16, "bins": 32, "epochs": 1, "batch_size": 8}
    recipe = recipe_for("esc50", root=five_folds, role="teacher", **small)
    train(recipe, tmp_path / "teacher", **QUIET)
    student = recipe_for("esc50", root=five_folds, teacher=tmp_path / "teacher", frontend="tfe1", **small)
    spec = torch.randn(2, 1, 16, 32)
    for fold in (1, 4):
        found = load_teacher(student.replace(fold=fold), ["a", "b"])
        assert torch.equal(found(spec), load_stored(tmp_path / "teacher" / f"fold{fold}").model.classify(spec))
    with pytest.raises(ValueError, match="was trained on the clips of fold 2, which are to test the student"):
        load_teacher(student.replace(fold=2, teacher=tmp_path / "teacher" / "fold3"), ["a", "b"])
    result = train(student, tmp_path / "student", **QUIET)
    assert len(result["fold_accuracies"]) == 5
