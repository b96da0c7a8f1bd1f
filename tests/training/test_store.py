"""What a run keeps of its model, read back without Lightning and without pickle."""

import json
import subprocess
import sys
import warnings

import pytest
import safetensors
import safetensors.torch
import torch

import specenhance
from specenhance import timm_teacher
from specenhance.training import load_model, load_stored, save_model, save_recipe
from specenhance.training.build import build_model
from specenhance.training.store import save_pretrained


@pytest.fixture
def run(quick, tmp_path):
    recipe = quick.replace(mean=-4.0, std=2.0)
    save_recipe(recipe, tmp_path / "recipe.toml")
    save_model(build_model(recipe, 3).to(memory_format=torch.channels_last), ["high", "low", "naïve"], tmp_path)
    return tmp_path


def test_a_model_comes_back_with_its_classes_and_recipe(run, quick):
    stored = load_stored(run)
    assert stored.classes == ["high", "low", "naïve"]
    assert stored.recipe == quick.replace(mean=-4.0, std=2.0)
    assert not stored.model.training
    waveform = torch.randn(2, 4000)
    again = specenhance.load_model(run)
    assert torch.equal(stored.model(waveform), again(waveform))
    assert again(waveform).shape == (2, 3)


def test_a_run_folder_and_a_saved_model_are_read_by_the_same_names(run, tmp_path):
    model = specenhance.FrontendModel.from_pretrained(run)
    assert model.classes == ["high", "low", "naïve"]
    waveform = torch.randn(2, 4000)
    load_model(run).save_pretrained(tmp_path / "saved")
    for again in (load_model(tmp_path / "saved"), specenhance.FrontendModel.from_pretrained(tmp_path / "saved")):
        assert again.classes == ["high", "low", "naïve"]
        assert not again.training
        assert torch.equal(again(waveform), model(waveform))


def test_what_is_written_may_be_read_as_the_umask_says(run):
    (run / "other").touch()
    for name in ("model.safetensors", "config.json", "recipe.toml"):
        assert (run / name).stat().st_mode == (run / "other").stat().st_mode


def test_loading_a_model_does_not_load_lightning(run):
    code = (
        f"import sys, specenhance; specenhance.load_model({str(run)!r});"
        "print([name for name in ('lightning', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_folder_that_is_no_run_is_said(tmp_path, run):
    with pytest.raises(FileNotFoundError, match=r"no training run, it has no recipe\.toml"):
        load_model(tmp_path / "none")
    (run / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"finish it: specenhance train --resume"):
        load_model(run)
    (run / "fold2").mkdir()
    (run / "fold2" / "model.safetensors").touch()
    with pytest.raises(FileNotFoundError, match="give one of its folds, fold2"):
        load_model(run)


def test_a_teachers_own_form_is_stored_without_a_warning_and_says_that_its_input_is_normalised(run, quick, caplog):
    model = load_model(run)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_pretrained(model, ["high", "low", "naïve"], run)
    assert not caplog.records
    config = json.loads((run / "pretrained" / "config.json").read_text())["pretrained_cfg"]
    assert (config["mean"], config["std"]) == ([0.0], [1.0])
    spec = torch.randn(2, 1, 24, 32)
    again = timm_teacher(f"local-dir:{run / 'pretrained'}", 3).eval()
    assert torch.equal(again(spec), model.backbone(spec))


def test_weights_of_another_model_are_refused(run, quick):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"frontend": {"name": "tfe1", "in_chans": 1}}))
    with pytest.raises(ValueError, match=r"model\.safetensors does not fit the config\.json"):
        load_model(run)


def test_weights_from_elsewhere_are_refused(run):
    safetensors.torch.save_file({"a": torch.zeros(1)}, run / "model.safetensors")
    with pytest.raises(ValueError, match=r"does not fit the config\.json"):
        load_model(run)
    (run / "model.safetensors").write_bytes(b"half a fi")
    with pytest.raises(ValueError, match="cannot be read"):
        load_model(run)


def test_a_byte_of_the_weights_that_changed_is_found_and_the_file_named(run):
    path = run / "model.safetensors"
    whole = path.read_bytes()
    for at in range(0, len(whole), len(whole) // 100):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ValueError, match=r"model\.safetensors: damaged, .*; copy or download it again"):
            load_model(run)


def test_a_run_from_before_there_were_checksums_is_read(run):
    path = run / "model.safetensors"
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = {key: text for key, text in file.metadata().items() if key != "sha256"}
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, metadata=metadata)
    assert load_stored(run).classes == ["high", "low", "naïve"]
