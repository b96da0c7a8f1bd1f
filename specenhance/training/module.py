"""The Lightning module: one training step, and what is counted."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from specenhance.adapter import FrontendModel
from specenhance.data import Batch
from specenhance.data.augment import add_noise, mask_span, shift_frames
from specenhance.training.recipe import Recipe

__all__ = ["Classifier"]


class Classifier(L.LightningModule):
    """Train and test a model from waveforms to logits as a recipe says.

    Args:
        model: maps waveforms ``(B, samples)`` to logits ``(B, num_classes)``.
        recipe: loss, rate, augmentation and seed.
    """

    def __init__(self, model: FrontendModel, recipe: Recipe) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        num_classes = model.num_classes
        self.train_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.confusion = MulticlassConfusionMatrix(num_classes)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout and augmentation by the step, so that a resumed run draws what an uninterrupted one draws."""
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.global_step)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Give the loss of a batch of augmented spectrograms."""
        logits = self.model.classify(self.augment(self.model.spectrogram(batch.waveform, batch.length)))
        loss = self.criterion(logits, batch.label)
        self.train_accuracy(logits, batch.label)
        B = len(batch.label)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=B)
        self.log("train_accuracy", self.train_accuracy, on_step=False, on_epoch=True, prog_bar=True, batch_size=B)
        return loss

    def augment(self, spec: Tensor) -> Tensor:
        """Shift, mask and add noise to spectrograms ``(B, C, T, F)`` as the recipe says."""
        recipe = self.recipe
        spec = shift_frames(spec, recipe.shift)
        spec = mask_span(spec, recipe.time_mask, dim=2)
        spec = mask_span(spec, recipe.freq_mask, dim=3)
        return add_noise(spec, recipe.noise)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count loss and accuracy of a validation batch."""
        logits = self._logits(batch)
        self.val_accuracy(logits, batch.label)
        B = len(batch.label)
        self.log("val_loss", nn.functional.cross_entropy(logits, batch.label), batch_size=B)
        self.log("val_accuracy", self.val_accuracy, prog_bar=True, batch_size=B)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count accuracy and confusions of a test batch."""
        logits = self._logits(batch)
        self.test_accuracy(logits, batch.label)
        self.confusion.update(logits, batch.label)
        self.log("test_accuracy", self.test_accuracy, batch_size=len(batch.label))

    def _logits(self, batch: Batch) -> Tensor:
        return self.model.classify(self.model.spectrogram(batch.waveform, batch.length))

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW under a one-cycle rate over all steps of the run."""
        recipe = self.recipe
        optimizer = torch.optim.AdamW(self.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=recipe.lr, total_steps=steps, pct_start=0.2)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
