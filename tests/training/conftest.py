"""A recipe that trains in seconds."""

from pathlib import Path

import pytest

from specenhance.training import Recipe, recipe_for


@pytest.fixture(scope="session")
def quick(tones: Path) -> Recipe:
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
