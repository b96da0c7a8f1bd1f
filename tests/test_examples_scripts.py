"""The scripts among the examples run whole, quickly; on real recordings and weights where they are there."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile

from specenhance.training import load_recipe

FOLDER = Path(__file__).parents[1] / "examples"


@pytest.fixture
def script(monkeypatch, capsys):
    """Run an example in this process, and give what it prints."""

    def script(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(FOLDER / name), run_name="__main__")
        return capsys.readouterr().out

    return script


@pytest.fixture
def refused(script, capsys):
    """Run an example with arguments that it refuses, and give the message."""

    def refused(name, *arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            script(name, *arguments)
        told = capsys.readouterr().err
        assert stopped.value.code == 2, told
        return told.splitlines()[-1]

    return refused


def accuracy(said):
    return float(re.search(r"accuracy on \d+ test clips: ([\d.]+)%", said).group(1))


@pytest.mark.parametrize(
    "name", [path.relative_to(FOLDER).as_posix() for path in sorted(FOLDER.glob("*")) if path.is_file()]
)
def test_every_example_is_named_in_the_list_of_examples(name):
    if name != "README.md":
        assert f"]({name})" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_quickstart_on_built_in_sounds(script):
    said = script("quickstart.py", "--epochs", 1, "--backbone", "test_resnet")
    assert "accuracy on 200 test clips" in said


def test_quickstart_learns_from_a_folder(script, tones):
    said = script("quickstart.py", tones, "--epochs", 15, "--backbone", "test_resnet")
    losses = [float(value) for value in re.findall(r"loss ([\d.]+)", said)]
    assert len(losses) == 15
    assert losses[-1] < 0.8 * losses[0]


def test_quickstart_refuses_what_is_no_folder(refused, tmp_path):
    assert "no such folder" in refused("quickstart.py", tmp_path / "nothing")
    assert "resnet81" in refused("quickstart.py", "--backbone", "resnet81")


QUICK = ["--no-pretrained", "--backbone", "test_resnet", "--epochs", 1, "--frames", 24]


def test_finetuning_in_the_layout_of_esc_50(script, five_folds, tmp_path):
    out = tmp_path / "run"
    said = script("finetune_esc50.py", five_folds, *QUICK, "--fold", 2, "--out", out)
    assert re.search(r"fold 2: [\d.]+% of 2 test clips\n2-0.wav is a: [ab] ", said)
    recipe = load_recipe(out / "recipe.toml")
    assert (recipe.fold, recipe.frontend, recipe.pretrained) == (2, "tfe4", False)


def test_finetuning_refuses(refused, five_folds, tmp_path):
    assert "no such folder" in refused("finetune_esc50.py", tmp_path / "nothing", *QUICK)
    assert "fold" in refused("finetune_esc50.py", five_folds, *QUICK, "--fold", 6, "--out", tmp_path / "run")
    assert "already there" in refused("finetune_esc50.py", five_folds, *QUICK, "--out", five_folds)


def test_finetuning_on_esc_50_from_imagenet(script, shared, tmp_path):
    weights = shared / "tf_efficientnet_lite0.in1k"
    settings = ["--epochs", 1, "--clips-per-class", 1, "--frames", 64, "--out", tmp_path / "run"]
    said = script("finetune_esc50.py", shared / "esc50_fold4", "--backbone", f"local-dir:{weights}", *settings)
    assert re.search(r"fold 1: [\d.]+% of \d+ test clips\n\S+ is \w+: ", said)
    assert load_recipe(tmp_path / "run" / "recipe.toml").pretrained


def embedding(path):
    """Write an ONNX file that gives the mean absolute value of ten parts of a waveform of a second."""
    graph = """
        <ir_version: 8, opset_import: ["": 18]> g (float[B, 16000] x) => (float[B, 10] y)
        <int64[3] shape = {-1, 10, 1600}, int64[1] axis = {2}>
        {cut = Reshape(x, shape)  loud = Abs(cut)  y = ReduceMean<keepdims = 0>(loud, axis)}
    """
    onnx.save(onnx.parser.parse_model(graph), path)
    return path


SMALL = ["--backbone", "test_resnet", "--epochs", 1, "--clips-per-class", 3]


def test_distillation_from_an_embedding(script, tmp_path):
    said = script("distill_from_onnx.py", embedding(tmp_path / "teacher.onnx"), *SMALL)
    assert re.search(r"a head on 10 values was fitted: [\d.]+%", said)
    assert 0 <= accuracy(said) <= 100


def test_distillation_from_an_exported_model(script, exported, tones, tmp_path):
    root = tmp_path / "words"  # the tones as Speech Commands are laid out
    lists = {"validation": "validation_list.txt", "test": "testing_list.txt"}
    for split in ("train", "validation", "test"):
        names = []
        for clip in sorted((tones / split).rglob("*.wav")):
            name = f"{clip.parent.name}/{split}_nohash_{clip.name}"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, root / name)
            names.append(name)
        if split in lists:
            (root / lists[split]).write_text("\n".join(names) + "\n")
    said = script("distill_from_onnx.py", exported, root, *SMALL)
    assert "a head" not in said  # the teacher knows these classes
    assert "accuracy on 6 test clips" in said


def test_distillation_from_the_speech_embedding(script, shared, tmp_path):
    teacher = tmp_path / "speech_embedding.onnx"
    script("speech_embedding.py", shared / "speech_embedding", teacher)
    said = script("distill_from_onnx.py", teacher, shared / "arabic_speech_commands", *SMALL)
    assert "a head on 288 values was fitted" in said
    assert "accuracy on 1050 test clips" in said


def test_distillation_refuses(refused, tmp_path):
    assert "no such model" in refused("distill_from_onnx.py", tmp_path / "nothing.onnx")
    teacher = embedding(tmp_path / "teacher.onnx")
    assert "no such folder" in refused("distill_from_onnx.py", teacher, tmp_path / "nothing")
    assert "weight" in refused("distill_from_onnx.py", teacher, *SMALL, "--weight", 2)


def test_spectrogram_images_of_a_folder(script, refused, tones, tmp_path):
    from PIL import Image

    said = script("spectrogram_images.py", tmp_path / "images", tones, "--frames", 24)
    assert "train: 24 images of 24 frames and 128 bins" in said
    images = {path.parent.name: path for path in (tmp_path / "images" / "train").rglob("*.png")}
    loudest = {name: np.asarray(Image.open(path)).mean(0).argmax() for name, path in images.items()}
    assert loudest["low"] < loudest["middle"] < loudest["high"]  # a column is a mel bin
    assert "no such folder" in refused("spectrogram_images.py", tmp_path / "more", tmp_path / "nothing")


def test_frontends_picture(script, tones, tmp_path):
    sound, rate = soundfile.read(tones / "test" / "low" / "0.wav")
    soundfile.write(tmp_path / "a.wav", np.tile(sound, 4), rate)
    script("frontends_picture.py", tmp_path / "a.wav", tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_the_scripts_that_draw_and_join_refuse(refused, tmp_path):
    assert "nothing.wav" in refused("frontends_picture.py", tmp_path / "nothing.wav", tmp_path / "picture.png")
    assert "melspectrogram.onnx" in refused("speech_embedding.py", tmp_path, tmp_path / "out.onnx")


# What timm's train.py does with our arguments, in a few lines: timm's package does not have that file.
STAND_IN = """
import argparse
import timm, torch
from timm.data import create_dataset, create_loader

