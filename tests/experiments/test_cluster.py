"""Runs on a Ray cluster: lost workers, errors, and what the driver is left with. Ray stays out of the tests' own process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from specenhance._stopping import Stopped
from specenhance.cli import program
from specenhance.data.registry import DATA, list_data
from specenhance.experiments import cluster
from specenhance.experiments.compare import compare
from specenhance.experiments.grid import Run
from specenhance.experiments.plan import Plan, save_plan
from specenhance.training import artefacts
from specenhance.training import run as running
from specenhance.training.folder import locked
from specenhance.training.recipe import Recipe
from specenhance.training.store import read_history

SOUNDS = """
import time
from pathlib import Path

from specenhance.data.registry import register_data
from specenhance.data.synthetic import SyntheticSounds


@register_data("few_sounds", frames=48, epochs=3, batch_size=8)
class FewSounds(SyntheticSounds):
    def __init__(self, split, seed=0, sample_rate=16000):
        super().__init__(split, clips_per_class=2, seed=seed, sample_rate=sample_rate, seconds=0.5)


def work(run):
    Path(f"{run.name}.begun").touch()
    if run.name == "bad":
        raise FileNotFoundError("no clips")
    time.sleep(60 if run.name == "slow" else 1)
    Path(f"{run.name}.done").touch()
"""

# The workers import it: it notes each epoch, and kills a worker after the second epoch of a run, before its checkpoint.
MORTAL = """
import logging
import os
import signal
from pathlib import Path

from specenhance.experiments import mirror
from specenhance.training import artefacts, run

artefacts.draw_pictures = run.draw_pictures = lambda *_: None  # they take half the time
mirror.EVERY = 0.02


class Epochs(logging.Handler):
    def emit(self, record):
        text = record.getMessage()
        if text.startswith("epoch"):
            with Path("epochs.txt").open("a") as file:
                file.write(text.split("loss")[0] + "\\n")
        if text.startswith("epoch   2/"):
            try:
                Path("kill").unlink()
            except FileNotFoundError:
                return
            os.kill(os.getpid(), signal.SIGKILL)


logging.getLogger("specenhance").setLevel(logging.INFO)
logging.getLogger("specenhance").addHandler(Epochs())
"""

DRIVER = """
import json
import logging
import os
import shutil
import signal
import threading
from functools import partial
from pathlib import Path

import few_sounds
import ray

from specenhance._imports import import_modules
from specenhance.experiments import cluster
from specenhance.experiments.compare import compare
from specenhance.experiments.grid import Run
from specenhance.experiments.plan import load_plan


class Kept(logging.Handler):
    def emit(self, record):
        news.append(record.getMessage())


def state():
    return [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), logging.getLogger("ray").level, {**os.environ}]


news, end = [], {}
logging.getLogger("specenhance").addHandler(Kept())
import_modules(["few_sounds", "mortal"])
before = state()
plan = load_plan(Path("compare.toml"))
place = partial(cluster.on_ray, address="local")
names = ["good", "bad", "third", "fourth", "fifth", "sixth"]
try:
    place(few_sounds.work, [Run("one", 0, Path("one"), None)], cpus=10000)
except ValueError as error:
    end["too many"] = str(error)
