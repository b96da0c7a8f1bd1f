"""The batches of a run: their order, the part of each device, and where their spectrograms are made."""

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
from specenhance.distillation.ensemble import from_parts, to_parts
from specenhance.training.acoustics import alter
from specenhance.training.augment import cut_waveforms, mix_waveforms, place_in_noise
from specenhance.training.balance import balancing_weights
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
    "view_of",
]

PATIENCE = 30  # s; a process that reads clips ends so long after a stop signal
WINDOW = 8  # blocks whose clips are shuffled together
NO_LABEL = -1  # the label of a clip that only fills a batch; of a multi-label data set each class's


class WorkerError(OSError):
    """The error of a run if a process that reads clips has died."""


class SpectrogramBatch(NamedTuple):
    """A batch whose spectrograms were made in the process that read its clips.

    Attributes:
        spec: ``(B, C, T, F)``. In training, clips are mixed if the recipe says so.
        target: what the model learns: class numbers ``(B,)``, or probabilities ``(B, classes)``.
        label: the class number of each clip, ``(B,)`` int64. Of a multi-label data set 0 or 1 for each class, ``(B, classes)``.
        real: False for a frame of padding, ``(B, T)``. None if the features do not say.
        taught: a teacher's logits ``(B, classes)``, mixed as the clips are. None if they are not known.
    """

    spec: Tensor
    target: Tensor
    label: Tensor
    real: Tensor | None = None
    taught: Tensor | None = None


class Place(NamedTuple):
    """The next step of a run: the numbers of its epoch and of its batch, both from 0.

    >>> Place(epoch=2).batch
    0
    """

    epoch: int = 0
    batch: int = 0


class Draw(NamedTuple):
    """The number of a clip to read, and the number of the epoch that needs it."""

    clip: int
    epoch: int


START = Place()


