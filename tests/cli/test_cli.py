"""The command line, as a user meets it: what it prints, what it writes, how it says no."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import specenhance
from specenhance.analysis import masks
from specenhance.cli import app
from specenhance.cli import train as training_commands
from specenhance.training import load_recipe, recipe_for, save_recipe


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def refusal(*args: object) -> str:
    """The message of a command that must fail with it, and without a traceback."""
    result = run(*args)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture(scope="module")
def trained(tones, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    recipe = recipe_for("folder", root=tones, backbone="test_resnet", frames=24, bins=32, batch_size=8, frontend="tfe2")
    save_recipe(recipe, folder / "quick.toml")
    result = run(
        "train",
        "--recipe",
        folder / "quick.toml",
        "--epochs",
        2,
        "--set",
        "lr=1e-3",
        "--device",
        "cpu",
        "--out",
        folder / "run",
    )
    assert result.exit_code == 0, result.output
    return folder / "run", result.stdout


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom specenhance.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n"
        "    print([m for m in ('torch', 'timm', 'lightning', 'matplotlib', 'numpy') if m in sys.modules])"
    )
    for args in ([], ["train"], ["predict"]):
        done = subprocess.run([sys.executable, "-c", code, *args, "--help"], capture_output=True, text=True)
        assert done.stdout.rstrip().endswith("[]"), done.stdout + done.stderr
        assert "Usage" in done.stdout


@pytest.mark.parametrize(
    "args",
    [
        ("train", "--frontend", "clipnorm+tfee4"),
        ("compare", "--frontends", "identity,tfee4"),
        ("compare", "--frontends", "identity,tfee4", "--dry-run"),
    ],
    ids=" ".join,
)
def test_a_wrong_front_end_is_told_before_lightning_is_loaded(args, tmp_path):
    code = (
        "import sys\nfrom specenhance.cli import main\ntry:\n    main()\nexcept SystemExit as end:\n"
        "    print(end.code, [m for m in ('lightning', 'timm', 'torchmetrics') if m in sys.modules])"
    )
    words = [sys.executable, "-c", code, *args, "--data", "synthetic", "--out", tmp_path / "out"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "1 []", done.stderr
    assert done.stderr.startswith("error: unknown front end 'tfee4': did you mean 'tfe4'")
    assert not (tmp_path / "out").exists()


def test_the_console_script_is_installed():
    (script,) = entry_points(group="console_scripts", name="specenhance")
    assert script.load() is specenhance.cli.main


def test_version():
    assert run("--version").stdout.strip() == specenhance.__version__


def test_train_says_what_it_does_and_keeps_the_recipe(trained, tones):
    folder, output = trained
    lines = output.splitlines()
    assert lines[0] == f"training in {folder}"
    assert lines[1].startswith("normalisation measured")
    assert "24 clips train, 6 validate, 6 test; 2 epochs of 3 steps, 6 steps in all" in lines[2]
    assert [line[:11] for line in lines[3:5]] == ["epoch   1/2", "epoch   2/2"]
    accuracy = json.loads((folder / "result.json").read_text())["test_accuracy"]
    assert lines[-1] == f"test accuracy {accuracy:.2%}, in {folder}"
    recipe = load_recipe(folder / "recipe.toml")
    assert (recipe.epochs, recipe.lr, recipe.backbone, recipe.root) == (2, 1e-3, "test_resnet", str(tones))


def test_the_default_folder_names_data_backbone_and_frontend(tones, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(
        "train", "--data", "folder", "--root", tones, "--backbone", "test_resnet", "--frontend", "identity", "--epochs", 1,
        "--set", "frames=24", "--set", "bins=32", "--no-progress",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("folder-test_resnet-identity-2")
    assert (folder / "result.json").is_file()


def test_a_relative_root_is_kept_whole(tones, tmp_path, monkeypatch):
    monkeypatch.chdir(tones.parent)
    run(
        "train", "--data", "folder", "--root", tones.name, "--backbone", "test_resnet", "--epochs", 1, "--batch-size", 8,
        "--set", "frames=24", "--set", "bins=32", "--out", tmp_path / "run",
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run("evaluate", "run").exit_code == 0


def test_resume_reports_a_finished_run(trained):
    folder, _ = trained
    assert run("train", "--resume", folder).stdout.strip() == f"{folder}: finished already"


def test_evaluate_counts_the_split_that_is_asked_for(trained):
    folder, _ = trained
    accuracy = json.loads((folder / "result.json").read_text())["test_accuracy"]
    first, *confused = run("evaluate", folder).stdout.splitlines()
    assert first.startswith(f"{folder}: test accuracy {accuracy:.2%} of 6 clips (95% interval ")
    assert first.endswith("%, Wilson's)")
    assert len(confused) <= 5
    assert all(" taken for " in line for line in confused)
    assert sum(int(line.split()[0]) for line in confused) == round((1 - accuracy) * 6)
    assert "train accuracy" in run("evaluate", folder, "--split", "train").stdout


def test_predict_names_the_likeliest_classes_of_each_file(trained, tones):
    folder, _ = trained
    files = [tones / "test" / "low" / "0.wav", tones / "test" / "high" / "1.wav"]
    lines = run("predict", folder, *files, "--top", 2).stdout.splitlines()
    for file, line in zip(files, lines, strict=True):
        assert line.startswith(f"{file}: ")
        names = [part.split()[0] for part in line.removeprefix(f"{file}: ").split(", ")]
        assert len(names) == 2
        assert set(names) < {"low", "middle", "high"}


def test_enhance_draws_a_picture(trained, tones, tmp_path, monkeypatch):
    folder, _ = trained
    monkeypatch.chdir(tmp_path)
    file = tones / "test" / "low" / "0.wav"
    assert run("enhance", folder, file).stdout.strip() == "0-enhanced.png"
    assert (tmp_path / "0-enhanced.png").read_bytes().startswith(b"\x89PNG")
    run("enhance", folder, file, "--out", "a.svg")
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()


def test_a_terminal_is_shown_names_and_nothing_else(trained, tones, tmp_path):
    folder, _ = trained
    file = tmp_path / "\x1b[31mred\x1b[0m\nline :dog: [bold]\u202e.wav"
    file.write_bytes((tones / "test" / "low" / "0.wav").read_bytes())
    (line,) = run("predict", folder, file).stdout.splitlines()
    assert line.startswith(rf"{tmp_path}/\x1b[31mred\x1b[0m\nline :dog: [bold]\u202e.wav: ")
    message = refusal("predict", folder, tmp_path / "\x1b]0;title\x07\n.wav")
    assert r"\x1b]0;title\x07\n.wav: no such audio file" in message
    file.write_text("no sound")
    assert "cannot be decoded" in refusal("enhance", folder, file)


def test_labels_are_shown_and_not_obeyed(tones, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = {"low": "\x1b[31mred", "middle": ":dog:\nline", "high": "=1+2"}
    for split in ("train", "validation", "test"):
        for old, new in labels.items():
            shutil.copytree(tones / split / old, tmp_path / "sounds" / split / new)
    result = run(
        "train", "--data", "folder", "--root", "sounds", "--backbone", "test_resnet", "--frontend", "tfe1", "--epochs", 1,
        "--batch-size", 8, "--set", "frames=24", "--set", "bins=32", "--out", "run",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    sounds = sorted((tmp_path / "sounds" / "test").rglob("*.wav"))
    for command in (("predict", "run", *sounds), ("evaluate", "run", "--split", "train")):
        output = run(*command).stdout
        assert "\x1b" not in output
        assert len(output.splitlines()) == len(sounds) if command[0] == "predict" else " taken for " in output
    text = run("predict", "run", sounds[0]).stdout
    assert all(name in text for name in (r"\x1b[31mred", r":dog:\nline", "=1+2"))


def test_a_new_runs_folder_is_one_folder_whatever_the_backbone_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = recipe_for("synthetic", backbone="local-dir:../models/my net/", frontend="tfe1")
    folder = training_commands._new_folder(recipe)
    assert folder.parent == Path("runs")
    assert folder.name.startswith("synthetic-my net-tfe1-2")


def test_a_terminal_without_a_names_letters_shows_their_codes(trained, tones, tmp_path):
    file = tmp_path / "猫.wav"
    file.write_bytes((tones / "test" / "low" / "0.wav").read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "specenhance", "predict", str(trained[0]), str(file)],
        env={**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert rb"/\u732b.wav: " in done.stdout


def test_enhance_says_that_a_mask_is_flat_and_not_where_it_is_not(trained, tones, tmp_path, monkeypatch):
    folder, _ = trained
    args = ("enhance", folder, tones / "test" / "low" / "0.wav", "--out", tmp_path / "a.png")
    for threshold, flat in ((1e3, True), (0.0, False)):
        monkeypatch.setattr(masks, "CONSTANT", threshold)
        done = run(*args)
        assert done.stdout.strip() == str(tmp_path / "a.png")
        assert done.stderr.startswith("warning: the mask of tfe2 is flat on this sound") is flat


def test_list_names_what_there_is():
    everything = run("list").stdout
    assert "pcen, rfn, tfa, tfe1, tfe1s, tfe2, tfe2s, tfe4, tfe4s\n" in everything
    assert "data: annotations, audioset, audioset_full, esc50, folder, fsd50k, shards, speech_commands" in everything
    assert run("list", "frontends").stdout.split() == specenhance.list_frontends()
    assert "mobilenetv3_small_050" in run("list", "backbones", "--pattern", "mobilenetv3*").stdout.split()


def test_a_teacher_is_trained_and_taught_from(tones, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = (
        "train", "--data", "folder", "--root", tones, "--backbone", "test_resnet", "--epochs", 1, "--batch-size", 8,
        "--set", "frames=24", "--set", "bins=32",
    )  # fmt: skip
    result = run(*common, "--role", "teacher", "--out", "teacher")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "teacher" / "pretrained" / "model.safetensors").is_file()
    assert load_recipe(tmp_path / "teacher" / "recipe.toml").frontend == "identity"
    result = run(*common, "--frontend", "tfe2", "--teacher", "teacher", "--set", "kd_weight=0.25", "--out", "student")
    assert result.exit_code == 0, result.output
    recipe = load_recipe(tmp_path / "student" / "recipe.toml")
    assert (recipe.teacher, recipe.kd_weight) == (str(tmp_path / "teacher"), 0.25)  # found again from anywhere
    assert "no training run" in refusal(*common, "--teacher", "nowhere", "--out", "other")


def test_a_file_of_the_papers_needs_only_the_folder_of_the_data(tones, tmp_path):
    recipes = Path(__file__).parents[2] / "specenhance" / "training" / "recipes"
    message = refusal("train", "--recipe", recipes / "speech_commands.toml")
    assert "root = '': expected a folder" in message
    message = refusal("train", "--recipe", recipes / "speech_commands.toml", "--root", tones)
    assert "no such list" in message


def test_a_users_mistake_is_one_line_with_its_cure(trained, tones, tmp_path):
    folder, _ = trained
    sound = tones / "test" / "low" / "0.wav"
    assert "--data is missing: expected one of annotations, audioset" in refusal("train")
    assert "data = 'esc': expected one of" in refusal("train", "--data", "esc")
    assert "no such folder" in refusal("train", "--data", "folder", "--root", tmp_path / "none")
    assert "expected FIELD=VALUE" in refusal("train", "--data", "synthetic", "--set", "epochs")
    assert "unknown field 'epoch'" in refusal("train", "--data", "synthetic", "--set", "epoch=3")
    assert "also given as --epochs" in refusal("train", "--data", "synthetic", "--epochs", 3, "--set", "epochs=3")
    assert "did you mean 'tfe" in refusal("train", "--data", "synthetic", "--frontend", "tfe", "--out", tmp_path / "x")
    assert "already there" in refusal("train", "--data", "synthetic", "--out", folder)
    assert "by its own recipe; only these options go with it" in refusal("train", "--resume", folder, "--lr", 3)
    assert "has 2 already; expected more" in refusal("train", "--resume", folder, "--epochs", 1)
    assert "no training run" in refusal("train", "--resume", tmp_path)
    assert "no training run" in refusal("predict", tmp_path, sound)
    assert "no such audio file" in refusal("predict", folder, tmp_path / "none.wav")
    (tmp_path / "text.wav").write_text("no sound")
    assert "cannot be decoded" in refusal("enhance", folder, tmp_path / "text.wav")
    assert "no timm model has such a name" in refusal("list", "backbones", "--pattern", "nothing")
    assert not (tmp_path / "x").exists()


def test_predict_says_what_it_was_given(trained, tones, tmp_path):
    folder, _ = trained
    sound = tones / "test" / "low" / "0.wav"
    assert "none.onnx: no such model" in refusal("predict", folder / "none.onnx", sound)
    assert f"{tmp_path}: is a folder; expected a run folder and then audio files" in refusal("predict", tmp_path)
    assert f"{tmp_path}: the folder holds no sound file" in refusal("predict", folder, tmp_path)


def test_a_folder_around_a_file_to_write_is_not_made(trained, tones, tmp_path):
    folder, _ = trained
    for command in (("export", folder), ("report", folder), ("enhance", folder, tones / "test" / "low" / "0.wav")):
        suffix = {"export": "onnx", "report": "html", "enhance": "png"}[command[0]]
        message = refusal(*command, "--out", tmp_path / "none" / f"a.{suffix}")
        assert f"there is no folder {tmp_path}/none; make it (mkdir -p {tmp_path}/none)" in message
    assert list(tmp_path.iterdir()) == []


def test_no_message_offers_an_extra_of_a_package_that_is_not_published():
    sources = list(Path(specenhance.__file__).parent.rglob("*.py"))
    assert len(sources) > 40
    assert [path for path in sources if "specenhance[" in path.read_text(encoding="utf-8")] == []


def test_five_folds_are_evaluated_together(tmp_path, five_folds):
    result = run(
        "train", "--data", "esc50", "--root", five_folds, "--backbone", "test_resnet", "--frontend", "tfe1",
        "--epochs", 1, "--set", "frames=16", "--set", "bins=32", "--out", tmp_path / "run",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    lines = run("evaluate", tmp_path / "run").stdout.splitlines()
    mean = json.loads((tmp_path / "run" / "result.json").read_text())["test_accuracy"]
    assert lines[-1] == f"mean of 5 folds: {mean:.2%}"
    assert "give one of its folds, fold1, fold2" in refusal(
        "predict", tmp_path / "run", five_folds / "audio" / "1-0.wav"
    )


def test_the_demo_compares_both_front_ends(tmp_path, monkeypatch):
    from specenhance.data import SyntheticSounds
    from specenhance.data.registry import DATA

    def few(split, seed, sample_rate):
        return SyntheticSounds(split, clips_per_class=4, seed=seed, sample_rate=sample_rate)

    few.recipe_defaults = SyntheticSounds.recipe_defaults
    monkeypatch.setitem(DATA._entries, "synthetic", DATA._entries["synthetic"]._replace(factory=few))
    result = run("demo", "--out", tmp_path / "demo", "--epochs", 1, "--device", "cpu")
    assert result.exit_code == 0, result.output
    for frontend in ("identity", "tfe4"):
        accuracy = json.loads((tmp_path / "demo" / frontend / "result.json").read_text())["test_accuracy"]
        assert any(frontend in line and f"{accuracy:.1%}" in line for line in result.stdout.splitlines()[-6:])
        assert (tmp_path / "demo" / frontend / "enhanced.png").is_file()
        assert (
            str(tmp_path / "demo" / frontend / "enhanced.png") in result.stdout.splitlines()
        )  # whole, on its own line
    assert "already there" in refusal("demo", "--out", tmp_path / "demo")
