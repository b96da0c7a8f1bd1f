"""What a run keeps and watches while it trains: its history, its checkpoints, whether its loss is finite, whether to stop."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint, RichProgressBar
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from specenhance._files import write_bytes, write_text
from specenhance.models.weights import write_weights
from specenhance.training.batches import Place
from specenhance.training.stopping import Stopped, StopSignals

__all__ = [
    "BEST",
    "LAST",
    "PREVIOUS",
    "AtomicCheckpoints",
    "DivergedError",
    "History",
    "Keeper",
    "Progress",
    "last_checkpoint",
]

COLUMNS = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr")
LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.safetensors"
LOOK_EVERY = 20  # steps on a GPU, which every look at a number halts

_log = logging.getLogger(__name__)


class DivergedError(ValueError):
    """Training has left the finite numbers; the message has epoch, step and the likely cause."""


class History(L.Callback):
    """Keep a row of figures for each epoch, its last step's rate among them, and the seconds spent over all starts of the run.

    The rows are written to a CSV after each epoch.
    Lightning's own CSV logger deletes the earlier epochs when a run is resumed; this keeps them in the checkpoint, with what
    the epoch under way has counted so far.

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
        self._rate = 0.0
        self._module: Any = None  # while an epoch is under way
        self._counted: dict[str, dict[str, Any]] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the time, and take up what the epoch under way had counted when it was stopped."""
        self._began = time.monotonic()
        # What all processes had counted is taken up by the first.
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
        """Note the rate of the step: at its end it is that of the next already."""
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note that the epoch has counted something."""
        self._module = pl_module

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the epoch's row."""
        self._module = None
        figures = {name: float(value) for name, value in trainer.callback_metrics.items() if name in COLUMNS}
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
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """The rows, the time spent and what the epoch has counted, for the checkpoint."""
        self._pass_time()
        counted = {}
        for name in ("train_loss", "train_accuracy") if self._module is not None else ():
            metric = getattr(self._module, name)
            state = {key: value.detach().clone() for key, value in metric.metric_state.items()}
            if torch.distributed.is_initialized():
                for value in state.values():
                    torch.distributed.all_reduce(value)
            counted[name] = {key: value.cpu() for key, value in state.items()} | {"_update_count": metric._update_count}
        return {"rows": self.rows, "seconds": self.seconds, "counted": counted}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""
        self.seconds = float(state_dict["seconds"])
        self.rows = list(state_dict["rows"])
        self._counted = state_dict["counted"]


class AtomicCheckpoints(TorchCheckpointIO):
    """Write checkpoints whole and to the disk, and keep the one before: Lightning's own writing does neither."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint to ``path``; what was there becomes :data:`PREVIOUS`."""
        content = io.BytesIO()  # PyTorch's writer does not say that a disk is full
        torch.save(checkpoint, content)
        path = Path(path)
        if path.is_file():
            os.replace(path, path.with_name(PREVIOUS))
        write_bytes(path, content.getvalue())


def last_checkpoint(folder: Path) -> tuple[Path | None, Place]:
    """Find the checkpoint that a run goes on from, and where it stands.

    Args:
        folder: of the checkpoints.

    Returns:
        Its path, None where nothing has been kept yet, and the place.

    Raises:
        ValueError: where there are checkpoints and none can be read.
    """
    faults = []
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.is_file():
            continue
        try:
            with zipfile.ZipFile(path) as archive:  # PyTorch itself takes a flipped bit for a weight
                if broken := archive.testzip():
                    raise ValueError(f"{broken} in it is damaged")
            content = torch.load(path, map_location="cpu", weights_only=True)
            place = Place(*content["callbacks"][Keeper.__qualname__]["place"])
        except Exception as error:  # whatever a damaged file makes of itself
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            faults.append(f"{path} cannot be read ({reason[:200]})")
            continue
        for fault in faults:
            _log.warning(f"{fault}; the checkpoint before it serves")
        return path, place
    if faults:
        raise ValueError(f"{'; '.join(faults)}: nothing is left to go on from; start the training anew")
    return None, Place()


