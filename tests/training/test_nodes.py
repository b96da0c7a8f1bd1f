"""Two machines in one run: two torchruns or two tasks of Slurm on this machine, which learn what one process learns."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_ranks import assert_same_learning, rows
from torch.distributed import HashStore

from specenhance.training import nodes, run, save_recipe
from specenhance.training.machine import Machine
from specenhance.training.ranks import RankError, free_port

BOUND = 90  # s; for what takes seconds on a machine that does nothing else

SLOW = """
import os
import time

from specenhance.training.module import Classifier

take_step = Classifier.training_step


def slowly(self, *args):
    if self.global_step == int(os.environ["SLOW_STEP"]):
        if self.global_rank == 0:
            print("slow", flush=True)
        time.sleep(1)
    return take_step(self, *args)


Classifier.training_step = slowly
"""


class Node:
    """A torchrun, which stands for one of two machines. A step of its training is slow, so that a test can meet it."""

    def __init__(self, rank: int, port: int, folder: Path, slow_step: int, *args: str) -> None:
        torchrun = ["torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(rank)]
        torchrun += ["--master-addr", "127.0.0.1", "--master-port", str(port), "-m", "specenhance", "--import", "slow"]
        self.errors = folder / f"errors{rank}.txt"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *torchrun, *args],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=folder,
                env=environment(folder) | {"SLOW_STEP": str(slow_step)},
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it as a power cut does: torchrun, and the process that it has started, which is in a session of its own."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for number in (pid, *map(int, children)):
            os.kill(number, signal.SIGKILL)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end, and return the exit code and what was printed."""
        output, _ = self.process.communicate(timeout=BOUND)
        return self.process.returncode, output, self.errors.read_text()


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}


@pytest.fixture
def two(tmp_path):
    """Start ``specenhance train`` on two nodes, and wait until a training step is slow."""
    started = []
    (tmp_path / "slow.py").write_text(SLOW)

    def two(slow_step: int, *args: str) -> list[Node]:
        port = free_port()
        command = ["train", *args, "--device", "cpu", "--nodes", "2", "--no-progress"]
        pair = [Node(rank, port, tmp_path, slow_step, *command) for rank in (0, 1)]
        started.extend(pair)
        assert "slow\n" in pair[0].process.stdout, pair[0].end()
        return pair

    yield two
    for node in started:
        if node.process.poll() is None:
            node.kill()


def test_two_nodes_are_stopped_go_on_and_are_killed_and_one_process_ends_what_they_began(plain, alone, two, tmp_path):
    save_recipe(plain, tmp_path / "r.toml")
    pair = two(1, "--recipe", "r.toml", "--out", "run")
    pair[1].process.send_signal(signal.SIGTERM)
    (code, _, errors), (other_code, silence, other_errors) = (node.end() for node in pair)
    assert code != 0
    assert other_code != 0
    assert "stopped after step 2 of 3 in epoch 1; continue with: specenhance train --resume run" in errors
    assert "continue with" not in other_errors  # one process speaks
    assert silence == ""

    pair = two(4, "--resume", "run")
    assert [row["epoch"] for row in rows(tmp_path / "run")] == [0]
    pair[1].kill()
    code, _, errors = pair[0].end()
    assert code != 0
    assert "error: the process of rank 0 has no connection to another process" in errors
    assert "Traceback" not in errors.partition("error:")[0]
    assert pair[1].end()[0] != 0

    run.resume(tmp_path / "run", device="cpu")
    assert_same_learning(tmp_path / "run", alone[0])


TASK = """
import json
from pathlib import Path

from specenhance.cli import app
from specenhance.training.run import resume

codes = []
for frontend in ("nothing", "tfe2"):
    try:
        app(f"train --recipe r.toml --frontend {frontend} --out run --device cpu --nodes 2 --no-progress".split())
    except SystemExit as end:
        codes.append(end.code)
print(json.dumps([codes, resume(Path("run"), device="cpu", nodes=2)]))
"""


