"""Sound for the tests: made on the spot, or the real recordings where they lie beside the checkout."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from specenhance.training import Recipe, recipe_for


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        warning = "warning: " if record.levelno >= logging.WARNING else ""
        self.lines.append(warning + record.getMessage())


@pytest.fixture(scope="session")
def listening() -> Callable[[], AbstractContextManager[list[str]]]:
    """Keep what the library logs while a block runs, news and warnings, as the command line shows it."""

    @contextmanager
    def listening() -> Iterator[list[str]]:
        logger, kept = logging.getLogger("specenhance"), _Kept()
        level = logger.level
        logger.addHandler(kept)
        logger.setLevel(logging.INFO)
        try:
            yield kept.lines
        finally:
            logger.removeHandler(kept)
            logger.setLevel(level)

    return listening


@pytest.fixture
def news(listening: Callable[[], AbstractContextManager[list[str]]]) -> Iterator[list[str]]:
    """What the library logs during a test."""
    with listening() as lines:
        yield lines


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder}")
    return folder


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    """Write a sine to an audio file, whose folder is made."""

    def write(path: Path, seconds: float = 0.1, rate: int = 16000, channels: int = 1, frequency: float = 440.0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(round(seconds * rate)) / rate
        wave = 0.5 * np.sin(2 * np.pi * frequency * time)
        soundfile.write(path, np.stack([wave] * channels, axis=1), rate)
        return path

    return write


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three classes of noisy tones, 12 clips of a quarter of a second each, split 20, 8 and 8."""
    root = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    time = np.arange(4000) / 16000
    for label, frequency in (("low", 300), ("middle", 900), ("high", 2700)):
        for split, clips in (("train", 8), ("validation", 2), ("test", 2)):
            (root / split / label).mkdir(parents=True)
            for i in range(clips):
                tone = np.sin(2 * np.pi * frequency * rng.uniform(0.8, 1.25) * time)
                soundfile.write(root / split / label / f"{i}.wav", 0.3 * tone + 0.03 * rng.standard_normal(4000), 16000)
    return root


@pytest.fixture(scope="session")
def five_folds(tmp_path_factory: pytest.TempPathFactory, write: Callable[..., Path]) -> Path:
    """Two classes, a clip of each in every fold, in the layout of ESC-50."""
    root = tmp_path_factory.mktemp("five_folds")
    rows = ["filename,fold,target,category"]
    for fold in range(1, 6):
        for target in range(2):
            write(root / "audio" / f"{fold}-{target}.wav", seconds=0.2, frequency=400 * (target + 1))
            rows.append(f"{fold}-{target}.wav,{fold},{target},{'ab'[target]}")
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="session")
def quick(tones: Path) -> Recipe:
    """A recipe that trains in seconds."""
    return recipe_for(
        "folder",
        root=tones,
        backbone="test_resnet",
        frontend="tfe2",
        frames=24,
        bins=32,
        epochs=3,
        batch_size=8,
        lr=1e-3,
        time_mask=4,
        freq_mask=4,
        shift=3,
        noise=0.01,
    )


@pytest.fixture(scope="session")
def untrained(quick: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as training leaves it, of a model that learned nothing."""
    import torch

    from specenhance.training import save_model, save_recipe
    from specenhance.training.build import build_model

    folder = tmp_path_factory.mktemp("untrained")
    recipe = quick.replace(mean=-4.0, std=2.0)
    save_recipe(recipe, folder / "recipe.toml")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_model(build_model(recipe, 3), ["high", "low", "middle"], folder)
    return folder


@pytest.fixture(scope="session")
def exported(untrained: Path) -> Path:
    """Its model as an ONNX file."""
    from specenhance.training.exporting import export_run as export

    return export(untrained)
