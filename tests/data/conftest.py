from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture
def shared() -> Path:
    folder = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder}")
    return folder


@pytest.fixture
def write() -> Callable[..., Path]:
    """Write a sine to an audio file, whose folder is made."""

    def write(path: Path, seconds: float = 0.1, rate: int = 16000, channels: int = 1, frequency: float = 440.0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(round(seconds * rate)) / rate
        wave = 0.5 * np.sin(2 * np.pi * frequency * time)
        soundfile.write(path, np.stack([wave] * channels, axis=1), rate)
        return path

    return write
