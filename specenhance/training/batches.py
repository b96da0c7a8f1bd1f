"""From a data set to the batches of a run: their order, their shares among devices, and where their spectrograms are made."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from specenhance.data import AudioDataset, Batch, collate
from specenhance.data.augment import mix_waveforms
from specenhance.training.recipe import Recipe

__all__ = ["NO_LABEL", "SpectrogramBatch", "loader", "mix"]

NO_LABEL = -1  # of a clip that only fills a batch


class SpectrogramBatch(NamedTuple):
    """A batch whose spectrograms were made where its clips were read.

    Attributes:
        spec: ``(B, C, T, F)``, of mixed clips in training if the recipe mixes.
        target: what to learn, class numbers ``(B,)`` or shares ``(B, classes)``.
        label: ``(B,)`` int64, each clip's own.
    """

    spec: Tensor
    target: Tensor
    label: Tensor


def loader(
    data: AudioDataset,
    recipe: Recipe,
    *,
    train: bool,
    workers: int = 0,
    devices: int = 1,
    rank: int = 0,
    features: nn.Module | None = None,
) -> DataLoader:
    """Make batches of a split; in training in an order that depends on the seed and the epoch alone.

    Several devices share the recipe's batch: together they have the clips, in training even the batches, that one alone
    would have. In evaluation a share that comes out short is filled with clips of the label :data:`NO_LABEL`.

    Args:
        data: the split.
        recipe: its batch and seed.
        train: whether to shuffle, and to leave out a short last batch.
        workers: processes that read clips.
        devices: that share the batch.
        rank: which of them this is for.
        features: without weights that learn; makes the spectrograms there, on the CPU. A batch is a
            :class:`SpectrogramBatch` then, else a :class:`~specenhance.data.Batch`.
    """
    # PyTorch's sampler for many processes is also the one that draws each epoch's order from (seed, epoch): a resumed
    # run meets the order that an uninterrupted one would have met.
    full = len(data) >= recipe.batch_size
    sampler: Sampler[Any] | None = None
    if train:
        sampler = DistributedSampler(data, devices, rank, shuffle=True, seed=recipe.seed, drop_last=full)
    elif devices > 1:
        data = _Filled(data, -len(data) % devices)
        sampler = DistributedSampler(data, devices, rank, shuffle=False)
    collate_fn: Callable[[Any], Any] = collate if features is None else _whole
    return DataLoader(
        data if features is None else _Spectrograms(data, features, recipe, train),
        batch_size=recipe.batch_size // devices,
        sampler=sampler,
        drop_last=train and full,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=collate_fn,
        pin_memory=torch.cuda.is_available(),
    )


def mix(batch: Batch, recipe: Recipe, num_classes: int) -> tuple[Tensor, Tensor]:
    """Give waveforms ``(B, N)`` and their labels: class numbers ``(B,)``, or shares where the recipe mixes clips."""
    if recipe.mixup == 0:
        return batch.waveform, batch.label
    shares = nn.functional.one_hot(batch.label, num_classes).float()
    return mix_waveforms(batch.waveform, batch.length, shares, recipe.mixup, recipe.mixup_alpha)


class _Filled(AudioDataset):
    """A data set with some clips more, that count for nothing: the processes of a run must take equally many steps."""

    def __init__(self, data: AudioDataset, more: int) -> None:
        super().__init__(data.classes, [*data.labels, *[NO_LABEL] * more], sample_rate=data.sample_rate)
        self.data = data

    def waveform(self, i: int) -> Tensor:
        return self.data.waveform(i % len(self.data))


class _Spectrograms(Dataset[SpectrogramBatch]):
    """A data set that gives whole batches: PyTorch's loader asks for all clips of one at once where it can."""

    def __init__(self, data: AudioDataset, features: nn.Module, recipe: Recipe, train: bool) -> None:
        self.data, self.features, self.recipe, self.train = data, features, recipe, train

    def __len__(self) -> int:
        return len(self.data)

    @torch.no_grad()
    def __getitems__(self, indices: list[int]) -> SpectrogramBatch:
        batch = collate([self.data[i] for i in indices])
        waveform, target = batch.waveform, batch.label
        if self.train:
            # A batch is known by its clips and their order, whichever process makes it and after whatever stop.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.recipe.seed * 1_000_003 + zlib.crc32(repr(indices).encode()))
                waveform, target = mix(batch, self.recipe, len(self.data.classes))
        return SpectrogramBatch(self.features(waveform, batch.length), target, batch.label)


def _whole(batch: SpectrogramBatch) -> SpectrogramBatch:
    return batch
