"""Classify the clips of a data set by a model: its probabilities, its confusions and its mean mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchmetrics.functional.classification import multiclass_confusion_matrix

from specenhance.analysis.intervals import AccuracyInterval, accuracy_interval
from specenhance.analysis.masks import MaskChange, mask_change, real_frames
from specenhance.analysis.multi_label import MultiLabelScore
from specenhance.data import AudioDataset, collate
from specenhance.data.groups import CLIP, groups_of, kind_of
from specenhance.frontends.base import factors_of
from specenhance.models.adapter import FrontendModel

__all__ = ["Confusion", "Findings", "MeanMask", "examine"]


class Confusion(NamedTuple):
    """Two classes that a model confuses.

    Attributes:
        true: number of the true class.
        predicted: number of the predicted class.
        clips: number of clips of the true class that are classified as the predicted class.
        of: number of all clips of the true class.

    >>> Confusion(true=1, predicted=0, clips=2, of=10).clips
    2
    """

    true: int
    predicted: int
    clips: int
    of: int


@dataclass
class MeanMask:
    """A model's mask, averaged over the clips of a data set. Frames that are padding in a clip are left out.

    Attributes:
        classes: mean mask of each class's clips ``(classes, T, F)``; NaN where no clip has a frame.
        all: mean mask of all clips ``(T, F)``.
        e_t: mean factor over time ``(T,)``.
        e_f: mean factor over frequency ``(F,)``.
        spread_t: standard deviation of the factor over time between clips ``(T,)``.
        spread_f: standard deviation of the factor over frequency between clips ``(F,)``.
        change: how much the first channel's mask changes.
    """

    classes: Tensor
    all: Tensor
    e_t: Tensor
    e_f: Tensor
    spread_t: Tensor
    spread_f: Tensor
    change: MaskChange

    @property
    def range(self) -> tuple[float, float]:
        """The minimum and the maximum of the mean mask of all clips."""
        finite = self.all[self.all.isfinite()]
        return finite.min().item(), finite.max().item()

    @property
    def difference(self) -> Tensor:
        """The mean mask of each class less that of all clips ``(classes, T, F)``."""
        return self.classes - self.all

    @property
    def largest_difference(self) -> float:
        """The maximum of the difference's absolute value."""
        difference = self.difference
        return difference[difference.isfinite()].abs().max().item()


