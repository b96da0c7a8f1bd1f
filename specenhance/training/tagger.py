"""The Lightning module of a multi-label model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric

from specenhance.analysis.multi_label import MultiLabelScore, tuned_thresholds
from specenhance.training.module import Classifier

__all__ = ["Seen", "Tagger"]


class Seen(Metric):
    """The probabilities and targets of all clips of all processes. Its value is their mean average precision.

    >>> seen = Seen()
    >>> seen.update(torch.tensor([[0.9, 0.2], [0.1, 0.7]]), torch.eye(2))
    >>> seen.compute()
    tensor(1.)
    """

    probabilities: list[Tensor]
    targets: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("probabilities", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, targets: Tensor) -> None:
        """Add the clips of a batch ``(B, classes)``."""
        self.probabilities.append(probabilities.float())
        self.targets.append(targets)

    def compute(self) -> Tensor:
        """Return the mean average precision so far."""
        p, y = self.all()
        return torch.tensor(MultiLabelScore(p, y, [0.5] * p.shape[1]).mean_ap)

    def all(self) -> tuple[Tensor, Tensor]:
        """Return the probabilities and the targets ``(clips, classes)`` on the CPU."""
        # Between processes torchmetrics makes one tensor of a list.
        p, y = (torch.cat(part) if isinstance(part, list) else part for part in (self.probabilities, self.targets))
        return p.cpu(), y.cpu()


class Tagger(Classifier):
    """Train and test a multi-label model by a recipe, as :class:`Classifier` does a model of one class a clip.

    An epoch's score on the validation clips is the mean average precision. The training clips are not scored.

    >>> from specenhance.training.build import build_model
    >>> from specenhance.training.recipe import recipe_for
    >>> fields = {"multi_label": True, "backbone": "test_resnet", "frontend": "tfe1", "frames": 96, "bins": 32}
    >>> recipe = recipe_for("synthetic", **fields)
    >>> Tagger(build_model(recipe, num_classes=2), recipe).columns
    ('epoch', 'train_loss', 'val_loss', 'val_mean_ap', 'lr')
    """

    columns = ("epoch", "train_loss", "val_loss", "val_mean_ap", "lr")
    running = ("train_loss",)

    def make_metrics(self, num_classes: int) -> None:
        """Make the metrics of an epoch and of a test."""
        self.val_seen = Seen()
        self.test_seen = Seen()

    def start_test(self) -> None:
        """Forget what was seen in an earlier test."""
        self.test_seen.reset()

    def score(self, figures: Mapping[str, float]) -> MultiLabelScore:
        """Give the score of the clips of the last test, at the model's thresholds."""
        with self.test_seen.sync_context():
            p, y = self.test_seen.all()
        return MultiLabelScore(p, y, self.model.thresholds or [])

    def tune(self) -> None:
        """Set the model's thresholds to those of the highest F1 on the clips of the last test."""
        with self.test_seen.sync_context():
            self.model.thresholds = tuned_thresholds(*self.test_seen.all())

    def count_training(self, logits: Tensor, labels: Tensor) -> None:
        """Do nothing: the score of the training clips would have to keep all of them."""

    def count_validation(self, logits: Tensor, labels: Tensor) -> None:
        """Keep the probabilities of a validation batch."""
        if len(labels):
            self.val_seen.update(logits.sigmoid(), labels)
        self.log("val_mean_ap", self.val_seen, prog_bar=True, batch_size=len(labels))

    def count_test(self, logits: Tensor, labels: Tensor) -> None:
        """Keep the probabilities of a test batch."""
        if len(labels):
            self.test_seen.update(logits.sigmoid(), labels)
