"""Stopped anywhere, a run goes on within its epoch and ends as if nothing had happened."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from test_run import QUIET, assert_same_end

from specenhance._stopping import Stopped, StopSignals, stop_signals
from specenhance.training import load_recipe
from specenhance.training.module import Classifier
from specenhance.training.run import resume, train


@pytest.fixture(scope="module")
def recipe(quick):
    """Three epochs of five steps, the last of them short."""
    return quick.replace(batch_size=5, mixup=0.5)


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(recipe, out, **QUIET)
    return out


@pytest.fixture
def signal_at(monkeypatch):
    """Send a signal to this process in the middle of a training step, counted from 0 over the whole run."""

    def at(step: int, signum: int) -> None:
        take_step = Classifier.training_step

        def take_step_or_signal(self, *args):
            if self.global_step == step and self.global_rank == 0:
                os.kill(os.getpid(), signum)
            return take_step(self, *args)

        monkeypatch.setattr(Classifier, "training_step", take_step_or_signal)

    return at


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [0, 7, 9, 14])
def test_a_stop_costs_one_step_at_most(recipe, whole, tmp_path, signal_at, monkeypatch, step, signum, news):
    signal_at(step, signum)
    with pytest.raises(Stopped) as stopped:
        train(recipe, tmp_path / "run", **QUIET)
    assert stopped.value.signum == signum
    epoch, done = divmod(step + 1, 5)
    where = f"after step {done} of 5 in epoch {epoch + 1}" if done else f"after epoch {epoch}"
    assert str(stopped.value) == f"stopped {where}; continue with: specenhance train --resume {tmp_path / 'run'}"
    monkeypatch.undo()
    news.clear()
    resume(tmp_path / "run", device="cpu")
    if done:
        assert any(line.endswith(f"in epoch {epoch + 1}, {done} of 5 steps done") for line in news), news
    assert_same_end(whole, tmp_path / "run")


MACHINES = [
    {"workers": 1},
    {"workers": 2},
    {"workers": 2, "cache": "folder"},
    {"cache": "memory"},
    {"workers": 1, "features_on": "worker"},
]


@pytest.mark.parametrize("machine", MACHINES, ids=str)
def test_what_reads_the_clips_does_not_matter_to_a_resumed_run(
    recipe, whole, tmp_path, signal_at, monkeypatch, machine
):
    machine = {name: str(tmp_path / "cache") if value == "folder" else value for name, value in machine.items()}
    if "features_on" in machine:  # mix-up draws where the clips are read: its own whole run is the measure
        whole = tmp_path / "whole"
        train(recipe, whole, **machine, **QUIET)
    for step in (7, 11):  # within the second epoch, and again within the third
        signal_at(step, signal.SIGTERM)
        with pytest.raises(Stopped):
            (train if step == 7 else resume)(*([recipe] if step == 7 else []), tmp_path / "run", **machine, **QUIET)
        monkeypatch.undo()
    resume(tmp_path / "run", **machine, **QUIET)
    assert_same_end(whole, tmp_path / "run")


def test_two_processes_stop_at_one_step_and_go_on(quick, tmp_path):
    # Clips of one length: else the mean loss of the epoch, not the weights, may differ in its last digit.
    still = {"crop": "start", "time_mask": 0, "freq_mask": 0, "shift": 0, "noise": 0.0}
    recipe = quick.replace(backbone="test_vit", frames=48, batch_size=6, epochs=2, **still)
    train(recipe, tmp_path / "whole", devices=2, **QUIET)
    command = [sys.executable, "-c", STOP_AT_STEP, str(tmp_path / "run"), str(tmp_path / "whole"), "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert "stopped after step 2 of 4 in epoch 2" in done.stdout, done.stdout + done.stderr
    resume(tmp_path / "run", devices=2, **QUIET)
    assert_same_end(tmp_path / "whole", tmp_path / "run")


STOP_AT_STEP = """
import os, signal, sys
from pathlib import Path
from specenhance.training import load_recipe
from specenhance.training.checkpoints import Keeper
from specenhance.training.run import train
from specenhance._stopping import Stopped

end = Keeper.on_train_batch_end
def end_or_signal(self, trainer, *args):
    if trainer.global_step == int(sys.argv[3]) + 1:
        os.kill(os.getpid(), signal.SIGTERM)  # to rank 0 alone: a spawned process does not import this
    return end(self, trainer, *args)
