"""A run of one process, for those of several to be compared with."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from specenhance.training import Recipe


@pytest.fixture(scope="session")
def plain(quick: Recipe, tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Nothing random, no batch norm (which would see half a batch), and odd numbers of clips to validate and test."""
    root = tmp_path_factory.mktemp("odd") / "tones"
    shutil.copytree(tones, root)
    for split in ("validation", "test"):
        shutil.copy(root / "train" / "low" / "0.wav", root / split / "low" / "odd.wav")
    still = {"time_mask": 0, "freq_mask": 0, "shift": 0, "noise": 0.0}
    return quick.replace(root=root, backbone="test_vit", frames=48, batch_size=8, epochs=2, **still)


@pytest.fixture(scope="session")
def alone(plain: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The run folder and the result of one process."""
    from specenhance.training.run import train

    out = tmp_path_factory.mktemp("alone") / "run"
    return out, train(plain, out, device="cpu")
