"""Multi-label models: trained, scored, stored, exported, taught; and what stops, kills and devices do to their runs."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch
from sklearn.metrics import average_precision_score
from torchvision.ops import sigmoid_focal_loss

from specenhance import FrontendModel
from specenhance.analysis.multi_label import tuned_thresholds
from specenhance.cli.program import app
from specenhance.data import read_audio
from specenhance.deploy.runtime import OnnxModel
from specenhance.distillation.head import fit_head
from specenhance.experiments.plan import Plan
from specenhance.inference import Listening, predict_proba
from specenhance.training import Recipe, load_stored, recipe_for, save_recipe
from specenhance.training.evaluate import evaluate, evaluate_run, figures
from specenhance.training.exporting import export_run
from specenhance.training.module import FocalLoss
from specenhance.training.reporting import report_run
from specenhance.training.run import resume, train

TONES = {"high": 2700, "low": 300, "middle": 900}


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory):
    """A folder of noise with any of three tones in it, and its table. 5 of 48 clips have none."""
    root = tmp_path_factory.mktemp("mixtures")
    rng = np.random.default_rng(0)
    time = np.arange(4000) / 16000
    rows = ["path,label,split"]
    for i in range(48):
        there = [name for name in TONES if rng.random() < 0.5]
        wave = 0.03 * rng.standard_normal(4000)
        for name in there:
            wave += 0.2 * np.sin(2 * np.pi * TONES[name] * rng.uniform(0.8, 1.25) * time)
        soundfile.write(root / f"{i}.wav", wave, 16000)
        rows.append(f"{i}.wav,{';'.join(there)},{('train', 'train', 'validation', 'test')[i % 4]}")
    (root / "labels.csv").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module")
def recipe(mixtures):
    return recipe_for(
        "folder",
        root=mixtures,
        csv=mixtures / "labels.csv",
        multi_label=True,
        backbone="test_resnet",
        frontend="tfe2",
        frames=24,
        bins=32,
        epochs=3,
        batch_size=8,
        lr=1e-3,
        mixup=0.3,
    )


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(recipe, out, device="cpu")
    return out


def same_end(first: Path, second: Path) -> None:
    ours, theirs = (safetensors.torch.load_file(folder / "model.safetensors") for folder in (first, second))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    for name in ("metrics.csv", "classes.csv"):
        assert (first / name).read_text() == (second / name).read_text()
    results = [json.loads((folder / "result.json").read_text()) for folder in (first, second)]
    assert all(result.pop("seconds") for result in results)
    assert results[0] == results[1]


def test_the_flag_chooses_a_loss_of_each_class():
    recipe = recipe_for("synthetic", multi_label="true")
    assert (recipe.loss, recipe.label_smoothing, recipe.kd_loss) == ("binary_cross_entropy", 0.0, "binary")
    assert recipe_for("fsd50k", root="x").multi_label
    with pytest.raises(
        ValueError, match=r"loss = 'cross_entropy': expected 'binary_cross_entropy' or 'focal' with multi_label"
    ):
        recipe_for("synthetic", multi_label=True, loss="cross_entropy")
    with pytest.raises(ValueError, match="kd_loss = 'paper': expected 'binary' with multi_label = true"):
        recipe_for("synthetic", multi_label=True, teacher="runs/a", kd_loss="paper")


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.0, 0.5), (3.5, 0.9)])
def test_the_focal_loss_is_torchvisions_and_the_papers(gamma, alpha):
    draw = torch.Generator().manual_seed(0)
    z = 4 * torch.randn(5, 7, generator=draw, dtype=torch.float64)
    y = (torch.rand(5, 7, generator=draw) < 0.3).double()
    loss = FocalLoss(gamma, alpha)(z, y)
    assert torch.allclose(loss, sigmoid_focal_loss(z, y, alpha=alpha, gamma=gamma, reduction="mean"), atol=1e-12)
    p = 1 / (1 + np.exp(-z.numpy()))
    p_t = np.where(y.numpy() == 1, p, 1 - p)
    a_t = np.where(y.numpy() == 1, alpha, 1 - alpha)
    assert float(loss) == pytest.approx((-a_t * (1 - p_t) ** gamma * np.log(p_t)).mean(), abs=1e-12)
    assert FocalLoss()(torch.tensor([[300.0, -300.0]]), torch.tensor([[1.0, 0.0]])) == 0  # no NaN far out


def test_a_run_scores_by_mean_average_precision(run, recipe, mixtures):
    stored = load_stored(run)
    result = json.loads((run / "result.json").read_text())
    score = evaluate(stored.model, stored.recipe, "test", stored.classes, device="cpu")
    expected = average_precision_score(score.targets, score.probabilities, average="macro")
    assert result["test_mean_ap"] == pytest.approx(expected, abs=1e-6)
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert list(rows[0]) == ["epoch", "train_loss", "val_loss", "val_mean_ap", "lr"]
    assert result["validation_mean_ap"] == max(float(row["val_mean_ap"]) for row in rows)
    assert "test_accuracy" not in result
    assert not (run / "confusion_matrix.csv").exists()
    classes = list(csv.DictReader((run / "classes.csv").open()))
    assert [row["class"] for row in classes] == ["high", "low", "middle"]
    assert float(classes[0]["average_precision"]) == pytest.approx(float(score.average_precision[0]), abs=1e-6)
    assert (run / "curves.png").is_file()
    assert (run / "enhanced.png").is_file()


def test_thresholds_are_tuned_on_the_validation_clips_and_stored(run):
    stored = load_stored(run)
    heard = evaluate(stored.model, stored.recipe, "validation", stored.classes, device="cpu")
    assert stored.model.thresholds == tuned_thresholds(heard.probabilities, heard.targets)
    assert FrontendModel.from_pretrained(run).thresholds == stored.model.thresholds
    stored.model.reset_classifier(5)
    assert stored.model.thresholds is None


def test_probabilities_are_each_classs_own_everywhere(run, mixtures, tmp_path):
    stored = load_stored(run)
    model, file = stored.model, mixtures / "3.wav"
    waveform = read_audio(file)
    with torch.no_grad():
        expected = model(waveform[None])[0].sigmoid()
    for found in (
        predict_proba(model, file),
        predict_proba(model, waveform),
        Listening(model).probabilities(waveform.numpy()),
    ):
        assert torch.allclose(torch.as_tensor(found), expected, atol=1e-6)
    exported = OnnxModel(export_run(run, out=tmp_path / "model.onnx"))
    assert exported.thresholds == model.thresholds == Listening(model).thresholds
    assert np.allclose(exported.probabilities(waveform.numpy()), expected, atol=1e-5)
    assert json.loads((tmp_path / "model.labels.json").read_text())["thresholds"] == model.thresholds
    with pytest.raises(ValueError, match="int8 with a multi-label model"):
        export_run(run, out=tmp_path / "int8.onnx", int8=True)


def test_conditions_the_report_and_json(run, tmp_path):
    found = list(evaluate_run(run, conditions=["clean", "noise:0"], device="cpu"))
    assert [one.condition for one in found] == ["clean", "noise:0"]
    assert found[0].interval is None
    rows = json.loads(figures(found, "test"))
    assert rows[0]["mean_ap"] == found[0].score.mean_ap
    assert set(rows[0]["classes"]) == set(TONES)
    page = report_run(run, tmp_path / "report.html", conditions=["noise:0"]).read_text()
    assert "Average precision of each class" in page
    assert "Confusion" not in page
    assert f"mAP {found[0].score.mean_ap:.2%}" in page


def test_the_command_line_from_table_to_score(mixtures, tmp_path):
    from typer.testing import CliRunner

    options = {"--data": "folder", "--root": mixtures, "--csv": mixtures / "labels.csv", "--backbone": "test_resnet"}
    options |= {"--frontend": "identity", "--epochs": 1, "--out": tmp_path / "run", "--device": "cpu"}
    arguments = [str(part) for pair in options.items() for part in pair]
    trained = CliRunner().invoke(app, ["train", "--multi-label", *arguments, "--set", "loss=focal"])
    assert trained.exit_code == 0, trained.output
    scored = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--device", "cpu"])
    assert scored.exit_code == 0
    assert "test mAP" in scored.output
    assert "average precision" in scored.output


KILLED = """
import os, signal, sys
from pathlib import Path
from specenhance.training import load_recipe
from specenhance.training.checkpoints import AtomicCheckpoints
from specenhance.training.run import train
save = AtomicCheckpoints.save_checkpoint
def save_and_die(self, *args, **kwargs):
    save(self, *args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
AtomicCheckpoints.save_checkpoint = save_and_die
train(load_recipe(sys.argv[1]), Path(sys.argv[2]), device="cpu")
"""


def test_a_killed_run_ends_as_the_uninterrupted_one(run, recipe, tmp_path):
    save_recipe(recipe, tmp_path / "recipe.toml")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "recipe.toml"), str(tmp_path / "run")]
    assert (
        subprocess.run(command, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode
        == -signal.SIGKILL
    )
    resume(tmp_path / "run", device="cpu")
    same_end(run, tmp_path / "run")


def test_workers_that_make_the_features_change_nothing(run, recipe, tmp_path):
    train(recipe.replace(mixup=0.0, epochs=1), tmp_path / "a", device="cpu")
    train(recipe.replace(mixup=0.0, epochs=1), tmp_path / "b", device="cpu", workers=1, features_on="worker")
    same_end(tmp_path / "a", tmp_path / "b")


def test_two_devices_score_every_clip_once(recipe, tmp_path):
    still = recipe.replace(mixup=0.0, epochs=1, backbone="test_vit", frames=48, time_mask=0, freq_mask=0, shift=0)
    train(still, tmp_path / "one", device="cpu")
    train(still, tmp_path / "two", device="cpu", devices=2)
    one, two = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two"))
    for name in ("test_mean_ap", "test_auroc", "test_f1", "validation_mean_ap"):
        assert one[name] == pytest.approx(two[name], abs=0.02), name
    assert [len(list(csv.reader((tmp_path / name / "classes.csv").open()))) for name in ("one", "two")] == [4, 4]


def test_a_student_learns_from_a_multi_label_teacher(run, recipe, tmp_path):
    student = recipe.replace(teacher=str(run), kd_weight=0.0, epochs=1, seed=1)
    assert train(student, tmp_path / "student", device="cpu")["test_mean_ap"] > 0
    with pytest.raises(ValueError, match="expected the same; train a teacher on this data set"):
        train(
            recipe_for("synthetic", multi_label=True, teacher=str(run), backbone="test_resnet", frontend="tfe1"),
            tmp_path / "other",
            device="cpu",
        )


def test_an_embedding_teaches_several_labels(recipe, mixtures, tmp_path):
    spectra = [np.abs(np.fft.rfft(soundfile.read(mixtures / f"{i}.wav")[0])) for i in range(48)]
    values = np.log(np.stack(spectra)[:, :1200:20] + 1).astype("float32")
    np.savez(tmp_path / "e.npz", values=values, names=np.array([f"{i}.wav" for i in range(48)]))
    student = recipe.replace(teacher=f"embedding:{tmp_path / 'e.npz'}", epochs=1)
    assert train(student, tmp_path / "run", device="cpu")["test_mean_ap"] > 0


def test_a_head_of_several_labels_is_a_logistic_regression_for_each():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x = rng.standard_normal((90, 4))
    there = np.stack([x[:, 0] > 0, x[:, 1] + 0.5 * rng.standard_normal(90) > 0.5, np.zeros(90), np.ones(90)], 1).astype(
        int
    )
    head = fit_head(x, [tuple(np.flatnonzero(row).tolist()) for row in there], classes=4)
    z = head(torch.from_numpy(x)).numpy()
    assert (z[:, 2] == -np.inf).all()
    assert (z[:, 3] == np.inf).all()
    for k in (0, 1):
        assert ((z[:, k] > 0) == there[:, k]).mean() > 0.85
        scaled = (x - x.mean(0)) / x.std(0)
        found = [
            LogisticRegression(C=c, max_iter=1000).fit(scaled, there[:, k]).decision_function(scaled)
            for c in (1e-4, 1e-3, 1e-2, 0.1, 1)
        ]
        assert min(np.abs(z[:, k] - other).max() for other in found) < 1e-4


def test_one_label_clips_can_be_trained_as_several(tones, tmp_path):
    recipe = recipe_for(
        "folder", root=tones, multi_label=True, backbone="test_resnet", frontend="identity", frames=24, bins=32
    )
    result = train(recipe.replace(epochs=2, batch_size=8), tmp_path / "run", device="cpu")
    assert 0 < result["test_mean_ap"] <= 1


def test_given_clips_of_several_classes_need_the_flag(tmp_path):
    clips = [(torch.randn(1600), [0, 1]), (torch.randn(1600), [1]), (torch.randn(1600), [])] * 4
    given = {"train": clips, "validation": clips, "test": clips}
    with pytest.raises(ValueError, match=r"multi_label = False: .* expected true"):
        train(recipe_for("given", backbone="test_resnet", frames=24, bins=32), tmp_path / "a", data=given, device="cpu")
    fields = {"backbone": "test_resnet", "frames": 24, "bins": 32, "epochs": 1, "multi_label": True}
    result = train(recipe_for("given", **fields), tmp_path / "b", data=given, classes=["a", "b"], device="cpu")
    assert result["classes"] == ["a", "b"]
    assert len(load_stored(tmp_path / "b").model.thresholds) == 2


def test_folds_have_the_mean_of_every_score(mixtures, tmp_path):
    recipe = recipe_for(
        "folder", root=mixtures, csv=mixtures / "labels.csv", multi_label=True, backbone="test_resnet", frontend="identity",
        frames=24, bins=32, epochs=1, batch_size=8, folds=3, group="clip",
    )  # fmt: skip
    result = train(recipe, tmp_path / "run", device="cpu")
    values = [
        json.loads((tmp_path / "run" / f"fold{k}" / "result.json").read_text())["test_mean_ap"] for k in (1, 2, 3)
    ]
    assert result["fold_mean_aps"] == values
    assert result["test_mean_ap"] == pytest.approx(np.mean(values))
    assert 0 <= result["test_f1"] <= 1


def test_clips_without_any_class_are_no_training_set(mixtures, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("path,label,split\n0.wav,a,train\n1.wav,,validation\n2.wav,a,test\n")
    recipe = recipe_for("folder", root=mixtures, csv=table, multi_label=True, backbone="test_resnet")
    with pytest.raises(ValueError, match="no clip of the split 'validation' has a class"):
        train(recipe, tmp_path / "run", device="cpu")


def test_a_comparison_says_that_it_counts_right_clips():
    with pytest.raises(ValueError, match="a comparison counts clips that are classified right"):
        Plan(recipe={"data": "synthetic", "multi_label": True}, factors={"frontend": ["identity", "tfe1"]})


def test_a_recipe_of_one_label_is_as_it_was():
    assert Recipe().kept_by == "val_accuracy"
    assert not Recipe().multi_label
