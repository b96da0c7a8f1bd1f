"""Runs in several processes: a stop ends all of them, and begins none."""

import os
import signal
import subprocess
import sys
import time

import pytest

SCRIPT = """
import sys, time
from functools import partial
from pathlib import Path
from specenhance.experiments.grid import Run
from specenhance.experiments.jobs import processes
from specenhance.training.recipe import Recipe
from specenhance._stopping import Stopped, stop_signals

def work(run, folder):
    (Path(folder) / f"began-{run.seed}").touch()
    with stop_signals() as stop:
        stop.gentle = True  # as a run that trains
        while stop.requested is None:
            time.sleep(0.01)
        time.sleep(run.seed)  # the steps of the processes do not end together
    (Path(folder) / f"kept-{run.seed}").touch()
    raise Stopped(stop.requested)

if __name__ == "__main__":
    runs = [Run("arm", seed, Path("runs") / str(seed), Recipe()) for seed in range(8)]
    try:
        processes(partial(work, folder=sys.argv[1]), runs, jobs=2)
    except Stopped:
        sys.exit(7)
"""


@pytest.mark.parametrize("ctrl_c", [False, True])
def test_a_stop_keeps_the_steps_that_have_begun_and_begins_no_other_run(tmp_path, ctrl_c):
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "script.py", str(tmp_path)],
        cwd=tmp_path,
        env=os.environ,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("began-*"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline, "no run has begun"
        time.sleep(0.05)
    if ctrl_c:  # a terminal sends it to every process
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 7, error
    assert b"again: ended at once" not in error
    assert b"Traceback" not in error
    assert sorted(path.name for path in tmp_path.glob("*-*")) == ["began-0", "began-1", "kept-0", "kept-1"]
