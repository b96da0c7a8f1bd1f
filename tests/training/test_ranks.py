"""Two processes on one batch: the loss, the weights and the counts of one."""

import csv
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from lightning.fabric.plugins.environments import LightningEnvironment

from specenhance.training import save_recipe
from specenhance.training.batches import NO_LABEL, loader
from specenhance.training.build import build_split
from specenhance.training.machine import Machine, make_trainer
from specenhance.training.ranks import RankError, ranks
from specenhance.training.run import resume, train


def rows(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def assert_same_learning(run: Path, one: Path) -> None:
    """The figures, the weights, the confusions and the files of a run are those of a run of one process."""
    for ours, theirs in zip(rows(run), rows(one), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, one)]
    assert results[0]["test_accuracy"] == pytest.approx(results[1]["test_accuracy"])
    # Seven clips, once each.
    assert (run / "confusion_matrix.csv").read_text() == (one / "confusion_matrix.csv").read_text()
    ours, theirs = (safetensors.torch.load_file(folder / "model.safetensors") for folder in (run, one))
    for name, tensor in theirs.items():
        assert torch.allclose(ours[name], tensor, atol=1e-4), name
    assert {path.name for path in run.iterdir()} == {path.name for path in one.iterdir()}


def test_two_processes_learn_what_one_learns(plain, alone, tmp_path, news):
    out, (one, _) = tmp_path / "run", alone
    train(plain, out, device="cpu", devices=2)
    assert_same_learning(out, one)
    assert len([line for line in news if line.startswith("epoch")]) == 2  # one process speaks
    assert len(list((out / "tensorboard").iterdir())) == len(list((one / "tensorboard").iterdir()))  # and one writes
    assert not torch.distributed.is_initialized()
    assert "LOCAL_RANK" not in os.environ


def test_a_run_of_two_processes_is_killed_and_resumed_by_one(plain, alone, tmp_path):
    save_recipe(plain, tmp_path / "r.toml")
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "specenhance",
        "train",
        "--recipe",
        str(tmp_path / "r.toml"),
        "--out",
        str(out),
    ]
    command += ["--device", "cpu", "--devices", "2", "--no-progress"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch   1/2"):
            break
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(100):  # the others notice
        if not any(Path(f"/proc/{child}").exists() for child in children):
            break
        time.sleep(0.1)
    else:
        pytest.fail("a process outlived its run")
    resume(out, device="cpu")
    for ours, theirs in zip(rows(out), rows(alone[0]), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize("devices", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [20, 8])
def test_together_the_devices_meet_the_batches_of_one(quick, devices, batch_size):
    data = build_split(quick, "train")  # 24 clips
    recipe = quick.replace(batch_size=batch_size)

    def batches(devices: int, rank: int) -> list[torch.Tensor]:
        made = loader(data, recipe, train=True, devices=devices, rank=rank)
        made.batch_sampler.set_epoch(3)
        return [batch.waveform.sum(1) for batch in made]

    parts = [batches(devices, rank) for rank in range(devices)]
    together = [torch.cat(of_a_step) for of_a_step in zip(*parts, strict=True)]
    if devices == 4 and batch_size == 20:  # four clips left over, one for each device: they join the batch before
        assert [len(batch) for batch in together] == [24]
        return
    for ours, expected in zip(together, batches(1, 0), strict=True):
        assert torch.equal(ours.sort().values, expected.sort().values)


def test_a_short_last_batch_is_filled_so_that_every_device_has_its_part(quick):
    data = build_split(quick, "train").subset(range(23))
    parts = [loader(data, quick.replace(batch_size=10), train=True, devices=2, rank=rank) for rank in range(2)]
    assert [[len(batch.label) for batch in part] for part in parts] == [[5, 7], [5, 7]]  # 13 clips and one again


@pytest.mark.parametrize("devices", [2, 4])
def test_in_evaluation_every_clip_counts_once(quick, devices):
    data = build_split(quick, "test")  # 6 clips
    labels = [
        torch.cat([batch.label for batch in loader(data, quick, train=False, devices=devices, rank=rank)])
        for rank in range(devices)
    ]
    assert len({len(share) for share in labels}) == 1
    counted = torch.cat(labels)
    assert sorted(counted[counted != NO_LABEL].tolist()) == sorted(data.labels)


def test_a_batch_that_cannot_be_shared_is_refused(plain, tmp_path):
    with pytest.raises(ValueError, match=r"batch_size = 8 is the batch of all 3 devices together.*a multiple of 3"):
        train(plain, tmp_path / "run", device="cpu", devices=3)
    with pytest.raises(ValueError, match="devices = 0: expected 1 or more"):
        train(plain, tmp_path / "run", device="cpu", devices=0)
    with pytest.raises(ValueError, match="features_on = 'server': expected one of device, worker"):
        train(plain, tmp_path / "run", device="cpu", devices=2, features_on="server")
    assert not (tmp_path / "run").exists()


def test_two_processes_of_one_slurm_task_are_not_taken_for_one(monkeypatch):
    # As sbatch sets them for a script that starts the command without srun.
    for name, value in {"SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_JOB_NAME": "run"}.items():
        monkeypatch.setenv(name, value)
    trainer = make_trainer(Machine(device="cpu", devices=2), logger=False, enable_checkpointing=False)
    assert isinstance(trainer.strategy.cluster_environment, LightningEnvironment)


def fail() -> None:
    raise ValueError("of rank 1")


def test_the_failure_of_another_process_is_told():
    with pytest.raises(RankError, match="the process of rank 1 failed: of rank 1"), ranks(2, fail):
        pass


def test_the_failure_of_another_process_is_told_before_what_it_does_to_this_one():
    def meet_it() -> None:
        with ranks(2, fail):
            end = time.monotonic() + 120
            while multiprocessing.active_children() and time.monotonic() < end:  # a busy machine takes its time
                time.sleep(0.1)
            raise RuntimeError("connection closed by peer")

    with pytest.raises(RankError, match="the process of rank 1 failed: of rank 1") as caught:
        meet_it()
    assert "closed by peer" in str(caught.value.__cause__)
