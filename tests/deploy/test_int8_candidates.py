"""INT8: which candidate is taken, what is known of its loss, and when no file is written."""

import weakref

import numpy as np
import onnx
import pytest
import torch

from specenhance.data import AudioDataset
from specenhance.deploy import int8_candidates
from specenhance.deploy.int8_candidates import Judged, choose, interval, judge, measure_ranges
from specenhance.training import recipe_for
from specenhance.training.build import build_split
from specenhance.training.exporting import clips_for_int8


def judged(right: int, divergence: float) -> Judged:
    return Judged(np.arange(20) < right, divergence)


def test_the_least_divergence_decides():
    assert choose({"a": judged(17, 0.2), "b": judged(17, 0.1)}) == "b"
    # A clip or two that a candidate gets right by luck make it no better than one that gives what float32 gives.
    assert choose({"a": judged(20, 0.3), "b": judged(18, 0.01)}) == "b"


def test_limits_of_a_loss_are_those_that_are_published():
    """Agresti, Categorical Data Analysis: 1,600 people, 150 change from yes to no, 86 from no to yes: 0.02 to 0.06."""
    before = np.array([True] * (794 + 150) + [False] * (86 + 570))
    after = np.array([True] * 794 + [False] * 150 + [True] * 86 + [False] * 570)
    np.testing.assert_allclose(interval(before, after), (0.0213, 0.0587), atol=2e-4)


def test_few_clips_leave_a_loss_open():
    for clips, known in ((20, False), (1000, True)):
        same = np.ones(clips, bool)
        low, high = interval(same, same)
        assert low == pytest.approx(-high)
        assert (high < 0.01) is known


def test_limits_cover_the_loss_that_is_there():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(500):
        change = rng.choice(3, size=180, p=[0.9, 0.06, 0.04])  # kept, lost, gained: a loss of 0.02
        before, after = change != 2, change != 1
        low, high = interval(before, after)
        covered.append(low <= 0.02 <= high)
    assert 0.92 < np.mean(covered) < 0.99


class Clips(AudioDataset):
    """Noise of one level, and a note of how many clips are held at once."""

    def __init__(self, count: int, level: float = 0.1) -> None:
        super().__init__(["high", "low", "middle"], [i % 3 for i in range(count)])
        self.level, self.alive, self.most = level, 0, 0

    def waveform(self, i: int) -> torch.Tensor:
        samples = self.level * torch.randn(4000, generator=torch.Generator().manual_seed(i))
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(samples, self._dropped)
        return samples

    def _dropped(self) -> None:
        self.alive -= 1


@pytest.fixture(scope="module")
def prepared(exported, tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared") / "prepared.onnx"
    int8_candidates.quant_pre_process(exported, path)
    return path


def operators(path):
    return [node for node in onnx.load(path).graph.node if node.op_type in int8_candidates.OPERATORS]


def test_ranges_are_measured_on_a_clip_at_a_time(prepared):
    data = Clips(40)
    ranges = measure_ranges(prepared, operators(prepared), lambda: (data[i][0].numpy() for i in range(40)))
    assert data.most <= 2
    assert set(ranges) == set(int8_candidates.RANGES)
    whole = {name: found.range_value for name, found in ranges["min-max"].items()}
    assert len(whole) > 20
    for found in ranges.values():
        for name, (low, high) in whole.items():
            least, most = found[name].range_value
            assert low <= least <= most <= high


def linear(path, weights):
    """A file that multiplies a waveform of two samples by a number each."""
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("MatMul", ["waveform", "weights"], ["logits"], name="product")],
            "linear",
            [onnx.helper.make_tensor_value_info("waveform", onnx.TensorProto.FLOAT, ["batch", 2])],
            [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 2])],
            [onnx.numpy_helper.from_array(np.diag(weights).astype(np.float32), "weights")],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=10,
    )
    onnx.save(model, path)
    return path


def test_ranges_are_those_of_what_flows(tmp_path):
    path = linear(tmp_path / "linear.onnx", [2.0, -1.0])
    rng = np.random.default_rng(0)
    clips = [rng.uniform(-1, 1, 2).astype(np.float32) for _ in range(20_000)]
    clips[0][:] = 50, 0  # one wild sample, which min-max believes
    ranges = measure_ranges(path, operators(path), lambda: iter(clips))
    assert ranges["min-max"]["logits"].range_value[1] == 100
    assert ranges["min-max"]["waveform"].range_value == (pytest.approx(-1, abs=1e-3), 50)
    low, high = ranges["percentile 99.99"]["logits"].range_value
    assert -2.5 < low < -1.9
    assert 1.9 < high < 2.5
    assert ranges["entropy"]["logits"].range_value[1] < 100


@pytest.mark.parametrize("weight", [0.0, 1e-40])
def test_a_path_that_is_off_has_a_range_too(tmp_path, weight):
    path = linear(tmp_path / "linear.onnx", [weight, weight])
    ranges = measure_ranges(path, operators(path), lambda: iter([np.ones(2, np.float32)]))
    for found in ranges.values():
        assert found["logits"].range_value[1] <= 1e-39


def rows_of(path):
    """Name the convolutions of a file whose kernels are one row, those of its front end."""
    graph = onnx.load(path).graph
    shapes = {weight.name: list(weight.dims)[2:] for weight in graph.initializer}
    return {node.name for node in graph.node if node.op_type == "Conv" and shapes[node.input[1]] == [1, 17]}


def test_operators_outside_the_backbone_stay_and_those_that_may_are_named(exported, prepared):
    inside, outside, floats = int8_candidates._operators(exported, prepared)
    assert {*outside, *(node.name for node in inside)} == {node.name for node in operators(prepared)}
    rows = rows_of(prepared)
    assert len(rows) == 8  # TFE(2): two convolutions, two paths, two blocks
    assert rows <= set(outside)
    assert list(floats) == ["", ", first in float32"]  # this backbone has no depthwise convolution
    assert floats[", first in float32"] == [inside[0].name]


def test_a_file_judged_against_itself_loses_nothing(exported):
    data = Clips(6)
    one, other = judge({"a": exported, "b": exported}, ((data[i][0].numpy(), data[i][1]) for i in range(6))).values()
    assert (one.right == other.right).all()
    assert one.divergence == other.divergence == 0


def test_clips_that_calibrate_choose_and_test_are_others(tones, five_folds):
    clips = clips_for_int8(recipe_for("folder", root=tones), ["high", "low", "middle"], 10)
    assert (len(clips.calibration[1]), len(clips.choosing[1]), len(clips.test), clips.named) == (
        10,
        6,
        6,
        "validation clips",
    )
    folder = {clip.parents[1].name for clip in clips.choosing[0].paths}
    assert folder == {"validation"}
    esc50 = recipe_for("esc50", root=five_folds, fold=2)
    # It has no validation clips: what it gives for them is what it tests.
    clips = clips_for_int8(esc50, build_split(esc50, "train").classes, 300)
    train, calibrating = clips.calibration
    assert clips.choosing[0] is train
    assert not set(calibrating) & set(clips.choosing[1])
    assert (len(calibrating), len(clips.choosing[1]), len(clips.test)) == (6, 2, 2)
    assert not set(train.paths) & set(clips.test.paths)