@dataclass
class Findings:
    """The results of a model on the clips of a data set.

    Attributes:
        probabilities: probability of each class, for each clip ``(clips, classes)``.
        labels: true class of each clip ``(clips,)`` int64. Of a multi-label model 0 or 1 for each class ``(clips, classes)``.
        mask: the mean mask; None for a front end without a mask.
        groups: the group of each clip; empty if it is not known.
        unit: what a group is, such as ``"speaker"``.
        thresholds: the thresholds of a multi-label model. It has no accuracy and no confusions, but a :attr:`score`.

    >>> found = Findings(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]), torch.tensor([0, 1, 1]), None)
    >>> found.confusion.tolist()
    [[1, 0], [1, 1]]
    >>> found.right, found.worst(3), found.confused(3)
    (2, [2], [Confusion(true=1, predicted=0, clips=1, of=2)])
    """

    probabilities: Tensor
    labels: Tensor
    mask: MeanMask | None
    groups: Sequence[str] = ()
    unit: str = CLIP
    thresholds: Sequence[float] | None = None

    @property
    def score(self) -> MultiLabelScore | None:
        """The score of a multi-label model. None for a model of one class a clip."""
        return None if self.thresholds is None else MultiLabelScore(self.probabilities, self.labels, self.thresholds)

    @property
    def predicted(self) -> Tensor:
        """The class of highest probability, for each clip ``(clips,)``."""
        return self.probabilities.argmax(1)

    @property
    def right(self) -> int:
        """The number of clips that are classified right."""
        return int((self.predicted == self.labels).sum())

    @property
    def accuracy(self) -> float:
        """The part of the clips that is classified right, in [0, 1]."""
        return self.right / len(self.labels)

    @property
    def interval(self) -> AccuracyInterval:
        """The interval of the accuracy."""
        return accuracy_interval((self.predicted == self.labels).tolist(), self.groups, self.unit)

    @property
    def confusion(self) -> Tensor:
        """The number of clips of each true class and each predicted class ``(true, predicted)``."""
        # The checks of torchmetrics would refuse a data set of a single class.
        classes = self.probabilities.shape[1]
        return multiclass_confusion_matrix(self.predicted, self.labels, num_classes=classes, validate_args=False)

    def confused(self, number: int) -> list[Confusion]:
        """List the pairs of classes that are confused, the most frequent first, at most ``number`` of them."""
        counts = self.confusion
        wrong = counts.clone().fill_diagonal_(0)
        found = []
        for flat in wrong.flatten().argsort(descending=True, stable=True)[:number].tolist():
            true, predicted = divmod(flat, len(counts))
            if wrong[true, predicted]:
                found.append(Confusion(true, predicted, int(wrong[true, predicted]), int(counts[true].sum())))
        return found

    def each_class(self) -> list[Confusion]:
        """Count the clips of each class that are classified right, the worst class first and a class without clips last."""
        rows = [Confusion(i, i, int(row[i]), int(row.sum())) for i, row in enumerate(self.confusion)]
        # The page shows whole percent, so classes with the same number are equals.
        return sorted(rows, key=lambda row: (row.of == 0, round(100 * row.clips / max(1, row.of))))

    def worst(self, number: int) -> list[int]:
        """List the clips that are classified wrong, the lowest probability of the true class first.

        Of a multi-label model these are the clips with a class that is missed or wrongly found, the largest loss first.
        """
        if self.thresholds is not None:
            loss = binary_cross_entropy(self.probabilities, self.labels.float(), reduction="none").mean(1)
            wrong = self._decided_wrong()
            return [i for i in loss.argsort(descending=True, stable=True).tolist() if wrong[i]][:number]
        true = self.probabilities.gather(1, self.labels[:, None])[:, 0]
        return [i for i in true.argsort(stable=True).tolist() if self.predicted[i] != self.labels[i]][:number]

    def examples(self, number: int) -> list[int]:
        """List clips that are classified right, the first clip of each of ``number`` classes.

        Of a multi-label model these are the first clips of which each class is decided right and that have one.
        """
        if self.thresholds is not None:
            good = ~self._decided_wrong() & (self.labels.sum(1) > 0)
            return [int(i) for i in good.nonzero()][:number]
        right = [int(i) for i in (self.predicted == self.labels).nonzero()]
        of_class = {int(self.labels[i]): i for i in reversed(right)}  # the first of each class
        step = max(1, len(of_class) // number)
        return [of_class[label] for label in sorted(of_class)[::step]][:number]

    def _decided_wrong(self) -> Tensor:
        found = self.probabilities >= torch.tensor(self.thresholds, dtype=self.probabilities.dtype)
        return (found != (self.labels > 0)).any(1)


@torch.no_grad()
def examine(model: FrontendModel, data: AudioDataset, batch_size: int = 64, group: str = "") -> Findings:
    """Classify the clips of a data set, and average the model's mask over them.

    Args:
        model: from waveforms to logits, with features of a fixed number of frames. It is put into evaluation mode.
        data: the clips; its classes are the model's, in the model's order.
        batch_size: number of clips that are classified at once.
        group: what a group is, see :func:`specenhance.data.groups.kind_of`.

    Raises:
        ValueError: for a model without features, and for a data set without clips.

    >>> from specenhance import KaldiFbank, with_frontend
    >>> from specenhance.data import SyntheticSounds
    >>> import timm
    >>> data = SyntheticSounds("test", clips_per_class=1)
    >>> backbone = timm.create_model("test_resnet", in_chans=1, num_classes=len(data.classes))
    >>> model = with_frontend(backbone, "tfe1", features=KaldiFbank(frames=24, num_mel_bins=32))
    >>> found = examine(model, data)
    >>> found.probabilities.shape == (len(data), len(data.classes)), found.mask.all.shape
    (True, torch.Size([24, 32]))
    """
    if model.features is None:
        raise ValueError("the model takes spectrograms: give it features, with_frontend(..., features=...)")
    if not len(data):
        raise ValueError("the data set has no clips")
    model.eval()
    device = next(model.parameters()).device
    probabilities, labels = [], []
    sums: _MaskSums | None = None
    for batch in DataLoader(_Heard(data, model.features), batch_size=batch_size, collate_fn=collate):
        waveform = batch.waveform.to(device)
        spec, real = model.spectrogram(waveform, batch.length), model.real_frames(waveform, batch.length)
        probabilities.append(model.probabilities(model.classify(spec, real)).cpu())
        labels.append(batch.label)
        factors = factors_of(model.frontend, spec, real)
        if factors is not None:
            sums = sums or _MaskSums(len(data.classes))
            e_t, e_f = (factor.cpu() for factor in factors)
            sums.add(e_t, e_f, real_frames(model, batch), batch.label)
    unit = kind_of(data, group)
    return Findings(
        torch.cat(probabilities),
        torch.cat(labels),
        None if sums is None else sums.mean(),
        groups_of(data, unit),
        unit,
        model.thresholds if data.multi_label else None,
    )


class _Heard(Dataset[tuple[Tensor, int | Tensor]]):
    """The clips of a data set, each only as far as a model's features look at it."""

    def __init__(self, data: AudioDataset, features: Any) -> None:
        self.data = data
        samples = getattr(features, "samples", None)
        self.seconds = None if samples is None else samples / data.sample_rate

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> tuple[Tensor, int | Tensor]:
        waveform = self.data.waveform(i) if self.seconds is None else self.data.excerpt(i, self.seconds)
        return waveform, self.data.target(i)


class _MaskSums:
    def __init__(self, classes: int) -> None:
        self.classes: Any = classes
        self.masks: Any = 0.0
        self.frames: Any = 0.0
        self.all: Any = 0.0
        self.t: list[Tensor] = []
        self.f: list[Tensor] = []
        self.real: list[Tensor] = []

    def add(self, e_t: Tensor, e_f: Tensor, real: Tensor, label: Tensor) -> None:
        e_t, e_f = e_t[:, 0].double(), e_f[:, 0].double()  # (B, T) and (B, F), of the first channel
        one_hot = (label if label.ndim == 2 else torch.nn.functional.one_hot(label, self.classes)).double()
        self.masks = self.masks + torch.einsum("bk,bt,bf->ktf", one_hot, e_t * real, e_f)
        self.frames = self.frames + torch.einsum("bk,bt->kt", one_hot, real)
        self.all = self.all + torch.einsum("bt,bf->tf", e_t * real, e_f)
        self.t.append(e_t)
        self.f.append(e_f)
        self.real.append(real)

    def mean(self) -> MeanMask:
        e_t, e_f, real = torch.cat(self.t), torch.cat(self.f), torch.cat(self.real)
        clips = real.sum(0)
        mean_t = (e_t * real).sum(0) / clips
        spread_t = (((e_t - mean_t.nan_to_num()).square() * real).sum(0) / clips).sqrt()
        return MeanMask(
            classes=self.masks / self.frames[:, :, None],
            all=self.all / clips[:, None],
            e_t=mean_t,
            e_f=e_f.mean(0),
            spread_t=spread_t,
            spread_f=e_f.std(0, correction=0),
            change=mask_change(e_t[:, None], e_f[:, None], real),
        )
