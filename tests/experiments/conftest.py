"""Data for the experiments."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def speech(tones, tmp_path_factory) -> Path:
    """The tones in the layout of Speech Commands."""
    root = tmp_path_factory.mktemp("speech")
    lists = {"validation": [], "test": [], "train": []}
    for split, names in lists.items():
        for file in sorted((tones / split).rglob("*.wav")):
            (root / file.parent.name).mkdir(exist_ok=True)
            name = f"{file.parent.name}/{split}{file.name}"
            (root / name).write_bytes(file.read_bytes())
            names.append(name)
    (root / "validation_list.txt").write_text("\n".join(lists["validation"]))
    (root / "testing_list.txt").write_text("\n".join(lists["test"]))
    return root
