"""Data sets and models that a caller gives as objects."""

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset, random_split
from typer.testing import CliRunner

from specenhance import FrontendModel, KaldiFbank, with_frontend
from specenhance.cli import app
from specenhance.training import recipe_for, resume, train
from specenhance.training.store import load_model, load_stored

RATE = 16000


class Tones(Dataset):
    """Low and high tones of several lengths, as 16-bit samples."""

    def __init__(self, count=24, classes=("low", "high")):
        self.count = count
        if classes:
            self.classes = classes

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        label = i % 2
        time = np.arange(1600 + 80 * (i % 5)) / RATE
        wave = np.sin(2 * np.pi * (300, 3000)[label] * time + i) * 8000
        return wave.astype(np.int16), label


def splits(**parts):
    return {"train": Tones(), "validation": Tones(8), "test": Tones(8)} | parts


def recipe(**changes):
    return recipe_for(
        "given", **{"frontend": "tfe1", "backbone": "test_resnet", "epochs": 2, "mean": 0, "std": 4} | changes
    )


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def test_a_data_set_of_the_caller_is_trained_on(tmp_path, news):
    result = train(recipe(), tmp_path / "run", data=splits(), device="cpu")
    assert result["classes"] == ["low", "high"]
    assert result["recipe"]["data"] == "given"
    assert any("24 training clips of 0.10 to 0.12 s" in line for line in news)  # fitted to it, as to a folder
    assert load_model(tmp_path / "run").classes == ["low", "high"]
    assert (tmp_path / "run" / "enhanced.png").is_file()


def test_a_part_of_a_data_set_and_a_tensor_data_set(tmp_path):
    whole = TensorDataset(torch.randn(24, 1600).clamp(-1, 1), torch.arange(24) % 3)
    a, b, c = random_split(whole, [12, 6, 6])
    result = train(recipe(epochs=1), tmp_path / "run", data={"train": a, "validation": b, "test": c}, device="cpu")
    assert result["classes"] == ["0", "1", "2"]


def test_a_stopped_run_wants_its_objects_back_and_ends_as_one_that_was_not_stopped(tmp_path):
    whole = train(recipe(), tmp_path / "whole", data=splits(), model=small(), device="cpu")
    train(recipe(epochs=1, schedule="constant"), tmp_path / "run", data=splits(), model=small(), device="cpu")
    with pytest.raises(ValueError, match="data set that was given as an object; give it again, as data="):
        resume(tmp_path / "run", epochs=2)
    with pytest.raises(ValueError, match="model of this run was given as an object; give it again, as model="):
        resume(tmp_path / "run", epochs=2, data=splits())
    other = small()
    result = resume(tmp_path / "run", epochs=2, data=splits(), model=other, device="cpu")
    straight = train(recipe(schedule="constant"), tmp_path / "straight", data=splits(), model=small(), device="cpu")
    assert result["test_accuracy"] == straight["test_accuracy"]
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (
        tmp_path / "straight" / "model.safetensors"
    ).read_bytes()
    assert whole["parameters"] == result["parameters"]


def test_a_timm_model_of_the_caller_is_stored_whole(tmp_path):
    model = with_frontend(timm.create_model("test_resnet", in_chans=1, num_classes=2), "tfe2", kernel_size=5)
    first = [p.detach().clone() for p in model.parameters()]
    train(recipe(), tmp_path / "run", data=splits(), model=model, device="cpu")
    assert any(not torch.equal(a, b) for a, b in zip(first, model.parameters(), strict=True))  # itself, not a copy
    stored = load_stored(tmp_path / "run")
    assert stored.recipe.backbone == "given:ResNet"
    assert (stored.recipe.frontend, stored.recipe.frontend_args) == ("tfe2", {"kernel_size": 5})
    for name, tensor in stored.model.backbone.state_dict().items():
        assert torch.equal(tensor, model.backbone.state_dict()[name])


def test_a_model_with_features_decides_them(tmp_path):
    features = KaldiFbank(frames=16, num_mel_bins=64, mean=1.0, std=3.0)
    model = with_frontend(timm.create_model("test_resnet", in_chans=1, num_classes=2), "identity", features=features)
    result = train(recipe(mean=None, std=None), tmp_path / "run", data=splits(), model=model, device="cpu")
    made = result["recipe"]
    assert (made["frames"], made["bins"], made["mean"], made["std"], made["frontend"]) == (16, 64, 1.0, 3.0, "identity")


def test_of_a_model_that_no_name_makes_the_weights_are_kept(tmp_path, news):
    model = small()
    train(recipe(frontend="identity"), tmp_path / "run", data=splits(), model=model, device="cpu")
    assert any("only hold the model's weights" in line for line in news)
    with pytest.raises(FileNotFoundError, match="given as an object and cannot be made again"):
        load_model(tmp_path / "run")
    fresh = FrontendModel(small(), with_frontend(small(), "identity").frontend)
    safetensors.torch.load_model(fresh, tmp_path / "run" / "model.safetensors")
    assert torch.equal(fresh.backbone[3].weight, model[3].weight)


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({"test": None}, ValueError, r"splits 'train', 'validation'; expected 'train', 'validation', 'test'"),
        ({"test": [(np.zeros(0, "float32"), 0)]}, ValueError, r"data\['test'\]\[0\]: sound of shape \(0,\)"),
        ({"test": [(np.full(9, np.nan, "float32"), 0)]}, ValueError, r"data\['test'\]\[0\]: samples of magnitude nan"),
        (
            {"test": [(np.zeros(9, "float32"), 2)]},
            ValueError,
            r"data\['test'\]\[0\]: label 2, expected one of 2 classes",
        ),
        (
            {"test": [(np.zeros(9, "float32"), 0.5)]},
            TypeError,
            r"data\['test'\]\[0\]: label 0.5, expected a whole number",
        ),
        ({"test": [np.zeros(9, "float32")]}, TypeError, r"data\['test'\]\[0\]: expected a pair .* not ndarray"),
    ],
)
def test_a_faulty_item_is_named_before_anything_is_written(parts, error, message, tmp_path):
    data = {split: part for split, part in splits(**parts).items() if part is not None}
    with pytest.raises(error, match=message):
        train(recipe(), tmp_path / "run", data=data, device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_model_of_another_number_of_classes_is_refused_before_training(tmp_path):
    model = timm.create_model("test_resnet", in_chans=1, num_classes=5)
    with pytest.raises(ValueError, match=r"gives shape \(2, 5\) for 2 sounds: expected logits of shape \(2, 2\)"):
        train(recipe(), tmp_path / "run", data=splits(), model=model, device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_model_that_takes_something_else_is_refused_before_training(tmp_path):
    with pytest.raises(
        ValueError, match="the model does not take these sounds: mat1 and mat2 shapes cannot be multiplied"
    ):
        train(
            recipe(), tmp_path / "run", data=splits(), model=nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), device="cpu"
        )
    assert not (tmp_path / "run").exists()


def test_one_model_does_not_train_on_each_fold(tmp_path):
    with pytest.raises(ValueError, match="only one was given; choose a fold from 1 on"):
        train(recipe_for("esc50", root=tmp_path, frontend="tfe1"), tmp_path / "run", model=small(), device="cpu")


def test_the_commands_say_where_the_data_is(tmp_path):
    train(recipe(epochs=1), tmp_path / "run", data=splits(), device="cpu")
    found = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run")])
    assert found.exit_code == 1
    assert "the data set is an object of Python, which a run folder does not hold" in found.output