def test_two_tasks_of_slurm_hear_of_a_mistake_and_learn_what_one_process_learns(plain, alone, tmp_path):
    save_recipe(plain, tmp_path / "r.toml")
    slurm = {"JOB_ID": "1", "JOB_NAME": "run", "NTASKS": "2", "NTASKS_PER_NODE": "1", "NNODES": "2", "LOCALID": "0"}
    variables = environment(tmp_path) | {f"SLURM_{name}": value for name, value in slurm.items()}
    variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    tasks = [
        subprocess.Popen(
            [sys.executable, "-c", TASK],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=variables | {"SLURM_PROCID": rank, "SLURM_NODEID": rank},
        )
        for rank in "01"
    ]
    (news, errors), (other_news, other_errors) = (task.communicate(timeout=BOUND) for task in tasks)
    (*lines, result), (other_result,) = news.splitlines(), other_news.splitlines()  # one process speaks
    assert json.loads(result) == json.loads(other_result)  # and all have the result
    assert json.loads(result) == [[1, 0], json.loads((tmp_path / "run" / "result.json").read_text())]
    assert errors.count("error: unknown front end 'nothing'") == 1
    assert "error:" not in other_errors
    assert len([line for line in lines if line.startswith("epoch")]) == 2
    assert_same_learning(tmp_path / "run", alone[0])


def test_several_nodes_need_a_launcher():
    with pytest.raises(
        ValueError, match="nodes = 2: neither torchrun nor Slurm's srun has started this process"
    ) as refused:
        Machine(device="cpu", nodes=2, devices=3)
    assert (
        "torchrun --nnodes 2 --nproc-per-node 3 --node-rank K --master-addr HOST --master-port 29500 -m specenhance train ... "
        "--nodes 2 --devices 3"
    ) in str(refused.value)
    with pytest.raises(ValueError, match="nodes = 0: expected 1 or more"):
        Machine(device="cpu", nodes=0)


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("torchrun", {"TORCHELASTIC_RUN_ID": "1", "RANK": "2", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3"}),
        ("srun", {"SLURM_NTASKS": "6", "SLURM_NTASKS_PER_NODE": "3", "SLURM_PROCID": "2", "SLURM_JOB_NAME": "run"}),
    ],
)
def test_a_launcher_must_have_started_the_processes_of_the_run(name, variables, monkeypatch):
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    machine = Machine(device="cpu", nodes=2, devices=3)
    assert (machine.processes, machine.rank) == (6, 2)
    for machines, devices in ((2, 2), (3, 2)):
        message = (
            f"nodes = {machines} and devices = {devices}: expected {machines * devices} processes, {devices} on each"
        )
        with pytest.raises(ValueError, match=f"{message} machine; {name} has started 6, 3 on this machine"):
            Machine(device="cpu", nodes=machines, devices=devices)


@pytest.fixture
def rank_0(monkeypatch):
    """What the process of rank 0 knows of two processes, of which the other one never comes."""
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # they get their old values back
    address = {"main_address": "127.0.0.1", "main_port": free_port()}
    return SimpleNamespace(global_rank=lambda: 0, world_size=lambda: 2, **address)


def test_a_process_that_does_not_come_is_told(rank_0, monkeypatch):
    for name in ("START", "PATIENCE"):
        monkeypatch.setattr(nodes, name, 1)
    with pytest.raises(
        RankError, match=r"the 2 processes of this run have not met at 127\.0\.0\.1, port \d+, within 1 s"
    ):
        nodes._Team(rank_0)
    monkeypatch.setattr(nodes, "rendezvous", lambda *args, **kwargs: iter([(HashStore(), 0, 2)]))
    with pytest.raises(RankError, match="only 1 of the 2 processes of the run answered within 1 s"):
        nodes._Team(rank_0).lead(lambda: None)


def test_a_process_that_waits_in_vain_for_one_that_failed_is_ended(rank_0, monkeypatch, capfd):
    store, codes = HashStore(), []
    monkeypatch.setattr(nodes, "rendezvous", lambda *args, **kwargs: iter([(store, 0, 2)]))
    monkeypatch.setattr(nodes, "IN_VAIN", 0)
    monkeypatch.setattr(os, "_exit", codes.append)
    team = nodes._Team(rank_0)
    store.set("specenhance/0/failed", json.dumps([1, 0, "the process of rank 1 failed: why"]))
    over = threading.Event()
    team._watch(over)
    assert codes == [1]
    expected = "error: the process of rank 1 failed: why; the process of rank 0 has waited in vain\n"
    assert capfd.readouterr().err == expected
    over.set()  # it has ended by itself
    team._watch(over)
    assert codes == [1]


def test_a_run_folder_that_a_machine_does_not_see_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "together", lambda machine, lead, follow: follow({}, str(tmp_path)))
    with pytest.raises(
        FileNotFoundError, match="does not see this run folder; it must be on a file system that all machines"
    ):
        run.on_all_machines(Machine(device="cpu"), lambda: None)