with cluster._connected("local", cpus=1, runs=2):  # one cluster for all, because a start takes seconds
    Path("kill").touch()
    compare(plan, Path("shared"), place, device="cpu")
    Path("epochs.txt").rename("shared/epochs.txt")
    end["news"] = news.copy()

    # The store has a run as another cluster has left it, after two of three epochs.
    run = Path("shared/runs/tfe1/seed1")
    for name in ("recipe.toml", "clips.jsonl", "checkpoints/best.safetensors"):
        Path("store/tfe1/seed1", name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(run / name, Path("store/tfe1/seed1", name))
    shutil.copy(run / "checkpoints/previous.ckpt", "store/tfe1/seed1/checkpoints/last.ckpt")
    stored = partial(place, store="store")
    compare(plan, Path("stored"), stored, device="cpu")
    Path("epochs.txt").rename("stored/epochs.txt")

    news.clear()
    compare(plan, Path("stored"), stored, device="cpu")
    end["news of a comparison that is done"] = news.copy()
    compare(plan, Path("elsewhere"), stored, device="cpu")
    try:
        place(few_sounds.work, [Run(name, 0, Path.cwd() / name, None) for name in names])
    except FileNotFoundError as error:
        end["error"] = str(error)
    threading.Timer(1, os.kill, [os.getpid(), signal.SIGTERM]).start()
    try:
        place(few_sounds.work, [Run("slow", 0, Path("slow"), None)])
    except KeyboardInterrupt:
        end["stopped"] = True
end["left"] = [str(value) for value, was in zip(state(), before, strict=True) if value != was]
end["connected"] = ray.is_initialized()
Path("end.json").write_text(json.dumps(end))
"""


def processes_of(text: str) -> list[int]:
    """List the other processes that have a text in their environment."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            if text.encode() in file.read_bytes() and file.parent.name != str(os.getpid()):
                found.append(int(file.parent.name))
        except OSError:  # it has ended, or is another user's
            continue
    return found


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder of the driver when it has ended. Beside its comparisons it has one that was executed in this process."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("the system does not say which processes are left")
    folder = tmp_path_factory.mktemp("cluster")
    for name, text in {"few_sounds": SOUNDS, "mortal": MORTAL, "driver": DRIVER}.items():
        (folder / f"{name}.py").write_text(text)
    of_ray = tempfile.mkdtemp(prefix="ray-")  # short, because the path of a socket can have no more than 107 characters
    environment = os.environ | {"RAY_TMPDIR": of_ray, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        list_data()
        patch.setattr(DATA, "_entries", DATA._entries.copy())  # other tests in this process must not find the data set
        patch.syspath_prepend(folder)
        import few_sounds  # noqa: F401

        for module in (artefacts, running):
            patch.setattr(module, "draw_pictures", lambda *_: None)
        plan = Plan(
            recipe={"data": "few_sounds", "backbone": "test_resnet", "bins": 32},
            factors={"frontend": ["identity", "tfe1"]},
            seeds=2,
        )
        save_plan(plan, folder)
        driver = subprocess.Popen(
            [sys.executable, "driver.py"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            torch.set_num_threads(1)
            compare(plan, folder / "undisturbed", device="cpu")
            said = driver.communicate(timeout=240)[0]
            assert driver.returncode == 0, said
            end = time.monotonic() + 20
            while left := processes_of(of_ray):
                assert time.monotonic() < end, left
                time.sleep(0.1)
        finally:
            torch.set_num_threads(threads)
            driver.kill()
            for process in processes_of(of_ray):
                os.kill(process, signal.SIGKILL)
            shutil.rmtree(of_ray, ignore_errors=True)
    return folder


def found(comparison: Path) -> dict:
    content = json.loads((comparison / "compare.json").read_text())
    for arm in content["arms"]:
        assert arm.pop("seconds") > 0
        assert arm.pop("latency")
    return content


# How often each of the three epochs was trained in four runs. The killed run had a checkpoint of its first epoch only.
@pytest.mark.parametrize(("name", "trained"), [("shared", [4, 5, 4]), ("stored", [3, 3, 4])])
def test_a_comparison_whose_runs_are_taken_up_ends_as_an_undisturbed_one(name, trained, ended):
    assert found(ended / name) == found(ended / "undisturbed")
    lines = (ended / name / "epochs.txt").read_text().splitlines()
    assert [sum(f" {epoch}/3" in line for line in lines) for epoch in (1, 2, 3)] == trained
    for run in (ended / name / "runs").glob("*/*"):
        assert [row["epoch"] for row in read_history(run)] == [0, 1, 2]


def test_begin_and_end_of_runs_are_told(ended):
    news = json.loads((ended / "end.json").read_text())["news"]
    for name in ("identity, seed0", "identity, seed1", "tfe1, seed0", "tfe1, seed1"):
        assert sum(line.startswith(f"{name} begins on ") for line in news) == 1
        assert sum(line.startswith(f"{name} is done") for line in news) == 1


def test_what_is_done_is_not_done_again(ended):
    assert json.loads((ended / "end.json").read_text())["news of a comparison that is done"] == ["4 of 4 runs are done"]
    assert found(ended / "elsewhere") == found(ended / "undisturbed")  # it came from the store
    assert not (ended / "epochs.txt").exists()


def test_the_first_error_is_raised_and_names_its_run(ended):
    end = json.loads((ended / "end.json").read_text())
    assert end["error"] == "bad, bad: no clips"
    assert (ended / "good.done").exists() or not (ended / "good.begun").exists()  # what has begun is finished
    assert not (ended / "sixth.begun").exists()


def test_more_cpus_than_there_are_are_refused(ended):
    assert "10000 CPUs for each run: this machine has" in json.loads((ended / "end.json").read_text())["too many"]


def test_a_stop_signal_stops_the_runs(ended):
    assert json.loads((ended / "end.json").read_text())["stopped"]
    assert not (ended / "slow.done").exists()


def test_nothing_of_ray_is_left_in_the_driver(ended):
    end = json.loads((ended / "end.json").read_text())
    assert end["left"] == []
    assert not end["connected"]


# ---- Without a cluster.


def test_a_worker_that_is_to_stop_ends_so_that_ray_places_its_run_anew(tmp_path, monkeypatch):
    def leave(code):
        raise SystemExit(code)

    def stop(run):
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(os, "_exit", leave)
    steps = cluster._execute(stop, Run("tfe1", 0, tmp_path / "run", Recipe()), "", torch.get_num_threads(), [])
    assert next(steps).endswith(f"process {os.getpid()}")
    with pytest.raises(SystemExit):
        next(steps)


def test_a_run_waits_until_a_worker_that_was_only_cut_off_gives_up(tmp_path):
    done, taken = [], threading.Event()

    def cut_off():
        with locked(tmp_path / "run"):
            taken.set()
            time.sleep(0.3)
            done.append("cut off")

    other = threading.Thread(target=cut_off)
    other.start()
    taken.wait()
    run = Run("tfe1", 0, tmp_path / "run", Recipe())
    list(cluster._execute(lambda run: done.append(run.name), run, "", torch.get_num_threads(), []))
    other.join()
    assert done == ["cut off", "tfe1"]


def run(*args: object):
    return CliRunner().invoke(
        program.app, ["compare", "--data", "synthetic", "--frontends", "identity,tfe1", *map(str, args)]
    )


def test_the_options_reach_the_cluster(tmp_path, monkeypatch):
    def on_ray(work, runs, address, *, cpus, store):
        raise ValueError(f"{len(runs)} runs at {address}, {cpus} CPUs each, in {store}")

    monkeypatch.setattr(cluster, "on_ray", on_ray)
    done = run("--out", tmp_path, "--ray", "10.0.0.1:6379", "--cpus-per-run", 4, "--store", "s3://bucket/a")
    assert done.exit_code == 1
    assert "2 runs at 10.0.0.1:6379, 4 CPUs each, in s3://bucket/a" in done.output
    done = run("--out", tmp_path, "--ray", "local")
    assert "2 runs at local, 1 CPUs each, in \n" in done.output


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        (("--ray", "local", "--jobs", 2), "leave --jobs or --ray out"),
        (("--ray", "ray://10.0.0.1:10001"), "run the command in the cluster, with auto"),
        (("--store", "s3://bucket/a"), "add --ray local or --ray ADDRESS"),
        (("--cpus-per-run", 2), "add --ray local or --ray ADDRESS"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_together_are_refused(options, cure, tmp_path):
    done = run("--out", tmp_path / "out", *options)
    assert done.exit_code == 1
    assert cure in done.output
    assert not (tmp_path / "out" / "runs").exists()


def test_a_missing_ray_is_told_with_its_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = run("--out", tmp_path, "--ray", "local")
    assert done.exit_code == 1
    assert "running on a cluster needs Ray: pip install ray" in done.output


def test_an_unknown_protocol_is_told_before_a_cluster_starts(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", type(sys)("ray"))
    done = run("--out", tmp_path, "--ray", "local", "--store", "nowhere://bucket")
    assert done.exit_code == 1
    assert "nowhere" in done.output
