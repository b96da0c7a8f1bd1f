"""The Lightning module: the training step and the metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
import torch
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from specenhance.analysis.accuracy import Score
from specenhance.analysis.multi_label import MultiLabelScore
from specenhance.data import Batch
from specenhance.distillation.ensemble import mean_logits
from specenhance.distillation.feature import Distance, FeatureLoss, pooled
from specenhance.distillation.loss import DistillationLoss, Losses, comparison
from specenhance.distillation.names import FEATURES
from specenhance.distillation.schedule import linear
from specenhance.models.adapter import FrontendModel
from specenhance.training.augment import (
    add_noise,
    draw_shifts,
    filter_bins,
    mask_span,
    mix_styles,
    roll_frames,
    smooth_labels,
)
from specenhance.training.batches import NO_LABEL, SpectrogramBatch, mix, view_of
from specenhance.training.recipe import Recipe
from specenhance.training.teach import Teaching

__all__ = ["BinaryCrossEntropy", "Classifier", "FocalLoss"]

NO_TEACHER = Teaching()
DISTANCES: dict[str, Distance] = {"feature_mse": "mse", "feature_cosine": "cosine"}


class Classifier(L.LightningModule):
    """Train and test a model by a recipe.

    Args:
        model: the model. It maps waveforms ``(B, samples)`` to logits ``(B, classes)``.
        recipe: the recipe. Its loss, learning rate, augmentation and seed are used.
        teaching: the teachers. Live ones get the same augmented input. Without any the model learns only from the labels.
        class_weights: the weight of each class in the loss on the labels ``(classes,)``. None weighs all alike.

    A loss that compares features may have a projector. It is trained and in the checkpoints, and no part of the model.

    Raises:
        ValueError: for a loss that compares features, and a model of which they are not known.

    >>> from specenhance.training.build import build_model
    >>> recipe = Recipe(backbone="test_resnet", frontend="tfe1", frames=96, bins=32, time_mask=10)
    >>> module = Classifier(build_model(recipe, num_classes=2), recipe)
    >>> module.augment(torch.ones(3, 1, 96, 32))[0].shape
    torch.Size([3, 1, 96, 32])
    """

    columns: tuple[str, ...] = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr")
    """The figures of an epoch."""

    running: tuple[str, ...] = ("train_loss", "train_accuracy")
    """The metrics that have counted a part of the clips when a run is stopped within an epoch."""

    def __init__(
        self,
        model: FrontendModel,
        recipe: Recipe,
        teaching: Teaching = NO_TEACHER,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.criterion = _loss(model, recipe, teaching, class_weights)
        self.average = None if recipe.ema == 0 else _average(model, recipe.ema)
        self.taught = teaching.teaches
        self.teachers = nn.ModuleList(live.teacher for live in teaching.live)
        self.hears = [live.hears for live in teaching.live]
        self.weights = [
            *([] if teaching.logits is None else [teaching.weight]),
            *(live.weight for live in teaching.live),
        ]
        self.val_criterion = LOSSES[recipe.loss](recipe.replace(label_smoothing=0.0), None)
        self.train_loss = Mean()
        self.val_loss = Mean()
        self.make_metrics(model.num_classes)
        self.last_loss = torch.zeros(())  # the loss of the last step
        self._last_spec: Tensor | None = None
        self._averaged = 0  # steps that the average has seen
        self._drawn = 0  # number of this batch over all epochs
        self._step = ""  # of a recipe with views: names the step that this one repeats

    def make_metrics(self, num_classes: int) -> None:
        """Make the metrics of an epoch and of a test."""
        self.train_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.confusion = MulticlassConfusionMatrix(num_classes)
        self.right: list[int] = []  # for each test clip 1 if it is classified right, otherwise 0

    def start_test(self) -> None:
        """Forget what was counted in an earlier test."""
        self.confusion.reset()
        self.right = []

    def score(self, figures: Mapping[str, float]) -> Score | MultiLabelScore:
        """Give the score of the clips of the last test.

        Args:
            figures: what Lightning's trainer returned for the test.
        """
        return Score(float(figures["test_accuracy"]), self.confusion.compute().cpu(), self.right)

    def on_train_batch_start(self, batch: Batch | SpectrogramBatch, batch_idx: int) -> None:
        """Seed dropout and augmentation by the step. So a resumed run draws the same numbers as an uninterrupted one."""
        if self.recipe.teacher_views:  # augmentation and mix-up are those of the step that is repeated
            view = view_of(self.trainer.current_epoch, self.recipe.teacher_views)
            self._step = f"{view}/{batch_idx}/{self.global_rank}"
            self._seed(view * len(self.trainer.train_dataloader) + batch_idx + (1 << 30))
        else:
            self._seed(self._place(batch_idx))
        self._drawn = self._place(batch_idx)

    def _place(self, batch_idx: int) -> int:
        """Return the number of a batch over all epochs."""
        if self.recipe.accumulate == 1:
            return self.global_step
        return self.trainer.current_epoch * len(self.trainer.train_dataloader) + batch_idx

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Update the average of the weights after a step of the optimizer."""
        if self.average is not None and self.global_step > self._averaged:
            self.average.update_parameters(self.model)
            self._averaged = self.global_step

    @property
    def kept(self) -> Any:
        """The model that is validated and kept: the average of the weights if there is one, otherwise the model itself."""
        return self.model if self.average is None else self.average.module

    def finish(self) -> None:
        """Give the model the average of its weights, if there is one. Training has ended."""
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())
            self.average = None

    def _seed(self, number: int) -> None:
        # Each rank draws its own numbers. Otherwise clips of one batch would get the same ones.
        seed = self.recipe.seed * 1_000_003 + number + (self.global_rank << 40)
        # Seeding all kinds of devices takes 1.5 ms if none is in use.
        (torch.default_generator if self.device.type == "cpu" else torch).manual_seed(seed)

    def training_step(self, batch: Batch | SpectrogramBatch, batch_idx: int) -> Tensor:
        """Return the loss of a batch of mixed and augmented spectrograms."""
        losses, logits = self.losses(batch)
        self.last_loss = losses.total.detach()
        B = len(batch.label)
        self.train_loss.update(losses.total, B)
        self.log("train_loss", self.train_loss, on_step=False, on_epoch=True, batch_size=B)
        self.count_training(logits, batch.label)
        return losses.total

    def count_training(self, logits: Tensor, labels: Tensor) -> None:
        """Count the clips of a training batch that are classified right."""
        self.train_accuracy.update(logits, labels)
        self.log(
            "train_accuracy", self.train_accuracy, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(labels)
        )

    def losses(self, batch: Batch | SpectrogramBatch) -> tuple[Losses, Tensor]:
        """Mix and augment a batch, and compare the model's logits with the labels and the teacher.

        Returns:
            The losses, and the logits ``(B, classes)``.
        """
        spec, real, target, known, waveform = self._inputs(batch)
        self._last_spec = spec.detach()
        augmented, real = self.augment(spec, real)
        if self._step:
            self._seed(self._drawn)  # dropout draws anew in each epoch
        if isinstance(self.criterion, FeatureLoss):
            with pooled(self.model) as features:
                logits = self.model.classify(augmented, real)
            taught = self._lessons(known, augmented, waveform)
            weight, _ = self.balance()
            return self.criterion(logits, features[-1], taught, target, weight=weight), logits
        logits = self.model.classify(augmented, real)
        if not self.taught:
            return self.criterion(logits, None, target), logits
        weight, temperature = self.balance()
        lessons = None if weight == 1 else self._lessons(known, augmented, waveform)
        return self.criterion(logits, lessons, target, weight=weight, temperature=temperature), logits

    def balance(self) -> tuple[float, float]:
        """Return the weight of the labels and the temperature at this step. They depend only on the step's number.

        A finished run that is extended keeps their last values.
        """
        recipe = self.recipe
        if recipe.kd_weight_end is None and recipe.kd_temperature_end is None:
            return recipe.kd_weight, recipe.kd_temperature
        steps = int(self.trainer.estimated_stepping_batches) // recipe.epochs * (recipe.cycle_from or recipe.epochs)
        return (
            linear(recipe.kd_weight, recipe.kd_weight_end, self.global_step, steps),
            linear(recipe.kd_temperature, recipe.kd_temperature_end, self.global_step, steps),
        )

    def _lessons(self, known: Tensor | None, spec: Tensor, waveform: Tensor | None) -> Tensor:
        """Return the mean of all teachers ``(B, classes)``, or the features ``(B, D)`` of the teacher.

        Args:
            known: what is known of the clips beforehand.
            spec: the augmented spectrograms, for teachers that see.
            waveform: the mixed waveforms, for teachers that hear.
        """
        found = [] if known is None else [known]
        for teacher, hears in zip(self.teachers, self.hears, strict=True):
            given = waveform if hears == "waveform" else spec
            if given is None:
                raise ValueError(
                    "features_on = 'worker': a teacher hears waveforms, which stay in the processes that read them; expected "
                    "'device', or a teacher_input = 'clean'"
                )
            keys = [f"{self._step}/{row}" for row in range(len(given))] if self._step else None
            found.append(teacher(given, keys))
        return mean_logits(found, self.weights, self.recipe.teacher_mean, self.recipe.kd_loss)

    def _inputs(
        self, batch: Batch | SpectrogramBatch
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor | None]:
        """Return spectrograms ``(B, C, T, F)``, their real frames ``(B, T)``, targets, known lessons, and waveforms.

        Targets are class numbers ``(B,)``, or probabilities ``(B, classes)``. Waveforms are None if they are not here.
        """
        if isinstance(batch, SpectrogramBatch):
            return batch.spec, batch.real, batch.target, batch.taught, None
        waveform, target, taught = mix(batch, self.recipe, self.model.num_classes)
        spec = self.model.spectrogram(waveform, batch.length)
        return spec, self.model.real_frames(waveform, batch.length), target, taught, waveform

    def largest_value(self) -> float:
        """Return the maximum absolute value of the spectrograms of the last training batch. NaN before the first batch."""
        return float("nan") if self._last_spec is None else float(self._last_spec.abs().max())

    def augment(self, spec: Tensor, real: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Augment spectrograms ``(B, C, T, F)`` as the recipe says: shift them and their real frames, mask them, add noise."""
        recipe = self.recipe
        shifts = draw_shifts(spec, recipe.shift)
        if shifts is not None:
            spec = roll_frames(spec, shifts)
            if real is not None:
                real = roll_frames(real.expand(len(spec), -1)[:, None, :, None], shifts)[:, 0, :, 0]
        spec = filter_bins(spec, recipe.filter_gain, 0.5 / (recipe.std or 0.5))
        spec = mix_styles(spec, recipe.mixstyle, recipe.mixstyle_alpha)
        spec = mask_span(spec, recipe.time_mask, dim=2)
        spec = mask_span(spec, recipe.freq_mask, dim=3)
        return add_noise(spec, recipe.noise), real

    def validation_step(self, batch: Batch | SpectrogramBatch, batch_idx: int) -> None:
        """Count the loss and the score of a validation batch."""
        logits, labels = self._counted(batch)
        if len(labels):
            self.val_loss.update(self.val_criterion(logits, labels), len(labels))
        self.log("val_loss", self.val_loss, batch_size=len(labels))
        self.count_validation(logits, labels)

    def count_validation(self, logits: Tensor, labels: Tensor) -> None:
        """Count the clips of a validation batch that are classified right."""
        if len(labels):
            self.val_accuracy.update(logits, labels)
        self.log("val_accuracy", self.val_accuracy, prog_bar=True, batch_size=len(labels))

    def test_step(self, batch: Batch | SpectrogramBatch, batch_idx: int) -> None:
        """Count the score of a test batch."""
        self.count_test(*self._counted(batch))

    def count_test(self, logits: Tensor, labels: Tensor) -> None:
        """Count accuracy and confusions of a test batch."""
        if len(labels):
            self.test_accuracy.update(logits, labels)
            self.confusion.update(logits, labels)
            self.right += (logits.argmax(1) == labels).int().tolist()
        self.log("test_accuracy", self.test_accuracy, batch_size=len(labels))

    def _counted(self, batch: Batch | SpectrogramBatch) -> tuple[Tensor, Tensor]:
        """Return the logits and labels of a batch, without the clips that only fill it."""
        model = self.kept
        if isinstance(batch, SpectrogramBatch):
            logits = model.classify(batch.spec, batch.real)
        else:
            spec = model.spectrogram(batch.waveform, batch.length)
            logits = model.classify(spec, model.real_frames(batch.waveform, batch.length))
        counts = batch.label.reshape(len(batch.label), -1)[:, 0] != NO_LABEL
        return logits[counts], batch.label[counts]

    def configure_optimizers(self) -> dict[str, Any]:
        """Make the optimizer and the schedule of the recipe."""
        recipe = self.recipe
        betas = {} if recipe.betas is None else {"betas": recipe.betas}
        # For a module instead of its parameters, timm would not apply weight decay to biases and norms.
        optimizer = create_optimizer_v2(
            list(self.parameters()), recipe.optimizer, recipe.lr, recipe.weight_decay, **betas
        )
        if recipe.schedule == "onecycle":
            steps = int(self.trainer.estimated_stepping_batches) // recipe.epochs * (recipe.epochs - recipe.cycle_from)
            # PyTorch divides by the number of steps before the peak minus one.
            rise = 0.2 if 0.2 * steps != 1 else 0.25
            cycle = torch.optim.lr_scheduler.OneCycleLR(
                optimizer,
                max_lr=recipe.lr,
                total_steps=steps,
                pct_start=rise,
                cycle_momentum=recipe.betas is None and bool({"betas", "momentum"} & optimizer.defaults.keys()),
            )
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}
        if recipe.schedule == "step":
            falls = range(recipe.decay_from, recipe.epochs + 1, recipe.decay_every)
            steps_down = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(falls), gamma=recipe.decay)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": steps_down, "interval": "epoch"}}
        return {"optimizer": optimizer}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Drop parts of a schedule's state that the recipe has changed, because a finished run may have been extended.

        A one-cycle schedule then makes another cycle over the added epochs. A step schedule continues.
        """
        states = checkpoint["lr_schedulers"]
        place = checkpoint["callbacks"]["Keeper"]["place"]
        if self.recipe.cycle_from and list(place) == [self.recipe.cycle_from, 0]:
            states.clear()
        for state in states:
            state.pop("milestones", None)

    def on_train_start(self) -> None:
        """Start a new cycle at its own first learning rate, not at the last one of the previous cycle."""
        self._averaged = self.global_step
        recipe = self.recipe
        if recipe.schedule == "onecycle" and recipe.cycle_from and self.trainer.current_epoch == recipe.cycle_from:
            (schedule,) = self.trainer.lr_scheduler_configs
            if schedule.scheduler.last_epoch == 0:
                for group in self.trainer.optimizers[0].param_groups:
                    group["lr"], group["betas"] = group["initial_lr"], (group["max_momentum"], *group["betas"][1:])


def _average(model: FrontendModel, decay: float) -> AveragedModel:
    """Make the moving average of a model's weights and of its batch norms' statistics."""
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    return average.requires_grad_(False).eval()


def _loss(
    model: FrontendModel, recipe: Recipe, teaching: Teaching, weights: Tensor | None
) -> DistillationLoss | FeatureLoss:
    """Make the loss of a recipe."""
    criterion = LOSSES[recipe.loss](recipe, weights)
    if not teaching.teaches:
        return DistillationLoss(criterion, 1.0)
    if recipe.kd_loss in FEATURES:
        return FeatureLoss(criterion, _widths(model, teaching), recipe.kd_weight, DISTANCES[recipe.kd_loss])
    compare = comparison(recipe.kd_loss, alpha=recipe.kd_alpha, beta=recipe.kd_beta)
    return DistillationLoss(criterion, recipe.kd_weight, recipe.kd_temperature, compare=compare)


@torch.no_grad()
def _widths(model: FrontendModel, teaching: Teaching) -> tuple[int, int]:
    """Measure how many features student and teacher have, on silence."""
    training = model.training
    device = next(model.parameters()).device
    waveform = torch.zeros(2, model.features.samples, device=device)
    spec = model.eval().spectrogram(waveform)
    with pooled(model) as features:
        model.classify(spec, model.real_frames(waveform))
    model.train(training)
    if teaching.logits is not None:
        return features[-1].shape[1], teaching.logits.shape[1]
    (live,) = teaching.live
    return features[-1].shape[1], live.teacher.to(device)(waveform if live.hears == "waveform" else spec).shape[1]


class Mean(Metric):
    """The mean of a value over all clips of all processes, from its mean in each batch.

    Lightning's own mean is wrong if processes have unequal numbers of clips. The mean of torchmetrics drops NaN, or it ignores
    the numbers of clips.

    >>> mean = Mean()
    >>> mean.update(torch.tensor(1.0), clips=1)
    >>> mean.update(torch.tensor(4.0), clips=2)
    >>> mean.compute()
    tensor(3.)
    """

    total: Tensor
    clips: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("clips", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, mean: Tensor, clips: int) -> None:
        """Add the mean of a batch, a scalar, and its number of clips."""
        self.total += mean.detach() * clips
        self.clips += clips

    def compute(self) -> Tensor:
        """Return the mean so far."""
        return self.total / self.clips


class BinaryCrossEntropy(nn.Module):
    """Mean binary cross entropy of logits ``(B, classes)`` and class numbers ``(B,)`` or probabilities ``(B, classes)``.

    Args:
        label_smoothing: part of the target that is divided equally among all classes, in [0, 1).
        weight: weight of each class ``(classes,)``. None weighs all alike.

    >>> BinaryCrossEntropy()(torch.zeros(1, 2), torch.tensor([0]))
    tensor(0.6931)
    """

    weight: Tensor | None

    def __init__(self, label_smoothing: float = 0.0, weight: Tensor | None = None) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        if target.ndim == 1:
            target = nn.functional.one_hot(target, logits.shape[1]).to(logits.dtype)
        target = smooth_labels(target, self.label_smoothing)
        return nn.functional.binary_cross_entropy_with_logits(logits, target, self.weight)


class FocalLoss(nn.Module):
    """Mean focal loss of logits ``(B, classes)`` and class numbers ``(B,)`` or probabilities ``(B, classes)``.

    For a class with the probability p and the target y it is ``-a_t (1 - p_t)^gamma log p_t``. Where y is 1, ``p_t`` is p and
    ``a_t`` is alpha; where y is 0, they are 1 - p and 1 - alpha. Between 0 and 1 it is the mean of both, weighted by y.

    Args:
        gamma: power, 0 or more. With 0 it is the binary cross entropy, weighted by alpha.
        alpha: weight of classes that a clip has, between 0 and 1.
        label_smoothing: part of the target that is divided equally among all classes, in [0, 1).
        weight: weight of each class ``(classes,)``. None weighs all alike.

    Source: Lin et al., "Focal Loss for Dense Object Detection", arXiv:1708.02002, equation (5).

    >>> FocalLoss(gamma=0.0, alpha=0.5)(torch.zeros(1, 2), torch.tensor([0]))
    tensor(0.3466)
    """

    weight: Tensor | None

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float = 0.25,
        label_smoothing: float = 0.0,
        weight: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)
        self.gamma, self.alpha, self.label_smoothing = gamma, alpha, label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        if target.ndim == 1:
            target = nn.functional.one_hot(target, logits.shape[1])
        y = smooth_labels(target.to(logits.dtype), self.label_smoothing)
        there = -self.alpha * (-logits).sigmoid() ** self.gamma * nn.functional.logsigmoid(logits)
        absent = -(1 - self.alpha) * logits.sigmoid() ** self.gamma * nn.functional.logsigmoid(-logits)
        loss = y * there + (1 - y) * absent
        return (loss if self.weight is None else loss * self.weight).mean()


def _cross_entropy(recipe: Recipe, weight: Tensor | None) -> nn.Module:
    loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    loss.register_buffer("weight", weight, persistent=False)  # a checkpoint of a run without weights has none
    return loss


LOSSES: dict[str, Callable[[Recipe, Tensor | None], nn.Module]] = {
    "cross_entropy": _cross_entropy,
    "binary_cross_entropy": lambda recipe, weight: BinaryCrossEntropy(recipe.label_smoothing, weight),
    "focal": lambda recipe, weight: FocalLoss(recipe.focal_gamma, recipe.focal_alpha, recipe.label_smoothing, weight),
}
"""The losses on the labels by name. Each is made of a recipe and of the weight of each class, or None."""