parser = argparse.ArgumentParser()
for name in ("model", "data-dir", "input-img-mode", "opt", "device", "output"):
    parser.add_argument(f"--{name}")
for name in ("num-classes", "in-chans", "epochs", "warmup-epochs", "batch-size", "workers"):
    parser.add_argument(f"--{name}", type=int)
for name in ("lr", "crop-pct", "mean", "std"):
    parser.add_argument(f"--{name}", type=float)
parser.add_argument("--input-size", type=int, nargs=3)
parser.add_argument("--no-aug", action="store_true")
given = parser.parse_args()
model = timm.create_model(given.model, in_chans=given.in_chans, num_classes=given.num_classes)
images = create_dataset("", root=given.data_dir, split="train", is_training=True, input_img_mode=given.input_img_mode)
loader = create_loader(
    images, tuple(given.input_size), given.batch_size, is_training=True, no_aug=given.no_aug, mean=(given.mean,),
    std=(given.std,), num_workers=given.workers, use_prefetcher=False, device=torch.device(given.device),
)
spec, labels = next(iter(loader))
torch.nn.functional.cross_entropy(model(spec), labels).backward()
print(type(model.frontend).__name__, tuple(spec.shape), len(images), given.epochs)
"""


def timm_train(folder, *words):
    environment = os.environ | {"PYTHON": sys.executable}
    environment["PYTHONPATH"] = os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")])
    command = ["sh", str(FOLDER / "timm_train.sh"), *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


needs_sh = pytest.mark.skipif(shutil.which("sh") is None, reason="no sh here")


@needs_sh
def test_timms_script_gets_a_model_and_spectrograms(script, tones, tmp_path):
    script("spectrogram_images.py", tmp_path / "spectrogram-images", tones)
    (tmp_path / "train.py").write_text(STAND_IN)
    for images in ([], ["spectrogram-images"]):  # which are the same: the default is made only where there is none
        done = timm_train(tmp_path, "train.py", *images, "--epochs", 2, "--batch-size", 8)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "TFE (8, 1, 96, 128) 24 2\n"


@needs_sh
def test_timms_script_is_refused_what_is_not_there(tmp_path):
    usage = timm_train(tmp_path)
    assert usage.returncode == 2
    assert "sh examples/timm_train.sh TRAIN_PY" in usage.stderr
    assert "no such file; expected train.py" in timm_train(tmp_path, "train.py").stderr
    (tmp_path / "train.py").touch()
    assert "no images" in timm_train(tmp_path, "train.py", "images").stderr


@needs_sh
@pytest.mark.skipif("TIMM_TRAIN" not in os.environ, reason="timm's package has no train.py; TIMM_TRAIN=PATH names one")
def test_timms_own_script_trains(script, tones, tmp_path):
    script("spectrogram_images.py", tmp_path / "images", tones)
    done = timm_train(tmp_path, Path(os.environ["TIMM_TRAIN"]).resolve(), "images", "--epochs", 1, "--batch-size", 8)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "timm-runs").glob("*tfe4*/summary.csv"))
