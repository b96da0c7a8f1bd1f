"""From a data set to the batches of a run: their order, their parts for each device, and where their spectrograms are made."""

from __future__ import annotations

import os
import signal
import sys
import zlib
from collections.abc import Iterator
from multiprocessing import queues
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from specenhance.data import AudioDataset, Batch, collate
from specenhance.training.augment import mix_waveforms, place_in_noise
from specenhance.training.recipe import Recipe

__all__ = [
    "NO_LABEL",
    "START",
    "Loader",
    "Place",
    "SpectrogramBatch",
    "WorkerError",
    "loader",
    "mix",
    "steps_per_epoch",
]

PATIENCE = 30  # s that a process which reads clips goes on after a stop signal
NO_LABEL = -1  # of a clip that only fills a batch


class WorkerError(OSError):
    """A process that reads clips has died."""


class SpectrogramBatch(NamedTuple):
    """A batch whose spectrograms were made where its clips were read.

    Attributes:
        spec: ``(B, C, T, F)``, of mixed clips in training if the recipe mixes.
        target: what to learn, class numbers ``(B,)`` or probabilities ``(B, classes)``.
        label: ``(B,)`` int64, each clip's own.
    """

    spec: Tensor
    target: Tensor
    label: Tensor


class Place(NamedTuple):
    """Where a run stands: before the batch of this number in the epoch of this number, both from 0."""

    epoch: int = 0
    batch: int = 0


class Draw(NamedTuple):
    """A clip that is asked for, by its number, and the epoch that asks."""

    clip: int
    epoch: int


START = Place()


