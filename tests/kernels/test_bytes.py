"""The byte model: checked against counts by hand, and against the floor."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed: the kernels' plan cannot be imported")

from specenhance.frontends.tfe import tfe_channels
from specenhance_kernels.plan import Plan

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "kernels_bytes.py"
spec = importlib.util.spec_from_file_location("kernels_bytes", PATH)
model = importlib.util.module_from_spec(spec)
sys.modules["kernels_bytes"] = model
spec.loader.exec_module(model)


def plan(n: int, batch: int, T: int = 512, F: int = 128) -> Plan:
    return Plan(batch, T, F, tfe_channels(n), 17)


def test_planes_are_counted_once_a_pass():
    moved = model.stages(plan(1, 48), 4, need_spec=True)
    plane = 48 * 512 * 128 * 4
    sums, factors = 48 * (512 + 8 * 128) * 4, 48 * (512 + 128) * 4
    assert moved["pool"] == plane + sums
    assert moved["apply"] == 2 * plane + factors
    assert moved["backward of apply"] == 2 * plane + factors + sums
    assert moved["backward of spectrogram"] == 2 * plane + 2 * factors


def test_multiply_adds_of_the_formula():
    # Each of a path's 44,081 weights meets each position once.
    needed, made = model.multiply_adds(plan(4, 1))
    assert needed == 640 * 44_081
    assert made < 2.2 * needed


def test_forward_against_the_floor():
    # What the stages add to the planes is small for TFE(1); TFE(4)'s 1-D data counts, and is arithmetic's price.
    for batch in (48, 256, 1024):
        for n, most in ((1, 1.65), (4, 6.0)):
            call = plan(n, batch)
            moved = model.stages(call, 4)
            forward = moved["pool"] + moved["chain"] + moved["apply"]
            assert 1.0 <= forward / model.floor(call, 4) < most


def test_no_stage_of_the_chain_moves_a_plane_a_channel():
    call = plan(4, 48)
    assert model.stages(call, 4)["chain"] < 32 * 48 * 512 * 128 * 4 / 3


def test_saved_is_what_the_operator_makes():
    call = plan(4, 48)
    values = sum(a * b * c * (d[0] if d else 1) for a, b, c, *d in call.saved_shapes().values())
    assert values * 4 < 4 * 48 * 512 * 128 * 4  # bytes: under four spectrograms for 65 channels of 1-D data
    assert call.segments == 16
    assert plan(1, 1, 5, 4).segments == 1
