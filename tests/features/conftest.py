"""speechbrain as a judge. It runs in a process of its own: it fills ``sys.modules`` with modules that fail when looked at."""

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor


@pytest.fixture
def speechbrain(tmp_path: Path) -> Callable[..., list[Tensor]]:
    """Give a function that runs code with tensors by their names, and returns the tensors of its list ``found``."""
    if find_spec("speechbrain") is None:
        pytest.skip("speechbrain is not installed: there is no judge")

    def run(code: str, **given: Tensor) -> list[Tensor]:
        torch.save(given, tmp_path / "given.pt")
        script = f"import torch\nglobals().update(torch.load('given.pt'))\n{code}\ntorch.save(found, 'found.pt')"
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return torch.load(tmp_path / "found.pt")

    return run
