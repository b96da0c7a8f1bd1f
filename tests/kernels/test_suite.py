"""The kernels' suite, in the interpreter everywhere and on CUDA where there is a GPU.

Each file of ``suite/`` is a pytest session of its own: ``TRITON_INTERPRET`` must be set before anything imports Triton, and
must not be seen by the rest of the tests.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed: the fused kernels cannot be tested here")

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path.name for path in (ROOT / "tests" / "kernels" / "suite").glob("test_*.py"))


def run(name: str, device: str, interpret: bool) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"SPECENHANCE_KERNEL_DEVICE": device} | ({"TRITON_INTERPRET": "1"} if interpret else {})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", f"tests/kernels/suite/{name}"],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.parametrize("name", FILES)
def test_in_the_interpreter(name):
    run(name, "cpu", interpret=True)


@pytest.mark.parametrize("name", FILES)
def test_on_the_gpu(name):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA or ROCm GPU here: the kernels were run in Triton's interpreter only")
    run(name, "cuda", interpret=False)
