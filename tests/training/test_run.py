"""A run from start to result: what it writes, that it repeats, and that no stop changes where it ends."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from specenhance.analysis import masks
from specenhance.data import read_audio
from specenhance.inference import predict
from specenhance.training import load_stored, pictures, recipe_for, save_recipe
from specenhance.training.evaluate import evaluate
from specenhance.training.run import resume, train

QUIET = {"device": "cpu"}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / "model.safetensors")


def assert_same_end(first: Path, second: Path) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    assert (first / "metrics.csv").read_text() == (second / "metrics.csv").read_text()
    results = [json.loads((run / "result.json").read_text()) for run in (first, second)]
    for result in results:
        del result["seconds"]
    assert results[0] == results[1]


@pytest.fixture(scope="module")
def whole(quick, tmp_path_factory):
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(quick, out, **QUIET)
    return out


def test_the_folder_holds_everything(whole, quick):
    assert {path.name for path in whole.iterdir()} == {
        "recipe.toml",
        "clips.jsonl",
        "metrics.csv",
        "tensorboard",
        "checkpoints",
        "model.safetensors",
        "config.json",
        "README.md",
        "result.json",
        "classes.csv",
        "confusion_matrix.csv",
        "confusion_matrix.png",
        "curves.png",
        "enhanced.png",
    }
    assert {path.name for path in (whole / "checkpoints").iterdir()} == {
        "best.safetensors",
        "last.ckpt",
        "previous.ckpt",
    }
    assert list((whole / "tensorboard").glob("events*"))
    rows = list(csv.DictReader((whole / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert all(float(row["train_loss"]) > 0 and 0 <= float(row["val_accuracy"]) <= 1 for row in rows)
    result = json.loads((whole / "result.json").read_text())
    assert result["recipe"]["root"] == quick.root
    assert result["recipe"]["mean"] is not None  # measured, and kept
    total = sum(parameter.numel() for parameter in load_stored(whole).model.parameters())
    assert result["parameters"] == {"total": total, "frontend": 37158}
    assert result["validation_accuracy"] == max(float(row["val_accuracy"]) for row in rows)
    confusion = list(csv.reader((whole / "confusion_matrix.csv").open()))
    assert confusion[0] == ["true \\ predicted", "high", "low", "middle"]
    counts = torch.tensor([[int(cell) for cell in row[1:]] for row in confusion[1:]])
    assert counts.sum(1).tolist() == [2, 2, 2]
    assert result["test_accuracy"] == pytest.approx(counts.trace().item() / 6)


def test_checkpoints_hold_no_pickled_objects(whole):
    for path in (whole / "checkpoints").glob("*.ckpt"):
        assert "state_dict" in torch.load(path, weights_only=True)
    assert safetensors.torch.load_file(whole / "checkpoints" / "best.safetensors")


def test_the_kept_model_is_the_best_epochs_and_scores_what_the_result_says(whole):
    stored = load_stored(whole)
    result = json.loads((whole / "result.json").read_text())
    assert evaluate(stored.model, stored.recipe, "test", stored.classes, device="cpu").accuracy == pytest.approx(
        result["test_accuracy"]
    )
    validation = evaluate(stored.model, stored.recipe, "validation", stored.classes, device="cpu")
    assert validation.accuracy == pytest.approx(result["validation_accuracy"])
    assert validation.confusion.sum() == 6


def test_predictions_are_probabilities_in_order(whole, tones):
    stored = load_stored(whole)
    waveform = read_audio(tones / "test" / "low" / "0.wav")
    likely = predict(stored.model, waveform, top=5)
    assert sorted(label for label, _ in likely) == [0, 1, 2]
    probabilities = [probability for _, probability in likely]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)
    assert predict(stored.model, waveform, top=1) == likely[:1]


def test_integers_give_what_their_floats_give(whole, tones):
    model = load_stored(whole).model
    waveform = read_audio(tones / "test" / "low" / "0.wav")  # written in 16 bits
    integers = (waveform * 32768).to(torch.int16)
    expected = predict(model, waveform, top=3)
    for samples in (integers, integers.numpy(), waveform.double(), waveform.numpy()):
        assert predict(model, samples, top=3) == expected
    with pytest.raises(TypeError, match="samples of type int64: expected float32"):
        predict(model, integers.long(), top=3)
    with pytest.raises(ValueError, match=r"sound of shape \(4000, 2\): expected one channel"):
        predict(model, torch.stack([waveform, waveform], 1), top=3)


def test_the_same_seed_gives_the_same_numbers(whole, quick, tmp_path):
    train(quick, tmp_path / "again", workers=1, **QUIET)
    assert_same_end(whole, tmp_path / "again")


def test_another_seed_gives_other_weights(whole, quick, tmp_path):
    train(quick.replace(seed=1, epochs=1), tmp_path / "other", **QUIET)
    assert not torch.equal(
        weights(whole)["frontend.blocks.0.time.conv1.weight"],
        weights(tmp_path / "other")["frontend.blocks.0.time.conv1.weight"],
    )


# Dies by SIGKILL at the n-th write of weights or of a checkpoint, before or after the write.
DIE_AT_WRITE = """
import os, signal, sys
from pathlib import Path
from specenhance.training import checkpoints, load_recipe
from specenhance.training.run import train

