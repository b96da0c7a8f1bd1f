"""What a run writes while it trains: its history and its checkpoints."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.plugins.io import TorchCheckpointIO

from specenhance.files import atomic_path, write_text

__all__ = ["AtomicCheckpoints", "Checkpoints", "History", "Progress"]

COLUMNS = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr")


class History(L.Callback):
    """Keep a row of figures an epoch, written to a CSV after each, and the seconds spent over all starts of the run.

    Lightning's own CSV logger deletes the earlier epochs when a run is resumed; this keeps them in the checkpoint.

    Args:
        path: the CSV.
        report: called with each new row.
    """

    def __init__(self, path: Path, report: Callable[[dict[str, float]], None] | None = None) -> None:
        self.path = path
        self.report = report
        self.rows: list[dict[str, float]] = []
        self.seconds = 0.0
        self._began = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the time."""
        self._began = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the epoch's row."""
        figures = {name: float(value) for name, value in trainer.callback_metrics.items() if name in COLUMNS}
        self.rows.append({"epoch": trainer.current_epoch, **figures, "lr": trainer.optimizers[0].param_groups[0]["lr"]})
        self.seconds += time.monotonic() - self._began
        if trainer.is_global_zero:
            self._write()
            if self.report is not None:
                self.report(self.rows[-1])

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """The rows and the time spent, for the checkpoint."""
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the rows and the time spent of a checkpoint."""
        self.seconds = float(state_dict["seconds"])
        self.rows = list(state_dict["rows"])


class AtomicCheckpoints(TorchCheckpointIO):
    """Write checkpoints whole: Lightning's own writing may move a file across file systems, which is not atomic."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint beside ``path``, then put it there."""
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)


class Checkpoints(ModelCheckpoint):
    """Lightning's checkpoints in a folder that may be moved between stop and resume.

    Lightning forgets which epoch was best, with a warning alone, where the folder has another path than when it was saved.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what a checkpoint says of its siblings, in the folder where they now lie."""
        moved = {"dirpath": self.dirpath}
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            moved[key] = self._here(state_dict[key])
        moved["best_k_models"] = {self._here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | moved)

    def _here(self, path: str) -> str:
        return str(Path(self.dirpath or "") / Path(path).name) if path else path


class Progress(RichProgressBar):
    """Lightning's bar without figures beside it: the run's own line says them after each epoch."""

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Give none."""
        return {}
