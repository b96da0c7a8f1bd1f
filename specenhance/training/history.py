"""Keep the figures of each epoch of a run, and show its progress bar."""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import RichProgressBar
from torch import Tensor

from specenhance._files import write_text

__all__ = ["History", "Progress"]

_log = logging.getLogger(__name__)


class History(L.Callback):
    """Keep a row of figures for each epoch, and the seconds of training over all starts of the run.

    The rows are written to a CSV file after each epoch. The learning rate in a row is that of the last step of the epoch.

    Lightning's own CSV logger deletes the earlier epochs if a run is resumed. This callback keeps them in the checkpoint,
    together with the metrics of the current epoch.

    Args:
        path: the CSV file.
        columns: names of the figures of an epoch.
        running: names of the module's metrics that have counted a part of the clips within an epoch.
        report: function that is called with each new row.

    Attributes:
        rows: the figures of each finished epoch.
        seconds: the time of training, in seconds.

    >>> history = History(Path("metrics.csv"), ("epoch", "train_loss"), ("train_loss",))
    >>> history.load_state_dict({"rows": [{"epoch": 0, "train_loss": 1.5}], "seconds": 60, "counted": {}})
    >>> history.rows, history.seconds
    ([{'epoch': 0, 'train_loss': 1.5}], 60.0)
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str],
        running: Sequence[str],
        report: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self.path, self.columns, self.running = path, columns, running
        self.report = report
        self.rows: list[dict[str, float]] = []
        self.seconds = 0.0
        self._began = 0.0
        self._rate = 0.0
        self._module: Any = None  # during an epoch
        self._counted: dict[str, dict[str, Any]] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the time, and restore the metrics of the epoch in which the run was stopped."""
        self._began = time.monotonic()
        # The checkpoint has the sum over all processes. Only the first process restores it.
        for name, state in self._counted.items() if trainer.is_global_zero else ():
            metric = getattr(pl_module, name)
            for key, value in state.items():
                setattr(metric, key, value.to(metric.device) if isinstance(value, Tensor) else value)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the time."""
        self._began = time.monotonic()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the learning rate of the step. At the end of the step it is already that of the next one."""
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note that the metrics of the epoch have values."""
        self._module = pl_module

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the epoch's row."""
        self._module = None
        figures = {name: float(value) for name, value in trainer.callback_metrics.items() if name in self.columns}
        self.rows.append({"epoch": trainer.current_epoch, **figures, "lr": self._rate})
        self._pass_time()
        if trainer.is_global_zero:
            self._write()
            if self.report is not None:
                self.report(self.rows[-1])

    def _pass_time(self) -> None:
        now = time.monotonic()
        self.seconds += now - self._began
        self._began = now

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """Return the rows, the seconds and the metrics of the current epoch, for the checkpoint."""
        self._pass_time()
        counted = {}
        for name in self.running if self._module is not None else ():
            metric = getattr(self._module, name)
            state = {key: value.detach().clone() for key, value in metric.metric_state.items()}
            if torch.distributed.is_initialized():
                for value in state.values():
                    torch.distributed.all_reduce(value)
            counted[name] = {key: value.cpu() for key, value in state.items()} | {"_update_count": metric._update_count}
        return {"rows": self.rows, "seconds": self.seconds, "counted": counted}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.seconds = float(state_dict["seconds"])
        self.rows = list(state_dict["rows"])
        self._counted = state_dict["counted"]


class Progress(RichProgressBar):
    """Lightning's progress bar without figures: the run logs them after each epoch."""

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return no figures."""
        return {}

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"  # counted from 1, as in the log
