"""The devices and processes of a run, and Lightning's trainer for them."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from specenhance._choices import Device, FeaturesOn, require
from specenhance.inference import chosen_device

__all__ = ["ACCELERATORS", "MEMORY", "Machine", "launcher", "make_trainer", "precision_on"]

ACCELERATORS: dict[Device, str] = {"auto": "auto", "cpu": "cpu", "cuda": "gpu", "mps": "mps"}

MEMORY = "memory"  # Machine.cache: not a folder


@dataclass(frozen=True)
class Machine:
    """The devices and processes that a run uses.

    They do not change the result, apart from rounding, and from the draws of mix-up with ``features_on="worker"``.

    Attributes:
        device: device that computes. ``"auto"`` uses a GPU if there is one.
        devices: number of devices of each machine that share each batch. Each device has its own process.
        nodes: number of machines that share each batch. With more than one, torchrun or Slurm's srun has started all processes,
            and each does the same.
        workers: number of processes that read clips for each device. With 0 the main process reads them.
        features_on: place where spectrograms are made: the model's ``"device"``, or each ``"worker"`` that reads clips.
        cache: place where decoded waveforms are kept: ``"memory"``, or the path of a folder. ``""`` keeps none.
        teacher_cache: folder in which the teacher's logits of augmented views are kept, for all runs that meet the same ones.
            ``""`` keeps none.
        loggers: where figures are logged besides the run folder, names of :data:`specenhance.training.loggers.LOGGERS` with
            commas between them.
        progress: whether to show a progress bar.

    Raises:
        ValueError: for a value out of its range, a device that this machine does not have, or ``nodes`` and ``devices`` that
            differ from the processes that torchrun or srun has started.

    >>> Machine(device="cpu", workers=2).rank
    0
    >>> Machine(workers=-1)
    Traceback (most recent call last):
    ValueError: workers = -1: expected 0 or more
    """

    device: Device = "auto"
    devices: int = 1
    nodes: int = 1
    workers: int = 0
    features_on: FeaturesOn = "device"
    cache: str = ""
    teacher_cache: str = ""
    loggers: str = "tensorboard"
    progress: bool = False

    def __post_init__(self) -> None:
        require("device", self.device, Device)
        require("features_on", self.features_on, FeaturesOn)
        if self.devices < 1:
            raise ValueError(f"devices = {self.devices}: expected 1 or more")
        if self.nodes < 1:
            raise ValueError(f"nodes = {self.nodes}: expected 1 or more")
        if self.workers < 0:
            raise ValueError(f"workers = {self.workers}: expected 0 or more")
        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not there.get(self.device, True):
            raise ValueError(
                f"device = {self.device!r}: PyTorch finds none on this machine; take --device cpu, or auto"
            )
        if self.device == "cuda" and self.devices > torch.cuda.device_count():
            raise ValueError(f"devices = {self.devices}: PyTorch finds {torch.cuda.device_count()} on this machine")

        if self.nodes > 1:
            _check_launcher(self)

    @property
    def processes(self) -> int:
        """The number of processes of the run, on all machines. Each has a device."""
        return self.nodes * self.devices

    @property
    def rank(self) -> int:
        """The number of this process among all processes of the run, from 0."""
        if self.nodes > 1:
            return self.environment.global_rank()
        return int(os.environ["LOCAL_RANK"]) if self.devices > 1 else 0

    @property
    def environment(self) -> ClusterEnvironment:
        """What tells Lightning the processes of the run: those that torchrun or srun has started, or those that we start."""
        return (launcher() if self.nodes > 1 else None) or LightningEnvironment()


def launcher() -> ClusterEnvironment | None:
    """Return what torchrun or srun says of the processes that it has started. Return None if neither has started this one."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if SLURMEnvironment.detect():
        try:
            return SLURMEnvironment(auto_requeue=False)  # which would write checkpoints of its own
        except RuntimeError as error:  # srun was called without --ntasks-per-node
            raise ValueError(str(error)) from None
    return None


def _check_launcher(machine: Machine) -> None:
    nodes, devices = machine.nodes, machine.devices
    environment = launcher()
    if environment is None:
        raise ValueError(
            f"nodes = {nodes}: neither torchrun nor Slurm's srun has started this process; start on each machine, with K from "
            f"0 to {nodes - 1} and HOST being machine 0: torchrun --nnodes {nodes} --nproc-per-node {devices} --node-rank K "
            f"--master-addr HOST --master-port 29500 -m specenhance train ... --nodes {nodes} --devices {devices}"
        )
    name, variable = "srun", "SLURM_NTASKS_PER_NODE"
    if isinstance(environment, TorchElasticEnvironment):
        name, variable = "torchrun", "LOCAL_WORLD_SIZE"
    started, here = environment.world_size(), os.environ.get(variable, str(devices))
    if (started, here) != (machine.processes, str(devices)):
        raise ValueError(
            f"nodes = {nodes} and devices = {devices}: expected {machine.processes} processes, {devices} on each machine; "
            f"{name} has started {started}, {here} on this machine"
        )


def precision_on(machine: Machine, precision: str) -> str:
    """Return the precision of a run, by Lightning's name. A GPU uses the recipe's precision, a CPU always float32.

    Args:
        machine: the machine.
        precision: the precision of the recipe.

    >>> precision_on(Machine(device="cpu"), "bf16-mixed")
    '32-true'
    """
    return precision if chosen_device(machine.device) == "cuda" else "32-true"


def make_trainer(machine: Machine, plugins: Sequence[Any] = (), **settings: Any) -> L.Trainer:
    """Make Lightning's trainer for a machine.

    Args:
        machine: the machine.
        plugins: Lightning's plugins, besides that for the processes of the run.
        **settings: further arguments of ``lightning.Trainer``.

    >>> trainer = make_trainer(Machine(device="cpu"), max_epochs=3, logger=False, enable_checkpointing=False)
    >>> trainer.max_epochs
    3
    """
    # Lightning's hints are for authors of a training loop. A user of this library cannot follow them.
    for part in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(part).setLevel(logging.WARNING)
    for category in (UserWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category, module=r"lightning\.")
    several = machine.processes > 1
    # Each process would print it. It is about a layout that PyTorch itself gives some convolutions.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    return L.Trainer(
        accelerator=ACCELERATORS[machine.device],
        devices=machine.devices,
        num_nodes=machine.nodes,
        strategy="ddp" if several else "auto",
        sync_batchnorm=several
        and torch.cuda.is_available()
        and machine.device != "cpu",  # PyTorch has none for the CPU
        use_distributed_sampler=False,  # the batch samplers choose the clips of a rank
        # Given, because Lightning would take the only process of a Slurm job for one that srun has started.
        plugins=[machine.environment, *plugins],
        enable_model_summary=False,
        **settings,
    )
