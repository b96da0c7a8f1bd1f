"""What a run computes on, and how."""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch

__all__ = ["ACCELERATORS", "MEMORY", "Machine", "make_trainer", "precision_on"]

ACCELERATORS = {"auto": "auto", "cpu": "cpu", "cuda": "gpu", "mps": "mps"}

MEMORY = "memory"  # Machine.cache: not a folder


@dataclass(frozen=True)
class Machine:
    """What a run computes on, and how; apart from rounding, and the draws of mix-up where the clips are read, none of it
    changes what comes out.

    Raises:
        ValueError: for a value out of its range, or a device that this machine has not.
    """

    device: str = "auto"  # a key of ACCELERATORS
    devices: int = 1  # that have each batch among them, on this machine; one process for each
    strategy: str = "auto"  # Lightning's name of how; "auto" is "ddp" where there are several
    workers: int = 0  # processes that read clips, beside each of those
    features_on: str = "device"  # spectrograms are made by the model, or "worker": where the clips are read
    cache: str = ""  # decoded waveforms are kept in "memory" or in a folder of this name
    progress: bool = False  # show a bar

    def __post_init__(self) -> None:
        for name, known in (
            ("device", tuple(ACCELERATORS)),
            ("strategy", ("auto", "ddp")),
            ("features_on", ("device", "worker")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} = {getattr(self, name)!r}: expected one of {', '.join(known)}")
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
        strategy="ddp" if several else machine.strategy,
        sync_batchnorm=several
        and torch.cuda.is_available()
        and machine.device != "cpu",  # PyTorch has none for the CPU
        use_distributed_sampler=False,  # ours knows which clips a rank has
        enable_model_summary=False,
        **settings,
    )
