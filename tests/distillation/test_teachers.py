"""Teachers stay as they are, wherever they come from."""

import copy

import pytest
import timm
import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from specenhance.distillation.registry import create_teacher
from specenhance.distillation.teachers import FrozenTeacher, logits_of, timm_teacher


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 5))


class Student(nn.Module):
    def __init__(self, teacher: FrozenTeacher) -> None:
        super().__init__()
        self.own = nn.Linear(2, 2)
        self.teacher = teacher


@pytest.fixture
def x():
    return torch.randn(4, 1, 3, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("made", [torch.jit.script, lambda module: torch.jit.trace(module, torch.zeros(2, 12))])
def test_a_torchscript_model_may_teach(made):
    module = nn.Linear(12, 5)
    x = torch.randn(3, 12)
    taught = FrozenTeacher(made(module))(x)
    assert torch.equal(taught, module(x))
    assert not taught.requires_grad


def test_a_teacher_is_frozen_and_hidden(x):
    module = net()
    model = Student(FrozenTeacher(module)).train()
    assert sorted(model.state_dict()) == ["own.bias", "own.weight"]
    assert [name for name, _ in model.named_parameters()] == ["own.weight", "own.bias"]
    assert not list(model.buffers())
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not module.training
    first = model.teacher(x.requires_grad_())
    assert not first.requires_grad
    assert torch.equal(first, model.teacher(x))  # no dropout, no new running means
    module.train()  # somebody else's doing
    assert torch.equal(first, model.teacher(x))


def test_logits_are_found_in_whatever_a_model_gives(x):
    logits = torch.randn(4, 5)
    for output in (logits, SequenceClassifierOutput(logits=logits), {"logits": logits}):
        assert torch.equal(FrozenTeacher(lambda _, output=output: output)(x), logits)
    assert torch.equal(logits_of(SequenceClassifierOutput(logits=logits)), logits)
    for output in ((logits,), {"scores": logits}, None):
        with pytest.raises(TypeError, match=r"the model gave .*expected logits \(B, C\), or an output with 'logits'"):
            FrozenTeacher(lambda _, output=output: output)(x)


def test_a_teacher_follows_its_student(x):
    module = net()
    model = Student(FrozenTeacher(module))
    model.double()
    assert {p.dtype for p in module.parameters()} == {torch.float64}
    assert model.teacher(x.double()).dtype == torch.float64
    model.to("meta")
    assert {p.device.type for p in [*module.parameters(), *module.buffers()]} == {"meta"}


def test_a_transform_that_is_a_module_follows_too():
    transform = nn.BatchNorm2d(1, affine=False).eval()
    FrozenTeacher(net(), transform=transform).double()
    assert transform.running_mean.dtype == torch.float64


def test_a_precision_of_its_own_is_kept(x):
    module = net()
    model = Student(FrozenTeacher(copy.deepcopy(module), dtype=torch.float64))
    expected = module.double().eval()(x.double())
    model.half()
    assert model.own.weight.dtype == torch.float16
    assert {p.dtype for p in model.teacher.teacher.parameters()} == {torch.float64}
    taught = model.teacher(x)
    assert taught.dtype == torch.float64
    assert torch.allclose(taught, expected, rtol=1e-12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.teacher(x), taught)


def test_a_device_of_its_own_is_kept(x):
    model = Student(FrozenTeacher(net(), device="cpu"))
    model.to("meta")
    assert model.own.weight.device.type == "meta"
    assert {p.device.type for p in model.teacher.teacher.parameters()} == {"cpu"}


def test_a_transform_brings_the_input_to_the_teacher(x):
    teacher = FrozenTeacher(net(), transform=lambda spec: 2 * spec - 1)
    assert torch.equal(teacher(x), FrozenTeacher(net())(2 * x - 1))
    longer = FrozenTeacher(
        timm.create_model("test_vit", in_chans=1, num_classes=5, img_size=(32, 32)),
        transform=lambda spec: nn.functional.pad(spec, (0, 0, 0, 8)),
    )
    assert longer(torch.randn(2, 1, 24, 32)).shape == (2, 5)


def test_a_copy_has_a_teacher_of_its_own(x):
    teacher = FrozenTeacher(net())
    twin = copy.deepcopy(teacher)
    assert twin.teacher is not teacher.teacher
    assert torch.equal(twin(x), teacher(x))


def test_what_is_no_teacher_is_refused():
    with pytest.raises(TypeError, match="teacher: expected a model or a function that gives logits, got str"):
        FrozenTeacher("ast")
    with pytest.raises(TypeError, match=r"dtype=torch\.int64: expected a floating type"):
        FrozenTeacher(net(), dtype=torch.int64)


def test_any_timm_model_may_teach(tmp_path):
    spec = torch.randn(2, 1, 24, 32)
    torch.manual_seed(0)
    model = timm_teacher("test_resnet", 5, pretrained=False).eval()
    assert model(spec).shape == (2, 5)
    assert timm_teacher("test_vit", 5, frames=32, bins=48, pretrained=False)(torch.randn(2, 1, 32, 48)).shape == (2, 5)
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    again = timm_teacher(f"local-dir:{tmp_path}", 5).eval()
    assert torch.equal(model(spec), again(spec))
    assert timm_teacher(f"local-dir:{tmp_path}", 3)(spec).shape == (2, 3)


def test_a_teacher_that_cannot_be_found_is_said(tmp_path):
    with pytest.raises(
        ValueError, match=r"weights of 'local-dir:.*' could not be fetched.*--no-pretrained.*local-dir:FOLDER"
    ):
        timm_teacher(f"local-dir:{tmp_path}", 5)
    with pytest.raises(ValueError, match="'mobilenetv3_smal' is no timm model; did you mean one of"):
        timm_teacher("mobilenetv3_smal", 5)


def test_a_function_of_a_module_in_the_current_folder_makes_a_teacher(tmp_path, monkeypatch):
    (tmp_path / "my_teachers.py").write_text(
        "import torch\n"
        "def loud(rest, *, classes, sample_rate):\n"
        "    assert (rest, sample_rate) == ('', 8000)\n"
        "    return lambda spec: torch.arange(float(len(classes))).expand(len(spec), -1)\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    sizes = {"frames": 8, "bins": 4, "sample_rate": 8000}
    assert create_teacher("my_teachers:loud", ["a", "b"], **sizes)(torch.zeros(1, 1, 8, 4)).tolist() == [[0.0, 1.0]]
    with pytest.raises(ValueError, match=r"my_teachers:number.*is int; expected a function"):
        create_teacher("my_teachers:number", ["a"], **sizes)
    with pytest.raises(ValueError, match=r"has no attribute 'quiet'"):
        create_teacher("my_teachers:quiet", ["a"], **sizes)
    with pytest.raises(ValueError, match=r"No module named 'astt'.*one of ast, embedding, .*before the colon"):
        create_teacher("astt:folder", ["a"], **sizes)