def steps_per_epoch(clips: int, batch_size: int, devices: int = 1) -> int:
    """Count the batches of an epoch: a short last one is kept, unless a device would have a single clip of it.

    Batch norm learns nothing from a single clip: those are joined to the batch before.
    """
    return max(1, clips // batch_size + (clips % batch_size >= 2 * devices))


def loader(
    data: AudioDataset,
    recipe: Recipe,
    *,
    train: bool,
    workers: int = 0,
    devices: int = 1,
    rank: int = 0,
    start: Place = START,
    seconds: float | None = None,
    features: nn.Module | None = None,
) -> Loader:
    """Make batches of a split; in training in an order that depends on the seed and the epoch alone.

    Of a longer clip no more is read than ``seconds``: its start, or in training, with ``crop = "random"``, any part. With it
    every second clip that is shorter is put at any place in faint noise of that length. Both draws depend on the seed, the
    epoch and the clip only.

    Several devices have the recipe's batch among them: together they have the clips, in training even the batches, that one
    alone would have. A part that comes out short is filled, in training with the first clips of the epoch, in evaluation
    with clips of the label :data:`NO_LABEL`.

    Args:
        data: the split.
        recipe: its batch, seed and crop.
        train: whether to shuffle.
        workers: processes that read clips.
        devices: that have the batch among them.
        rank: which of them this is for.
        start: where a run is taken up in training.
        seconds: the maximum that is read of a clip; None reads all.
        features: without weights that learn; makes the spectrograms there, on the CPU. A batch is a
            :class:`SpectrogramBatch` then, else a :class:`~specenhance.data.Batch`.

    Raises:
        ValueError: for fewer training clips than two for each device.
    """
    if train and len(data) < 2 * devices:
        raise ValueError(
            f"{len(data)} training clip(s) on {devices} device(s): expected 2 or more for each, batch norm needs them"
        )
    order: Sampler[list[Draw]]
    if train:
        order = TrainingOrder(len(data), recipe, devices, rank, start)
    else:
        order = EvaluationOrder(len(data), recipe.batch_size, devices, rank)
    return Loader(
        _Batches(data, recipe, train, seconds, features),
        batch_sampler=order,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=_whole,
        worker_init_fn=_start_worker,
        pin_memory=torch.cuda.is_available(),
    )


class TrainingOrder(Sampler[list[Draw]]):
    """The training batches of one process, epoch after epoch."""

    def __init__(self, clips: int, recipe: Recipe, devices: int = 1, rank: int = 0, start: Place = START) -> None:
        self.clips, self.batch_size, self.seed = clips, recipe.batch_size, recipe.seed
        self.devices, self.rank = devices, rank
        self.start, self.epoch = start, start.epoch

    @property
    def sampler(self) -> TrainingOrder:
        """Itself: of a batch sampler, Lightning tells this one the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass is."""
        self.epoch = epoch

    def __len__(self) -> int:
        return steps_per_epoch(self.clips, self.batch_size, self.devices)

    def __iter__(self) -> Iterator[list[Draw]]:
        drawn = torch.randperm(self.clips, generator=torch.Generator().manual_seed(self.seed + self.epoch)).tolist()
        steps = len(self)
        skip = self.start.batch if self.epoch == self.start.epoch else 0
        for step in range(skip, steps):
            end = (step + 1) * self.batch_size if step + 1 < steps else self.clips
            batch = drawn[step * self.batch_size : end]
            batch += drawn[: -len(batch) % self.devices]
            yield [Draw(i, self.epoch) for i in batch[self.rank :: self.devices]]


class EvaluationOrder(Sampler[list[Draw]]):
    """All clips in their order, those of one process; the number -1 fills a short part."""

    def __init__(self, clips: int, batch_size: int, devices: int = 1, rank: int = 0) -> None:
        places = [*range(clips), *[NO_LABEL] * (-clips % devices)]
        self.places, self.size = places[rank::devices], max(1, batch_size // devices)

    def __len__(self) -> int:
        return -(-len(self.places) // self.size)

    def __iter__(self) -> Iterator[list[Draw]]:
        for at in range(0, len(self.places), self.size):
            yield [Draw(i, 0) for i in self.places[at : at + self.size]]


def mix(batch: Batch, recipe: Recipe, num_classes: int) -> tuple[Tensor, Tensor]:
    """Give waveforms ``(B, N)`` and their labels: class numbers ``(B,)``, or probabilities where the recipe mixes clips."""
    if recipe.mixup == 0:
        return batch.waveform, batch.label
    target = nn.functional.one_hot(batch.label, num_classes).float()
    return mix_waveforms(batch.waveform, batch.length, target, recipe.mixup, recipe.mixup_alpha)


class _Failure(NamedTuple):
    """An error on its way from the process that met it: PyTorch's own way would put its whole traceback into the message."""

    error: Exception


class _Batches(Dataset[Any]):
    """A data set that gives whole batches: PyTorch's loader asks for all clips of one at once."""

    def __init__(
        self, data: AudioDataset, recipe: Recipe, train: bool, seconds: float | None, features: nn.Module | None
    ) -> None:
        self.data, self.recipe, self.train, self.seconds, self.features = data, recipe, train, seconds, features

    def __getitems__(self, draws: list[Draw]) -> Batch | SpectrogramBatch | _Failure:
        try:
            return self._batch(draws)
        except (ValueError, OSError, ImportError, MemoryError) as error:
            return _Failure(error)

    def _batch(self, draws: list[Draw]) -> Batch | SpectrogramBatch:
        labels = [self.data.labels[i] if i >= 0 else NO_LABEL for i, _ in draws]
        batch = collate([(self._clip(draw), label) for draw, label in zip(draws, labels, strict=True)])
        if self.features is None:
            return batch
        waveform, target = batch.waveform, batch.label
        if self.train:
            # A batch is known by its clips and their order, whichever process makes it and after whatever stop.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.recipe.seed * 1_000_003 + zlib.crc32(repr(draws).encode()))
                waveform, target = mix(batch, self.recipe, len(self.data.classes))
        with torch.no_grad():
            return SpectrogramBatch(self.features(waveform, batch.length), target, batch.label)

    def _clip(self, draw: Draw) -> Tensor:
        if self.seconds is None:
            return self.data.waveform(max(0, draw.clip))
        if not self.train or self.recipe.crop == "start":
            return self.data.excerpt(max(0, draw.clip), self.seconds)
        drawn = torch.Generator().manual_seed(zlib.crc32(repr((self.recipe.seed, *draw)).encode()))
        place, as_it_is = torch.rand(2, generator=drawn).tolist()
        clip = self.data.excerpt(draw.clip, self.seconds, place)
        if as_it_is < 0.5:  # as evaluation has it
            return clip
        return place_in_noise(clip, round(self.seconds * self.recipe.sample_rate), drawn)


class Loader(DataLoader[Any]):
    """PyTorch's loader, with the errors of its processes as they were raised, and their death told in a line."""

    def __iter__(self) -> Any:
        try:
            for batch in super().__iter__():
                if isinstance(batch, _Failure):
                    raise batch.error
                yield batch
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise WorkerError(
                f"a process that reads clips has died ({str(error).splitlines()[0]}): too little memory, or too little shared "
                "memory (/dev/shm) for the batches between processes; give the machine or the container more (docker run "
                "--shm-size=2g), or read in the main process by --workers 0"
            ) from None

    def close(self) -> None:
        """End the processes that read clips."""
        if self._iterator is not None and hasattr(self._iterator, "_shutdown_workers"):
            self._iterator._shutdown_workers()  # as Lightning does; PyTorch has no public way
            self._iterator = None


def _whole(batch: Any) -> Any:
    return batch


def _start_worker(number: int) -> None:
    """Set a process that reads clips up to end, and let itself be ended, in order."""
    # Ctrl-C and the stop signals go to all processes; this one is still needed until the step is finished.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(PATIENCE))
    # A batch that cannot be sent is otherwise printed and dropped, and the run would wait for it forever.
    queues.Queue._on_queue_feeder_error = staticmethod(_die)  # type: ignore[attr-defined]


def _die(error: Exception, batch: object) -> None:
    print(f"a batch could not be sent from the process that read it: {error}", file=sys.stderr, flush=True)
    os._exit(1)