Keeper.on_train_batch_end = end_or_signal

if __name__ == "__main__":
    try:
        train(load_recipe(Path(sys.argv[2]) / "recipe.toml"), Path(sys.argv[1]), device="cpu", devices=2)
    except Stopped as stopped:
        print(stopped)
"""


def command(recipe, out, *more):
    fields = ("frames", "bins", "epochs", "batch_size", "lr", "time_mask", "freq_mask", "shift", "noise", "mixup")
    line = [sys.executable, "-m", "specenhance", "train", "--data", "folder", "--root", recipe.root]
    line += ["--backbone", recipe.backbone, "--frontend", recipe.frontend, "--out", str(out), "--device", "cpu"]
    return [*line, "--no-progress", *(f"--set={name}={getattr(recipe, name)}" for name in fields), *more]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_says_how_to_go_on_and_exits_as_a_shell_expects(recipe, whole, tmp_path, signum, code):
    recipe = recipe.replace(epochs=2000)
    process = subprocess.Popen(
        [*command(recipe, tmp_path / "run", "--workers", "1")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for line in process.stdout:
        if line.startswith("epoch "):
            break
    os.killpg(process.pid, signum)  # as a terminal and Slurm do: to the workers too
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert re.search(r"stopped after (step \d of 5 in )?epoch \d+; continue with: specenhance train --resume", errors)
    assert "Traceback" not in output + errors


def test_a_second_signal_ends_it_at_once_and_nothing_is_broken(recipe, whole, tmp_path):
    process = subprocess.Popen(
        command(recipe.replace(epochs=2000), tmp_path / "run"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("epoch   2/"):  # one checkpoint is written
            break
    process.send_signal(signal.SIGSTOP)  # so that both are there before the step is finished
    for signum in (signal.SIGINT, signal.SIGTERM):
        process.send_signal(signum)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (130, 143)
    assert "again: ended at once" in errors or "stopped after" in errors
    assert load_recipe(tmp_path / "run" / "recipe.toml").epochs == 2000
    found = list((tmp_path / "run" / "checkpoints").glob("*.ckpt"))
    assert found
    assert all(torch.load(path, weights_only=True)["state_dict"] for path in found)


def test_outside_of_steps_a_signal_acts_at_once_and_the_old_handlers_come_back():
    def be_stopped() -> None:
        with stop_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stopped:
        be_stopped()
    assert stopped.value.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    assert not issubclass(Stopped, Exception)  # no handler of failures may swallow it


def test_where_no_signal_can_be_heard_a_run_still_runs():
    import threading

    found = []

    def listen():
        with stop_signals() as stop:
            found.append(stop)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert isinstance(found[0], StopSignals)


def test_a_stop_before_the_first_step_leaves_no_half_made_folder(recipe, tmp_path, monkeypatch):
    from specenhance.training import prepare as preparing

    def stopped(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr(preparing, "check_sounds", stopped)
    with pytest.raises(Stopped):
        train(recipe, tmp_path / "run", **QUIET)
    assert not (tmp_path / "run").exists()


def test_a_batch_sampler_hears_the_epoch_from_lightning(recipe):
    from lightning.fabric.utilities.data import _set_sampler_epoch

    from specenhance.training.batches import loader
    from specenhance.training.build import build_split

    batches = loader(build_split(recipe, "train"), recipe, train=True)
    _set_sampler_epoch(batches, 3)
    assert batches.batch_sampler.epoch == 3


def test_two_epochs_have_two_orders(recipe, tmp_path, monkeypatch):
    seen = []
    take_step = Classifier.training_step

    def note(self, batch, i):
        seen.append((self.current_epoch, tuple(batch.waveform.sum(1).tolist())))
        return take_step(self, batch, i)

    monkeypatch.setattr(Classifier, "training_step", note)
    train(recipe.replace(epochs=2, crop="start"), tmp_path / "run", **QUIET)
    orders = [[x for at, sums in seen if at == epoch for x in sums] for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]


def test_paths_of_a_run_are_kept_whole(whole):
    assert Path(load_recipe(whole / "recipe.toml").root).is_absolute()
