"""What a model answers by: the same facts for the same model in any process, other facts for any other."""

import os
import subprocess
import sys

import pytest
import timm
import torch
from torch import nn

from specenhance.distillation.fingerprint import facts


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "lstm", "ast"])
def test_the_models_of_libraries_can_be_told_from_others(name):
    def make() -> nn.Module:
        torch.manual_seed(0)
        if name == "lstm":
            return nn.LSTM(4, 4)
        if name == "ast":
            transformers = pytest.importorskip("transformers")
            sizes = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 16}
            return transformers.ASTForAudioClassification(transformers.ASTConfig(**sizes))
        return timm.create_model(name, num_classes=3)

    first, second = (facts(make(), "teacher") for _ in range(2))
    assert not first.unknown
    assert first.known == second.known
    assert len(first.known) > 20
    assert not any("0x" in value for value in first.known.values())  # no address in memory


PROCESS = """
import torch
from specenhance.distillation.fingerprint import facts

class Chooses(torch.nn.Module):
    names = ("a", "b")
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 3)
        self.known = {"x", "y", "z"}
        self.table = {"one": [1, torch.float32], "two": frozenset("abc")}
        self.table["itself"] = self.table
    def forward(self, x, kind="p"):
        return self.layer(x) if kind in {"p", "q", "r"} else (lambda: x + 1)()

found = facts(Chooses(), "model")
print(found.unknown, sorted(found.known.items()))
"""


def test_another_process_finds_the_same():
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROCESS], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    (output,) = outputs
    assert output.startswith("{} [('__main__.Chooses.")


def test_parts_that_are_shared_and_parts_that_hold_each_other_are_told():
    shared, loop = nn.Linear(2, 2), nn.Module()
    loop.list = [loop]
    found = facts(nn.Sequential(shared, shared, loop), "m")
    assert found.known["m.1"] == "the same as m.0"
    assert found.known["m.2.list[0]"] == "the same as m.2"
    assert facts(nn.Sequential(shared, nn.Linear(2, 2)), "m").known["m.1"] != "the same as m.0"


@pytest.mark.parametrize("tensor", [torch.eye(3).to_sparse(), torch.empty(2, device="meta")])
def test_a_tensor_that_cannot_be_read_stays_unknown(tensor):
    module = nn.Module()
    module.register_buffer("table", tensor)
    assert list(facts(module, "m").unknown) == ["m.table"]
    assert facts(module, "m", weights=False).known["m.table"].startswith("torch.float32 (")


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float16, torch.bfloat16, torch.complex64])
def test_tensors_of_any_type_are_told_by_their_values(dtype):
    first, second, third = (facts(torch.tensor(values).to(dtype), "t").known for values in ([0, 1], [0, 1], [1, 1]))
    assert first == second != third
    assert facts(torch.zeros(0, 3, dtype=dtype), "t").known != facts(torch.zeros(3, 0, dtype=dtype), "t").known
    assert facts(torch.ones(2, 3, dtype=dtype).T, "t") == facts(torch.ones(3, 2, dtype=dtype), "t")
