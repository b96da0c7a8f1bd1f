"""Write and find the checkpoints of a run. Stop a run after a signal, or if its loss is not finite."""

from __future__ import annotations

import io
import logging
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from specenhance._files import write_bytes
from specenhance._stopping import Stopped, StopSignals
from specenhance.models.weights import write_weights
from specenhance.training.batches import Place

__all__ = [
    "BEST",
    "LAST",
    "PREVIOUS",
    "AtomicCheckpoints",
    "DivergedError",
    "Keeper",
    "last_checkpoint",
]

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.safetensors"
LOOK_EVERY = 20  # steps; reading a number makes a GPU wait

_log = logging.getLogger(__name__)


class DivergedError(ValueError):
    """The loss is no longer a finite number. The message has the epoch, the step and the likely cause."""


class AtomicCheckpoints(TorchCheckpointIO):
    """Write checkpoints whole or not at all, and keep the previous one. Lightning's own class does neither.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for step in (1, 2):
    ...         AtomicCheckpoints().save_checkpoint({"step": step}, f"{folder}/{LAST}")
    ...     sorted(os.listdir(folder))
    ['last.ckpt', 'previous.ckpt']
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint to ``path``. A checkpoint that was there is renamed to :data:`PREVIOUS`."""
        content = io.BytesIO()  # PyTorch does not report a full disk if it writes to a file
        torch.save(checkpoint, content)
        path = Path(path)
        if path.is_file():
            os.replace(path, path.with_name(PREVIOUS))
        write_bytes(path, content.getvalue())


def last_checkpoint(folder: Path) -> tuple[Path | None, Place]:
    """Find the checkpoint from which a run continues: the last one, or the previous one if the last one cannot be read.

    Args:
        folder: the folder of the checkpoints.

    Returns:
        The path of the checkpoint, or None if there is none yet, and the next step of the run.

    Raises:
        ValueError: if there are checkpoints and none can be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     last_checkpoint(Path(folder))
    (None, Place(epoch=0, batch=0))
    """
    faults = []
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.is_file():
            continue
        try:
            with zipfile.ZipFile(path) as archive:  # PyTorch itself does not check the checksums
                if broken := archive.testzip():
                    raise ValueError(f"{broken} in it is damaged")
            content = torch.load(path, map_location="cpu", weights_only=True)
            place = Place(*content["callbacks"][Keeper.__qualname__]["place"])
        except Exception as error:  # a damaged file can raise any error
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
    """Keep the best weights and a checkpoint of each epoch. Stop if a signal asks for it, or if the loss is not finite.

    The best epoch is the one with the highest accuracy on the validation clips, for a multi-label model with the highest mean
    average precision. Among equals, it is the one with the lowest loss.

    Args:
        folder: the folder of the checkpoints.
        stop: the handler of stop signals.
        again: the command that continues a stopped run, for the message.
        patience: number of epochs without a better one after which training ends. 0 never ends it.
        kept_by: name of the score on the validation clips.

    Attributes:
        best: score and loss of the best epoch on the validation clips. None before the end of the first epoch.
        place: the next step of the run.
        waited: number of epochs since the best one.

    >>> keeper = Keeper(Path("checkpoints"), StopSignals(), "specenhance train --resume run")
    >>> keeper.load_state_dict({"place": [3, 0], "best": [0.9, 0.5]})
    >>> keeper.place, keeper.best
    (Place(epoch=3, batch=0), (0.9, 0.5))
    """

    def __init__(
        self, folder: Path, stop: StopSignals, again: str, patience: int = 0, kept_by: str = "val_accuracy"
    ) -> None:
        self.folder, self.stop, self.again, self.patience, self.kept_by = folder, stop, again, patience, kept_by
        self.waited = 0
        self.best: tuple[float, float] | None = None
        self.place = Place()
        self._first_bad: Any = None  # number of the first step whose loss is not finite

    @property
    def state_key(self) -> str:
        """The name of this callback's part of a checkpoint."""
        return type(self).__qualname__

    def state_dict(self) -> dict[str, Any]:
        """Return the next step of the run, and the figures of its best epoch."""
        best = None if self.best is None else list(self.best)
        return {"place": list(self.place), "best": best, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.place, self.waited = Place(*state_dict["place"]), state_dict.get("waited", 0)
        self.best = None if state_dict["best"] is None else (state_dict["best"][0], state_dict["best"][1])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Install the handler of signals. Lightning's own handler does not finish the current step."""
        self.stop.install()
        self.stop.gentle = True
        self._end_early(trainer)  # a run may have been stopped after its last epoch

    def _end_early(self, trainer: L.Trainer) -> None:
        if self.patience and self.waited >= self.patience:
            _log.info(f"no better epoch for {self.waited} epochs: training ends")
            trainer.should_stop = True

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Check the loss, and whether a signal has asked for a stop.

        Raises:
            DivergedError: for a loss that is not finite.
            Stopped: after a signal. A checkpoint of the step has then been written.
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
            if several:  # all processes must stop at the same step
                torch.distributed.all_reduce(news, torch.distributed.ReduceOp.MIN)
            first_bad, negative = news.tolist()
            if first_bad != unseen:
                raise self._diverged(trainer, pl_module, f"step {first_bad + 1} of {trainer.num_training_batches}")
            # After the last step, the epoch is validated first, because a run cannot continue in the middle of a validation.
            stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0  # otherwise gradients would be lost
            if negative and stepped and not last:
                self._stop_here(trainer, pl_module, -negative, Place(trainer.current_epoch, batch_idx + 1))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the weights if they are the best so far.

        Raises:
            DivergedError: for a loss that is not finite. The last step of the epoch may have spoiled the weights.
        """
        if not self.stop.gentle:
            return
        score, loss = (float(trainer.callback_metrics[name]) for name in (self.kept_by, "val_loss"))
        if not math.isfinite(loss):
            raise self._diverged(trainer, pl_module, "its validation")
        self.waited += 1
        if self.best is None or (score, -loss) > (self.best[0], -self.best[1]):
            self.best, self.waited = (score, loss), 0
            if trainer.is_global_zero:
                model: Any = pl_module.kept
                write_weights(self.folder / BEST, model.state_dict())

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the checkpoint of the epoch.

        Raises:
            Stopped: if a signal has asked for a stop.
        """
        self._first_bad = None
        self.place = Place(trainer.current_epoch + 1, 0)
        trainer.save_checkpoint(self.folder / LAST)
        asked = torch.tensor(self.stop.requested or 0, device=pl_module.device)
        if trainer.world_size > 1:
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
        if asked:
            raise Stopped(int(asked), f"stopped after epoch {self.place.epoch}; continue with: {self.again}")
        self._end_early(trainer)

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
        """From now on, a signal stops the process at once."""
        self.stop.gentle = False