class Keeper(Checkpoint):
    """Keep the best weights and a checkpoint of each epoch; stop where a stop is asked for, or where the loss is not finite.

    The best epoch is the one with the highest accuracy on the validation clips, of several the one with the lowest loss.

    Args:
        folder: of the checkpoints.
        stop: what signals have asked for.
        again: the command that goes on with a stopped run.
    """

    def __init__(self, folder: Path, stop: StopSignals, again: str) -> None:
        self.folder, self.stop, self.again = folder, stop, again
        self.best: tuple[float, float] | None = None  # accuracy and loss
        self.place = Place()
        self._first_bad: Any = None  # step of the first loss that is not finite

    @property
    def state_key(self) -> str:
        """What this callback's part of a checkpoint is called."""
        return type(self).__qualname__

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands, and how good its best epoch was."""
        return {"place": list(self.place), "best": None if self.best is None else list(self.best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""
        self.place = Place(*state_dict["place"])
        self.best = None if state_dict["best"] is None else (state_dict["best"][0], state_dict["best"][1])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen for signals in Lightning's place, whose own way is not to finish the step."""
        self.stop.install()
        self.stop.gentle = True

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look at the loss, and for a stop that was asked for.

        Raises:
            DivergedError: for a loss that is not finite.
            Stopped: after the step, with a checkpoint of it written.
        """
        loss = pl_module.last_loss
        step = torch.tensor(batch_idx, device=loss.device)
        unseen = torch.iinfo(torch.int64).max
        if self._first_bad is None:
            self._first_bad = torch.tensor(unseen, device=loss.device)
        self._first_bad = torch.where(loss.isfinite(), self._first_bad, torch.minimum(self._first_bad, step))
        last = batch_idx + 1 == trainer.num_training_batches
        several = trainer.world_size > 1
        asked = self.stop.requested
        if loss.device.type == "cpu" or several or asked is not None or last or batch_idx % LOOK_EVERY == 0:
            news = torch.stack([self._first_bad, torch.tensor(-(asked or 0), device=loss.device)])
            if several:  # all processes must stop at one step
                torch.distributed.all_reduce(news, torch.distributed.ReduceOp.MIN)
            first_bad, negative = news.tolist()
            if first_bad != unseen:
                raise self._diverged(trainer, pl_module, f"step {first_bad + 1} of {trainer.num_training_batches}")
            # After the last step the epoch is finished first: its validation cannot be taken up in its middle.
            if negative and not last:
                self._stop_here(trainer, pl_module, -negative, Place(trainer.current_epoch, batch_idx + 1))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the weights if they are the best so far.

        Raises:
            DivergedError: for a loss that is not finite, as after a last step that broke the weights.
        """
        if not self.stop.gentle:
            return
        accuracy, loss = (float(trainer.callback_metrics[name]) for name in ("val_accuracy", "val_loss"))
        if not math.isfinite(loss):
            raise self._diverged(trainer, pl_module, "its validation")
        if self.best is None or (accuracy, -loss) > (self.best[0], -self.best[1]):
            self.best = accuracy, loss
            if trainer.is_global_zero:
                model: Any = pl_module.model
                write_weights(self.folder / BEST, model.state_dict())

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the epoch's checkpoint.

        Raises:
            Stopped: if a stop was asked for.
        """
        self._first_bad = None
        self.place = Place(trainer.current_epoch + 1, 0)
        trainer.save_checkpoint(self.folder / LAST)
        asked = torch.tensor(self.stop.requested or 0, device=pl_module.device)
        if trainer.world_size > 1:
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
        if asked:
            raise Stopped(int(asked), f"stopped after epoch {self.place.epoch}; continue with: {self.again}")

    def _stop_here(self, trainer: L.Trainer, pl_module: L.LightningModule, signum: int, place: Place) -> None:
        if not all(bool(parameter.isfinite().all()) for parameter in pl_module.parameters()):
            raise self._diverged(trainer, pl_module, f"step {place.batch + 1} of {trainer.num_training_batches}")
        self.place = place
        trainer.save_checkpoint(self.folder / LAST)
        raise Stopped(
            signum,
            f"stopped after step {place.batch} of {trainer.num_training_batches} in epoch {place.epoch + 1}; continue with: "
            f"{self.again}",
        )

    def _diverged(self, trainer: L.Trainer, pl_module: Any, where: str) -> DivergedError:
        rate = pl_module.recipe.lr
        kept = "the checkpoint before it is kept" if (self.folder / LAST).is_file() else "nothing was kept before it"
        return DivergedError(
            f"the loss is no finite number in epoch {trainer.current_epoch + 1}, at {where}; {kept}. The rate is the likely "
            f"cause, lr = {rate:g}: start anew with a smaller one, such as --lr {rate / 10:g}; the largest value of the last "
            f"batch was {pl_module.largest_value():.3g}, where about 1 is usual"
        )

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let signals act at once again."""
        self.stop.gentle = False


class Progress(RichProgressBar):
    """Lightning's bar without figures beside it: the run's own line says them after each epoch."""

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Give none."""
        return {}

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"  # the run's own line counts from 1, too
