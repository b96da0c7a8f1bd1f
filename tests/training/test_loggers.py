"""Loggers beside the run folder, and the search of a learning rate."""

import json
import os

import pytest
from typer.testing import CliRunner

from specenhance.cli.program import app
from specenhance.training.find_lr import find_lr
from specenhance.training.run import resume, train


def test_mlflow_has_each_epoch_once_also_after_a_stop(quick, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'mlruns'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    recipe = quick.replace(epochs=2)
    train(recipe, tmp_path / "run", device="cpu", loggers="tensorboard,mlflow")
    resume(tmp_path / "run", epochs=3, device="cpu", loggers="tensorboard,mlflow")
    client = mlflow.MlflowClient(f"file:{tmp_path / 'mlruns'}")
    (run,) = client.search_runs([client.get_experiment_by_name("specenhance").experiment_id])
    assert run.info.run_name == "run"
    assert run.data.params["backbone"] == "test_resnet"
    history = client.get_metric_history(run.info.run_id, "val_accuracy")
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]
    expected = [float(row.split(",")[4]) for row in rows]
    assert [point.value for point in sorted(history, key=lambda point: point.step)] == pytest.approx(expected)


def test_weights_and_biases_logs_offline(quick, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(quick.replace(epochs=1), tmp_path / "run", device="cpu", loggers="wandb")
    (name,) = json.loads((tmp_path / "run" / "loggers.json").read_text()).values()
    assert list((tmp_path / "run" / "wandb").glob(f"offline-run-*{name}"))
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_an_unknown_logger_is_told_before_training(quick, tmp_path):
    with pytest.raises(ValueError, match="loggers = 'tensorbord': expected one or more of tensorboard, wandb, mlflow"):
        train(quick, tmp_path / "run", device="cpu", loggers="tensorbord")
    assert not (tmp_path / "run").exists()


def test_a_rate_is_found_and_nothing_is_left(quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = find_lr(quick.replace(frontend="identity"), steps=40, device="cpu")
    assert 1e-6 < found.rate < 1
    assert len(found.rates) == len(found.losses)
    assert found.rates == sorted(found.rates)
    assert max(found.losses) > min(found.losses)
    assert os.listdir(tmp_path) == []


def test_the_command_suggests_a_rate(tones, tmp_path):
    arguments = ["--data", "folder", "--root", str(tones), "--backbone", "test_resnet", "--frontend", "identity"]
    found = CliRunner().invoke(
        app, ["train", *arguments, "--find-lr", "--device", "cpu", "--out", str(tmp_path / "run")]
    )
    assert found.exit_code == 0, found.output
    assert "--lr " in found.output
    assert not (tmp_path / "run").exists()