recipe, out, fatal, when = load_recipe(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
writes = 0

def or_die(write):
    def written(path, content):
        global writes
        writes += 1
        if writes == fatal and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, content)
        if writes == fatal and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
    return written

checkpoints.write_bytes = or_die(checkpoints.write_bytes)
checkpoints.write_weights = or_die(checkpoints.write_weights)
train(recipe, out, device="cpu")
"""


@pytest.mark.parametrize(
    ("write", "when"), [(1, "before"), (1, "after"), (2, "before"), (2, "after"), (3, "before"), (3, "after")]
)
def test_a_kill_at_a_checkpoint_changes_nothing(whole, quick, tmp_path, write, when):
    save_recipe(quick, tmp_path / "quick.toml")
    out = tmp_path / "run"
    command = [sys.executable, "-c", DIE_AT_WRITE, str(tmp_path / "quick.toml"), str(out), str(write), when]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert not (out / "result.json").exists()
    resume(out, **QUIET)
    assert_same_end(whole, out)


def test_a_kill_at_any_time_and_a_move_of_the_folder_change_nothing(whole, quick, tmp_path):
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "specenhance",
        "train",
        "--data",
        "folder",
        "--root",
        quick.root,
        "--out",
        str(out),
    ]
    command += ["--device", "cpu", "--no-progress", "--backbone", quick.backbone, "--frontend", quick.frontend]
    for name in ("frames", "bins", "epochs", "batch_size", "lr", "time_mask", "freq_mask", "shift", "noise"):
        command += ["--set", f"{name}={getattr(quick, name)}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch   2/3"):
            break
    time.sleep(0.03)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "result.json").exists()
    moved = tmp_path / "moved" / "run"
    moved.parent.mkdir()
    shutil.move(out, moved)
    resume(moved, **QUIET)
    assert_same_end(whole, moved)


@pytest.mark.parametrize(
    "machine", [{"cache": "memory"}, {"cache": "folder", "workers": 1}, {"features_on": "worker"}], ids=str
)
def test_where_clips_and_spectrograms_come_from_changes_nothing(whole, quick, tmp_path, machine):
    machine = {name: str(tmp_path / "cache") if value == "folder" else value for name, value in machine.items()}
    train(quick, tmp_path / "run", **machine, **QUIET)
    assert_same_end(whole, tmp_path / "run")
    assert (tmp_path / "cache").exists() == ("workers" in machine)


def test_a_finished_run_is_only_reported(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert resume(whole, **QUIET) == json.loads((whole / "result.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


AWKWARD = ["$5_to_$10", "=cmd|' (C calc)'!A0", "\x1b[31mred\nline"]


@pytest.fixture
def awkward(quick, tones, tmp_path):
    """A recipe on classes that are called as nobody would call them."""
    for old, new in zip(("low", "middle", "high"), AWKWARD, strict=True):
        for split in ("train", "validation", "test"):
            shutil.copytree(tones / split / old, tmp_path / "awkward" / split / new)
    return quick.replace(root=tmp_path / "awkward", epochs=1)


def test_names_are_data(awkward, tmp_path, news):
    result = train(awkward, tmp_path / "run", device="cpu")
    assert not any("was not drawn" in line for line in news)
    assert all((tmp_path / "run" / name).is_file() for name in PICTURES)
    assert result["classes"] == load_stored(tmp_path / "run").classes == sorted(AWKWARD)
    text = (tmp_path / "run" / "confusion_matrix.csv").read_text()
    assert "\x1b" not in text
    table = list(csv.reader(io.StringIO(text)))
    names = ["$5_to_$10", "'=cmd|' (C calc)'!A0", r"\x1b[31mred\nline"]
    assert set(table[0][1:]) == {row[0] for row in table[1:]} == set(names)


PICTURES = ("confusion_matrix.png", "curves.png", "enhanced.png")


def test_a_picture_that_cannot_be_drawn_loses_no_result_and_is_drawn_at_the_next_resume(
    quick, tmp_path, monkeypatch, news
):
    out = tmp_path / "a run"

    def fail(figure, path):
        assert (out / "result.json").is_file()  # before any picture
        raise RuntimeError(f"no ink\nfor {path.name}")

    with monkeypatch.context() as broken:
        broken.setattr(pictures, "save_figure", fail)
        result = train(quick.replace(epochs=1, frontend="identity"), out, device="cpu")
        warnings = [line for line in news if "was not drawn" in line]
        cure = f"specenhance train --resume '{out}' tries again"
        assert warnings == [rf"warning: {out / name} was not drawn (no ink\nfor {name}); {cure}" for name in PICTURES]
        assert news[-1].startswith("test accuracy")
        assert resume(out, **QUIET) == result
    assert not any((out / name).exists() for name in PICTURES)
    assert resume(out, **QUIET) == result
    drawn = {name: (out / name).read_bytes() for name in PICTURES}
    for name in PICTURES:
        (out / name).unlink()
    resume(out, **QUIET)
    assert {name: (out / name).read_bytes() for name in PICTURES} == drawn


def test_a_finished_run_without_its_data_is_still_a_success(quick, tones, tmp_path, news):
    shutil.copytree(tones, tmp_path / "tones")
    result = train(quick.replace(epochs=1, root=tmp_path / "tones"), tmp_path / "run", **QUIET)
    shutil.rmtree(tmp_path / "tones")
    for name in PICTURES:
        (tmp_path / "run" / name).unlink()
    news.clear()
    assert resume(tmp_path / "run", device="cpu") == result
    (warning,) = [line for line in news if line.startswith("warning")]
    assert "enhanced.png was not drawn" in warning
    assert str(tmp_path / "tones") in warning
    assert (tmp_path / "run" / "confusion_matrix.png").is_file()


def test_training_warns_of_a_constant_mask(quick, tmp_path, monkeypatch, news):
    for threshold, constant in ((1e3, True), (0.0, False)):  # what any mask falls below, and none
        news.clear()
        monkeypatch.setattr(masks, "CONSTANT", threshold)
        train(quick.replace(epochs=1), tmp_path / str(threshold), device="cpu")
        warning = "warning: the mask of tfe2 is constant: from clip to clip its factors change by "
        assert any(line.startswith(warning) for line in news) is constant
        assert news[-1].startswith("test accuracy")


def test_what_cannot_start_leaves_no_folder(quick, tmp_path):
    out = tmp_path / "run"
    for changes, message in (
        ({"root": str(tmp_path / "none")}, "no such folder"),
        ({"backbone": "xyz"}, "no timm model"),
        (
            {"backbone": "test_vit", "frames": 25},
            "does not take spectrograms of 25 frames x 32 bins .*--set fit=resize",
        ),
        ({"frontend": "xyz"}, "unknown front end"),
        ({"features": "xyz"}, "unknown features"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            train(quick.replace(**changes), out, **QUIET)
    with pytest.raises(ValueError, match="device = 'tpu': expected one of auto, cpu, cuda, mps"):
        train(quick, out, device="tpu")
    with pytest.raises(
        ValueError, match="features_on = 'worker': the features 'trainable_mel' have weights that learn"
    ):
        train(quick.replace(features="trainable_mel"), out, features_on="worker", **QUIET)
    assert not out.exists()


def test_a_folder_in_use_is_not_overwritten(whole, quick):
    with pytest.raises(FileExistsError, match=r"already there, with .*; continue it with --resume"):
        train(quick, whole, **QUIET)
    with pytest.raises(FileNotFoundError, match=r"no training run, it has no recipe\.toml"):
        resume(whole / "checkpoints", **QUIET)


def test_a_model_of_other_classes_is_not_evaluated(whole, tmp_path, tones):
    stored = load_stored(whole)
    for copy, (old, new), message in (
        ("more", ("", "lower"), "only the data has 'lower'"),
        ("other", ("low", "lower"), "only the data has 'lower'; only the model has 'low'"),
    ):
        shutil.copytree(tones, tmp_path / copy)
        for split in ("train", "validation", "test"):
            folder = tmp_path / copy / split
            shutil.copytree(folder / "low", folder / new)
            if old:
                shutil.rmtree(folder / old)
        with pytest.raises(ValueError, match=message):
            evaluate(stored.model, stored.recipe.replace(root=tmp_path / copy), "test", stored.classes, device="cpu")


def test_classes_in_another_order_are_mapped(whole):
    stored = load_stored(whole)
    expected = evaluate(stored.model, stored.recipe, "test", stored.classes, device="cpu")
    order = [2, 0, 1]
    turned = FirstLogits(stored.model, order)
    got = evaluate(turned, stored.recipe, "test", [stored.classes[i] for i in order], device="cpu")
    assert got.accuracy == expected.accuracy
    assert torch.equal(got.confusion, expected.confusion[order][:, order])


class FirstLogits(torch.nn.Module):
    """A model whose classes stand in another order."""

    def __init__(self, model, order):
        super().__init__()
        self.model, self.order, self.features, self.num_classes = model, order, model.features, model.num_classes

    def spectrogram(self, *args):
        return self.model.spectrogram(*args)

    def real_frames(self, *args):
        return self.model.real_frames(*args)

    def classify(self, *args):
        return self.model.classify(*args)[:, self.order]


@pytest.fixture
def esc50(tmp_path, write):
    """Two classes, two clips of each in every fold, in the layout of ESC-50."""
    rows = ["filename,fold,target,category"]
    for fold in range(1, 6):
        for target, category in enumerate(("dog", "rain")):
            for take in range(2):
                name = f"{fold}-{take}-{target}.wav"
                write(
                    tmp_path / "esc" / "audio" / name, seconds=0.2, rate=44100, frequency=400 * (target + 1) + 10 * take
                )
                rows.append(f"{name},{fold},{target},{category}")
    (tmp_path / "esc" / "meta").mkdir()
    (tmp_path / "esc" / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "esc"


def test_esc50_without_a_fold_runs_all_five_and_resumes_between_them(esc50, tmp_path):
    recipe = recipe_for(
        "esc50", root=esc50, backbone="test_resnet", frontend="tfe1", frames=16, bins=32, epochs=1, batch_size=8
    )
    out = tmp_path / "run"
    result = train(recipe, out, **QUIET)
    folds = [json.loads((out / f"fold{fold}" / "result.json").read_text()) for fold in range(1, 6)]
    assert [fold["recipe"]["fold"] for fold in folds] == [1, 2, 3, 4, 5]
    assert result["fold_accuracies"] == [fold["test_accuracy"] for fold in folds]
    assert result["test_accuracy"] == pytest.approx(sum(result["fold_accuracies"]) / 5)
    assert load_stored(out / "fold3").classes == ["dog", "rain"]
    (out / "result.json").unlink()
    shutil.rmtree(out / "fold5")
    again = resume(out, **QUIET)
    assert again["fold_accuracies"] == result["fold_accuracies"]


def test_the_recipe_path_needs_no_torchaudio(quick, tmp_path):
    (tmp_path / "torchaudio.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    save_recipe(quick.replace(epochs=1), tmp_path / "quick.toml")
    command = [sys.executable, "-m", "specenhance", "train", "--recipe", str(tmp_path / "quick.toml")]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run"), "--no-progress"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "result.json").is_file()
