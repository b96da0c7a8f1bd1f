"""ONNX models as teachers: what they take, how their output is read, and what is refused."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from specenhance.distillation.onnx import OnnxTeacher

CLASSES = ["no", "yes", "stop"]
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(800, 3)).astype(np.float32)


def save(path, shape, nodes, out, metadata=None, **constants):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, out)
    graph = helper.make_graph(
        nodes, "g", [x], [y], [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {key: json.dumps(value) for key, value in (metadata or {}).items()})
    onnx.save(model, path)
    return path


def linear(path, shape=("B", 800), metadata=None):
    return save(path, list(shape), [helper.make_node("MatMul", ["x", "w"], ["y"])], ["B", 3], metadata, w=WEIGHT)


@pytest.fixture
def sound():
    return torch.from_numpy(RNG.normal(size=(4, 800)).astype(np.float32))


def test_a_classifier_of_the_same_classes_gives_logits_in_the_students_order(tmp_path, sound):
    path = linear(tmp_path / "m.onnx", metadata={"classes": ["stop", "no", "yes"]})
    teacher = OnnxTeacher(path, CLASSES, sample_rate=16000)
    assert not teacher.needs_head
    expected = (sound.double().numpy() @ WEIGHT)[:, [1, 2, 0]]
    np.testing.assert_allclose(teacher(sound), expected, rtol=1e-4, atol=1e-3)


def test_any_other_model_is_an_embedding(tmp_path, sound):
    assert OnnxTeacher(linear(tmp_path / "a.onnx"), CLASSES, sample_rate=16000).needs_head
    other = OnnxTeacher(
        linear(tmp_path / "b.onnx", metadata={"classes": ["cat", "dog", "cow"]}), CLASSES, sample_rate=16000
    )
    assert other.needs_head
    np.testing.assert_allclose(other(sound), sound.double().numpy() @ WEIGHT, rtol=1e-4, atol=1e-3)


def test_clips_are_padded_or_cut_to_a_fixed_length(tmp_path, sound):
    teacher = OnnxTeacher(linear(tmp_path / "m.onnx"), CLASSES, sample_rate=16000)
    longer = torch.cat([sound, torch.ones(4, 50)], 1)
    assert torch.equal(teacher(longer), teacher(sound))
    shorter = sound.clone()
    shorter[:, 700:] = 0
    assert torch.equal(teacher(sound[:, :700]), teacher(shorter))


def test_a_model_of_another_rate_gets_resampled_waveforms(tmp_path):
    teacher = OnnxTeacher(linear(tmp_path / "m.onnx", metadata={"sample_rate": 8000}), CLASSES, sample_rate=16000)
    time = np.arange(1600) / 16000
    tone = np.sin(2 * np.pi * 440 * time)[None].astype(np.float32)
    same = np.sin(2 * np.pi * 440 * np.arange(800) / 8000) @ WEIGHT
    np.testing.assert_allclose(teacher(torch.from_numpy(tone))[0], same, atol=0.05 * np.abs(same).max())


def test_a_model_whose_clips_change_each_other_is_run_clip_by_clip(tmp_path, sound):
    """Its level is relative to the largest value of the whole batch."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=1),
        helper.make_node("Div", ["x", "top"], ["level"]),
        helper.make_node("MatMul", ["level", "w"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", ["B", 800], nodes, ["B", 3], w=WEIGHT)
    teacher = OnnxTeacher(path, CLASSES, sample_rate=16000)
    together = teacher(sound * torch.tensor([1.0, 5.0, 0.1, 2.0])[:, None])
    assert torch.allclose(together, teacher(sound), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [[800], ["B", 1, 800]])
def test_other_shapes_of_waveforms_and_a_time_axis(tmp_path, sound, shape):
    """The output of a clip is (windows, D): 4 windows of 200 samples."""
    nodes = [helper.make_node("Reshape", ["x", "size"], ["y"])]
    dims = [4, 200] if len(shape) == 1 else ["B", 4, 200]
    constant = np.array([4, 200] if len(shape) == 1 else [-1, 4, 200])
    teacher = OnnxTeacher(save(tmp_path / "m.onnx", shape, nodes, dims, size=constant), CLASSES, sample_rate=16000)
    assert torch.allclose(teacher(sound), sound.reshape(4, 4, 200).mean(1), atol=1e-6)


def test_what_is_no_model_from_waveforms_is_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match=r"text\.onnx cannot be read as an ONNX model"):
        OnnxTeacher(tmp_path / "text.onnx", CLASSES, sample_rate=16000)
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    picture = save(tmp_path / "p.onnx", ["B", 3, 8, 8], nodes, ["B", 3, 8, 8])
    with pytest.raises(ValueError, match=r"takes x tensor\(float\).*expected one waveform"):
        OnnxTeacher(picture, CLASSES, sample_rate=16000)
    number = save(tmp_path / "n.onnx", [], nodes, [])
    with pytest.raises(ValueError, match=r"takes x tensor\(float\)\[\].*expected one waveform"):
        OnnxTeacher(number, CLASSES, sample_rate=16000)
    scalar = save(tmp_path / "s.onnx", ["B", 800], [helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0)], [])
    with pytest.raises(ValueError, match=r"gave \(\) for 1 clip"):
        OnnxTeacher(scalar, CLASSES, sample_rate=16000)(torch.zeros(1, 800))
