"""Where the kernels cannot run: "auto" falls back and says so once, "triton" says why, and Triton is not imported."""

import importlib.util
import logging
import subprocess
import sys

import pytest
import torch

from specenhance.frontends import TFE
from specenhance.mask_path import dispatch

NO_TRITON = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name.partition(".")[0] == "triton" else find(name, *rest)
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "triton":
            raise ImportError("no triton, says the test")
sys.meta_path.insert(0, Missing())
"""


def python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_auto_on_a_cpu_is_the_torch_path_and_says_so_once(caplog, monkeypatch):
    monkeypatch.setattr(dispatch, "_logged", set())
    frontend, spec = TFE(n=1), torch.randn(2, 1, 9, 7)
    with caplog.at_level(logging.DEBUG, logger="specenhance.mask_path.dispatch"):
        outs = [frontend(spec) for _ in range(3)]
    assert torch.equal(outs[0], dispatch.enhance(spec, frontend.weights(), "torch"))
    assert [record.message for record in caplog.records] == [
        "backend='auto' uses the factorised form in PyTorch: the spectrogram is on 'cpu', and the fused kernels are for "
        "CUDA and ROCm"
    ]


def test_auto_on_a_cpu_compiles_whole_and_imports_no_triton_of_its_own():
    python(
        "import sys, torch\nfrom specenhance.frontends import TFE\nbefore = 'triton' in sys.modules\n"
        "TFE(n=1)(torch.randn(2, 1, 9, 7))\n"
        "assert ('triton' in sys.modules) == before and 'specenhance_kernels' not in sys.modules"
    )
    compiled = torch.compile(TFE(n=1), fullgraph=True, backend="eager")
    assert compiled(torch.randn(2, 1, 9, 7)).shape == (2, 1, 9, 7)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_triton_on_a_cpu_says_why():
    # In a process of its own: whether kernels are interpreted is settled when Triton is imported.
    python(
        "import os; os.environ.pop('TRITON_INTERPRET', None)\nimport torch\nfrom specenhance.frontends import TFE\n"
        "try:\n    TFE(n=1, backend='triton')(torch.randn(2, 1, 9, 7))\n"
        "except ValueError as error:\n"
        "    assert \"on 'cpu'\" in str(error) and 'TRITON_INTERPRET=1' in str(error), error\n"
        "else:\n    raise AssertionError('ran')"
    )


def test_without_triton():
    python(
        NO_TRITON + "import torch\nfrom specenhance.frontends import TFE\nTFE(n=1)(torch.randn(2, 1, 9, 7))\n"
        "try:\n    TFE(n=1, backend='triton')\nexcept ValueError as error:\n"
        "    assert 'Triton is not installed' in str(error), error\nelse:\n    raise AssertionError('made')"
    )