def steps_per_epoch(clips: int, batch_size: int, devices: int = 1) -> int:
    """Count the batches of an epoch.

    A short last batch is kept if each device gets at least two clips of it. Otherwise its clips join the batch before, because
    batch norm learns nothing from a single clip.

    Args:
        clips: number of training clips.
        batch_size: number of clips in each batch, over all devices.
        devices: number of devices that share each batch.

    >>> steps_per_epoch(100, 32), steps_per_epoch(97, 32)
    (4, 3)
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
    taught: Tensor | None = None,
) -> Loader:
    """Make batches of a split. In training, their order depends only on the seed and the epoch.

    At most ``seconds`` of a clip are read: its start, or in training, with ``crop = "random"``, any part of it. With
    ``crop = "random"``, half of the shorter clips are put at a random place in faint noise of that length. Both draws depend
    only on the seed, the epoch and the clip.

    Several devices share each batch of the recipe. Together they read the clips that one device would read. In training the
    batches are the same too. A part that has too few clips is filled: in training with the first clips of the epoch, in
    evaluation with clips of the label :data:`NO_LABEL`.

    Args:
        data: the split.
        recipe: the recipe. Its batch size, seed and crop are used.
        train: whether to shuffle.
        workers: number of processes that read clips. With 0 the main process reads them.
        devices: number of devices that share each batch.
        rank: number of the device that these batches are for.
        start: the next step of a run that is resumed.
        seconds: maximum length that is read of a clip, in seconds. None reads all of it.
        features: the features, if the processes that read clips make the spectrograms, on the CPU. They have no parameters
            that learn. A batch is then a :class:`SpectrogramBatch`. None gives a :class:`~specenhance.data.Batch`.
        taught: a teacher's logits of each clip ``(N, classes)``, if they are known.

    Raises:
        ValueError: for fewer training clips than two for each device.

    >>> from specenhance.data import SyntheticSounds
    >>> batches = loader(SyntheticSounds("train", clips_per_class=2), Recipe(batch_size=8), train=True, seconds=0.5)
    >>> len(batches), next(iter(batches)).waveform.shape
    (3, torch.Size([8, 8000]))
    """
    if train and len(data) < 2 * devices:
        raise ValueError(
            f"{len(data)} training clip(s) on {devices} device(s): expected 2 or more for each, because batch norm needs them"
        )
    order: Sampler[list[Draw]]
    if train:
        weights = balancing_weights(data) if recipe.sampling == "balanced" else None
        blocks = torch.as_tensor(data.blocks) if len(data.blocks) else None
        order = TrainingOrder(len(data), recipe, devices, rank, start, weights, blocks)
    else:
        order = EvaluationOrder(len(data), recipe.batch_size, devices, rank)
    return Loader(
        _Batches(data, recipe, train, seconds, features, taught),
        batch_sampler=order,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=_whole,
        worker_init_fn=_start_worker,
        pin_memory=torch.cuda.is_available(),
    )


class TrainingOrder(Sampler[list[Draw]]):
    """The training batches of one process, epoch after epoch.

    Args:
        clips: number of training clips.
        recipe: the recipe.
        devices: number of devices that share each batch.
        rank: number of the device that these batches are for.
        start: the next step of a run that is resumed.
        weights: how often each clip is drawn, relative to the others, ``(clips,)``. None takes each clip once an epoch.
        blocks: the block in which each clip lies, ``(clips,)``, if clips of one block are read faster one after the other. The
            blocks are shuffled. Then the clips of eight blocks at a time are shuffled, so that an epoch reads each block once.
            None shuffles all clips.

    >>> recipe = Recipe(batch_size=4)
    >>> order = TrainingOrder(32, recipe, blocks=torch.arange(32) // 2)  # sixteen blocks of two clips
    >>> drawn = [draw.clip // 2 for batch in order for draw in batch]
    >>> len(set(drawn[:16])), set(drawn[:16]) & set(drawn[16:])
    (8, set())
    """

    def __init__(
        self,
        clips: int,
        recipe: Recipe,
        devices: int = 1,
        rank: int = 0,
        start: Place = START,
        weights: Tensor | None = None,
        blocks: Tensor | None = None,
    ) -> None:
        self.weights, self.blocks = weights, blocks
        self.clips, self.batch_size, self.seed = clips, recipe.batch_size, recipe.seed
        self.devices, self.rank = devices, rank
        self.start, self.epoch, self.views = start, start.epoch, recipe.teacher_views

    @property
    def sampler(self) -> TrainingOrder:
        """This object: Lightning calls ``set_epoch`` of a batch sampler's ``sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return steps_per_epoch(self.clips, self.batch_size, self.devices)

    def __iter__(self) -> Iterator[list[Draw]]:
        view = view_of(self.epoch, self.views)
        generator = torch.Generator().manual_seed(self.seed + view)
        if self.weights is None:
            shuffled = torch.randperm(self.clips, generator=generator)
        else:
            shuffled = torch.multinomial(self.weights, self.clips, replacement=True, generator=generator)
        if self.blocks is not None:
            # A stable sort by window keeps the clips of a window in their random order.
            window = torch.randperm(int(self.blocks.max()) + 1, generator=generator) // WINDOW
            shuffled = shuffled[torch.argsort(window[self.blocks[shuffled]], stable=True)]
        drawn = shuffled.tolist()
        steps = len(self)
        skip = self.start.batch if self.epoch == self.start.epoch else 0
        for step in range(skip, steps):
            end = (step + 1) * self.batch_size if step + 1 < steps else self.clips
            batch = drawn[step * self.batch_size : end]
            batch += drawn[: -len(batch) % self.devices]
            yield [Draw(i, view) for i in batch[self.rank :: self.devices]]


def view_of(epoch: int, views: int) -> int:
    """Return the number of the epoch whose clips, batches and augmentation an epoch repeats.

    Args:
        epoch: the number of the epoch, from 0.
        views: the number of augmented views of each clip. With 0 no epoch repeats another.

    >>> [view_of(epoch, views=2) for epoch in range(4)], view_of(3, views=0)
    ([0, 1, 0, 1], 3)
    """
    return epoch % views if views else epoch


class EvaluationOrder(Sampler[list[Draw]]):
    """The evaluation batches of one process: the clips in their order. The number -1 fills a short part."""

    def __init__(self, clips: int, batch_size: int, devices: int = 1, rank: int = 0) -> None:
        places = [*range(clips), *[NO_LABEL] * (-clips % devices)]
        self.places, self.size = places[rank::devices], max(1, batch_size // devices)

    def __len__(self) -> int:
        return -(-len(self.places) // self.size)

    def __iter__(self) -> Iterator[list[Draw]]:
        for at in range(0, len(self.places), self.size):
            yield [Draw(i, 0) for i in self.places[at : at + self.size]]


class Mixed(NamedTuple):
    """The clips of a batch after mixing.

    Attributes:
        waveform: ``(B, N)``.
        target: class numbers ``(B,)``, or probabilities ``(B, classes)`` if the recipe mixes clips.
        taught: a teacher's logits ``(B, classes)``. None if they are not known.
    """

    waveform: Tensor
    target: Tensor
    taught: Tensor | None


def mix(batch: Batch, recipe: Recipe, num_classes: int) -> Mixed:
    """Mix the clips of a batch as the recipe says.

    What is known of a teacher are its logits (or features) of clips that are not mixed. Its probabilities (or features) are
    mixed as the labels are.

    Args:
        batch: the batch.
        recipe: the recipe. ``mixup``, ``cutmix``, their ``alpha`` and ``kd_loss`` are used.
        num_classes: number of classes.

    >>> batch = collate([(torch.ones(3), 0), (torch.ones(2), 1)])
    >>> waveform, target, _ = mix(batch, Recipe(mixup=0.5), num_classes=2)
    >>> waveform.shape, target.shape
    (torch.Size([2, 3]), torch.Size([2, 2]))
    """
    waveform = alter(batch.waveform, batch.length, recipe)
    if recipe.mixup == recipe.cutmix == 0:
        return Mixed(waveform, batch.label, batch.taught)
    target = batch.label if batch.label.ndim == 2 else nn.functional.one_hot(batch.label, num_classes).float()
    if batch.taught is not None:
        target = torch.cat([target, to_parts(batch.taught, recipe.kd_loss)], 1)
    waveform, target = mix_waveforms(waveform, batch.length, target, recipe.mixup, recipe.mixup_alpha)
    waveform, target = cut_waveforms(waveform, batch.length, target, recipe.cutmix, recipe.cutmix_alpha)
    taught = None if batch.taught is None else from_parts(target[:, num_classes:], recipe.kd_loss)
    return Mixed(waveform, target[:, :num_classes], taught)


class _Failure(NamedTuple):
    """An error of a process that reads clips. PyTorch itself would put the whole traceback into the message."""

    error: Exception


class _Batches(Dataset[Any]):
    """A data set that returns whole batches: PyTorch's loader asks for all clips of a batch at once."""

    def __init__(
        self,
        data: AudioDataset,
        recipe: Recipe,
        train: bool,
        seconds: float | None,
        features: nn.Module | None,
        taught: Tensor | None,
    ) -> None:
        self.data, self.recipe, self.train, self.seconds, self.features = data, recipe, train, seconds, features
        self.taught = taught

    def __getitems__(self, draws: list[Draw]) -> Batch | SpectrogramBatch | _Failure:
        try:
            return self._batch(draws)
        except (ValueError, OSError, ImportError, MemoryError) as error:
            return _Failure(error)

    def _batch(self, draws: list[Draw]) -> Batch | SpectrogramBatch:
        batch = collate([(self._clip(draw), self._target(draw.clip)) for draw in draws])
        if self.taught is not None:
            batch = batch._replace(taught=self.taught[[draw.clip for draw in draws]])
        if self.features is None:
            return batch
        waveform, target, taught = batch.waveform, batch.label, batch.taught
        if self.train:
            # The seed comes from the clips of the batch and their order. So it does not depend on the process, or on a stop.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.recipe.seed * 1_000_003 + zlib.crc32(repr(draws).encode()))
                waveform, target, taught = mix(batch, self.recipe, len(self.data.classes))
        with torch.no_grad():
            features: Any = self.features
            real = features.real_frames(waveform, batch.length) if hasattr(features, "real_frames") else None
            return SpectrogramBatch(features(waveform, batch.length), target, batch.label, real, taught)

    def _target(self, clip: int) -> int | Tensor:
        if clip >= 0:
            return self.data.target(clip)
        return torch.full((len(self.data.classes),), float(NO_LABEL)) if self.data.multi_label else NO_LABEL

    def _clip(self, draw: Draw) -> Tensor:
        if self.seconds is None:
            return self.data.waveform(max(0, draw.clip))
        if not self.train or self.recipe.crop == "start":
            return self.data.excerpt(max(0, draw.clip), self.seconds)
        drawn = torch.Generator().manual_seed(zlib.crc32(repr((self.recipe.seed, *draw)).encode()))
        place, as_it_is = torch.rand(2, generator=drawn).tolist()
        clip = self.data.excerpt(draw.clip, self.seconds, place)
        if as_it_is < 0.5:  # the same as in evaluation
            return clip
        return place_in_noise(clip, round(self.seconds * self.recipe.sample_rate), drawn)


class Loader(DataLoader[Any]):
    """PyTorch's loader. It raises the errors of its processes unchanged, and :class:`WorkerError` if a process has died.

    :func:`loader` makes one.
    """

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
            self._iterator._shutdown_workers()  # as Lightning does, because PyTorch has no public method
            self._iterator = None


def _whole(batch: Any) -> Any:
    return batch


def _start_worker(number: int) -> None:
    """Set up how a process that reads clips ends."""
    # Ctrl-C and the stop signals go to all processes. The run needs this one until its step is finished.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(PATIENCE))
    # By default, a batch that cannot be sent is printed and dropped, and the run waits for it forever.
    queues.Queue._on_queue_feeder_error = staticmethod(_die)  # type: ignore[attr-defined]


def _die(error: Exception, batch: object) -> None:
    print(f"a batch could not be sent from the process that read it: {error}", file=sys.stderr, flush=True)
    os._exit(1)
