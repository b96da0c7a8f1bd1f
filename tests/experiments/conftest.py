"""Data for the experiments."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from specenhance.experiments.compare import compare
from specenhance.experiments.plan import Plan


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


@pytest.fixture(scope="session")
def sites(tmp_path_factory) -> Path:
    """Tones of three classes from six sites, a table of them with the site of each."""
    root = tmp_path_factory.mktemp("sites")
    rng = np.random.default_rng(0)
    time = np.arange(4000) / 16000
    rows = ["path,label,site"]
    for site in range(6):
        for label, frequency in (("low", 300), ("middle", 900), ("high", 2700)):
            for i in range(2):
                name = f"{label}-{site}-{i}.wav"
                tone = np.sin(2 * np.pi * frequency * rng.uniform(0.8, 1.25) * time)
                soundfile.write(root / name, 0.3 * tone + 0.03 * rng.standard_normal(4000), 16000)
                rows.append(f"{name},{label},site {site}")
    (root / "clips.csv").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="session")
def plan(sites) -> Plan:
    """A comparison that takes seconds: two arms, three folds by site, one seed."""
    return Plan(
        recipe={"data": "folder", "root": str(sites), "csv": str(sites / "clips.csv"), "backbone": "test_resnet"}
        | {"frames": 24, "bins": 32, "epochs": 2, "batch_size": 8, "lr": 1e-3, "folds": 3, "group": "site"},
        factors={"frontend": ["identity", "tfe1"]},
        conditions=["gain:-12"],
        hypothesis="Does <b>TFE</b> help?",
    )


@pytest.fixture(scope="session")
def compared(plan, tmp_path_factory) -> Path:
    """The folder of that comparison, finished."""
    out = tmp_path_factory.mktemp("compared") / "out"
    compare(plan, out, device="cpu")
    return out
