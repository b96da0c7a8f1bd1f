"""A comparison that is killed again and again finds what an undisturbed one finds, to the last digit."""

import json
import os
import random
import subprocess
import sys
import time

import pytest
from test_compare import figures

from specenhance.experiments.plan import to_toml
from specenhance.training.store import read_history

KILLS = 5


@pytest.mark.parametrize("seed", [0])
def test_kills_at_random_moments_change_no_digit(compared, plan, tmp_path, seed):
    (tmp_path / "plan.toml").write_text(to_toml(plan))
    out = tmp_path / "out"
    command = [sys.executable, "-u", "-m", "specenhance", "compare", str(tmp_path / "plan.toml")]
    command += ["--out", str(out), "--device", "cpu"]
    rng = random.Random(seed)
    killed = []
    while len(killed) < KILLS:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        lines = [process.stdout.readline() for _ in range(rng.randint(2, 8))]  # it has begun
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        process.communicate()
        assert process.returncode < 0, lines  # it was not at its end
        killed.append(lines[-1])
    end = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    assert end.returncode == 0, end.stdout + end.stderr
    assert figures(out) == figures(compared)
    for run in plan.runs(out):
        assert [row["epoch"] for row in read_history(run.folder)] == [0, 1]
    assert len(json.loads((out / "compare.json").read_text())["arms"]) == 2
