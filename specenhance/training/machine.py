"""What a run computes on, and how."""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch

from specenhance._choices import Device, FeaturesOn, require

__all__ = ["ACCELERATORS", "MEMORY", "Machine", "make_trainer", "precision_on"]

ACCELERATORS: dict[Device, str] = {"auto": "auto", "cpu": "cpu", "cuda": "gpu", "mps": "mps"}

MEMORY = "memory"  # Machine.cache: not a folder


@dataclass(frozen=True)
class Machine:
    """What a run computes on, and how.

    None of it changes the result, apart from rounding, and from the draws of mix-up with ``features_on="worker"``.

    Attributes:
        device: where to compute; ``"auto"`` uses a GPU if there is one.
        devices: number of devices of this machine that share each batch. Each device has its own process.
        workers: number of processes that read clips for each device.
        features_on: where spectrograms are made: by the model on its device, or by the workers that read clips.
        cache: where decoded waveforms are kept: ``"memory"``, a folder's name, or ``""`` for nowhere.
        progress: whether to show a progress bar.

    Raises:
        ValueError: for a value out of its range, or a device that this machine has not.
    """

    device: Device = "auto"
    devices: int = 1
    workers: int = 0
    features_on: FeaturesOn = "device"
    cache: str = ""
    progress: bool = False

    def __post_init__(self) -> None:
        require("device", self.device, Device)
        require("features_on", self.features_on, FeaturesOn)
        if self.devices < 1:
            raise ValueError(f"devices = {self.devices}: expected 1 or more")
        if self.workers < 0:
            raise ValueError(f"workers = {self.workers}: expected 0 or more")
        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not there.get(self.device, True):
            raise ValueError(
                f"device = {self.device!r}: PyTorch finds none on this machine; take --device cpu, or auto"
            )
        if self.device == "cuda" and self.devices > torch.cuda.device_count():
            raise ValueError(f"devices = {self.devices}: PyTorch finds {torch.cuda.device_count()} on this machine")

    @property
    def rank(self) -> int:
        """Which of the processes this one is."""
        return int(os.environ["LOCAL_RANK"]) if self.devices > 1 else 0


def precision_on(machine: Machine, precision: str) -> str:
    """Give the precision, by Lightning's name, in which a machine computes: a recipe's on a GPU, float32 on a CPU."""
    on_gpu = machine.device == "cuda" or (machine.device == "auto" and torch.cuda.is_available())
    return precision if on_gpu else "32-true"


def make_trainer(machine: Machine, **settings: Any) -> L.Trainer:
    """Make Lightning's trainer for a machine; further settings as Lightning takes them."""
    # Lightning's hints speak to people who write loops, not to those who run ours.
    for part in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(part).setLevel(logging.WARNING)
    for category in (UserWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category, module=r"lightning\.")
    several = machine.devices > 1
    return L.Trainer(
        accelerator=ACCELERATORS[machine.device],
        devices=machine.devices,
        strategy="ddp" if several else "auto",
        sync_batchnorm=several
        and torch.cuda.is_available()
        and machine.device != "cpu",  # PyTorch has none for the CPU
        use_distributed_sampler=False,  # ours knows which clips a rank has
        enable_model_summary=False,
        **settings,
    )
