"""What do shards cost, and what do they gain? Clips a second, decoded: plain files, WebDataset's shards, and litdata's.

Made FLAC clips of one second are written in each form, in shards of about two megabytes. Then each form is read by the number
of the clip: in order; in any order; in training's order, with nothing in the system's cache; and in training's order by the
loader of a run with two processes. litdata is measured where it is installed.

    python benchmarks/shards.py --threads 1
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from command import Benchmark, main
from side_by_side import ratio, spread, take_turns

from specenhance.audio import SoundBytes
from specenhance.data import AudioDataset, SyntheticSounds, read_audio
from specenhance.data.shards import ShardedSounds, write_shards
from specenhance.training.batches import TrainingOrder, loader
from specenhance.training.recipe import Recipe

CLIPS = 1000
IN_ORDER, ANY_ORDER, COLD, LOADER = "in order", "in any order", "training's order, uncached", "loader, 2 processes"
FILES, SHARDS, LITDATA = "FLAC files", "WebDataset shards", "litdata shards"


class LitdataSounds(AudioDataset):
    """The same files in litdata's shards."""

    def __init__(self, folder: Path, data: AudioDataset) -> None:
        from litdata import StreamingDataset

        super().__init__(data.classes, data.labels, sample_rate=data.sample_rate)
        self.found = StreamingDataset(str(folder))

    def waveform(self, i: int) -> Any:
        """Read a sound by its number."""
        return read_audio(SoundBytes(f"{i}", bytes(self.found[i]["sound"])), self.sample_rate)


def made_files(folder: Path) -> AudioDataset:
    """Write FLAC files of made sound."""
    folder.mkdir()
    sounds = SyntheticSounds("train", clips_per_class=CLIPS // 10)
    paths = [folder / f"{i:04d}.flac" for i in range(CLIPS)]
    for i, path in enumerate(paths):
        soundfile.write(path, sounds.waveform(i).numpy(), sounds.sample_rate)
    return AudioDataset(sounds.classes, sounds.labels, paths, sounds.sample_rate)


def write_files(data: AudioDataset, folder: Path) -> None:
    """Copy the files, as a plain folder has them."""
    folder.mkdir()
    for path in data.paths:
        (folder / path.name).write_bytes(path.read_bytes())


def write_litdata(data: AudioDataset, folder: Path) -> None:
    """Write the files as litdata's shards, in this process."""
    from litdata.streaming.writer import BinaryWriter

    folder.mkdir()
    writer = BinaryWriter(str(folder), chunk_bytes=2_000_000)
    for i, path in enumerate(data.paths):
        writer[i] = {"sound": path.read_bytes()}
    writer.done()
    writer.merge()


def forget(folder: Path) -> None:
    """Drop the files of a folder from the system's cache."""
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def measure(rounds: int = 5) -> dict[str, Any]:
    """Give the rows of the table, and the ratios by which the suite is checked."""
    with tempfile.TemporaryDirectory() as place:
        source = made_files(Path(place, "source"))
        seconds = {"train": [1.0] * CLIPS}
        writers: dict[str, Callable[[Path], Any]] = {
            FILES: lambda folder: write_files(source, folder),
            SHARDS: lambda folder: write_shards({"train": source}, folder, seconds=seconds, megabytes=2),
        }
        if find_spec("litdata"):
            writers[LITDATA] = lambda folder: write_litdata(source, folder)
        written, sizes, forms, folders = {}, {}, {}, {}
        for name, write in writers.items():
            folder = folders[name] = Path(place, name.replace(" ", "-"))
            start = time.perf_counter()
            write(folder)
            os.sync()
            written[name] = time.perf_counter() - start
            sizes[name] = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        paths = [folders[FILES] / path.name for path in source.paths]
        forms[FILES] = AudioDataset(source.classes, source.labels, paths, source.sample_rate)
        forms[SHARDS] = ShardedSounds(folders[SHARDS], "train")
        if LITDATA in writers:
            forms[LITDATA] = LitdataSounds(folders[LITDATA], source)
        recipe = Recipe(batch_size=50)
        trained = {
            name: [d.clip for b in TrainingOrder(CLIPS, recipe, blocks=_tensor(data.blocks)) for d in b]
            for name, data in forms.items()
        }
        any_order = np.random.default_rng(1).permutation(CLIPS).tolist()

        def read(data: AudioDataset, order: Sequence[int]) -> Callable[[], None]:
            def run() -> None:
                for i in order:
                    data.waveform(i)

            return run

        orders: dict[str, Callable[[str], Callable[[], Any]]] = {
            IN_ORDER: lambda name: read(forms[name], range(CLIPS)),
            ANY_ORDER: lambda name: read(forms[name], any_order),
        }
        times = {title: take_turns({name: of(name) for name in forms}, rounds) for title, of in orders.items()}
        both = [name for name in forms if name != LITDATA]  # whose order of training and processes are its own
        times[COLD] = {name: [] for name in both}
        for _ in range(rounds):
            for name in both:
                forget(folders[name])
                start = time.perf_counter()
                read(forms[name], trained[name])()
                times[COLD][name].append(time.perf_counter() - start)
        made = {name: loader(forms[name], recipe, train=True, workers=2) for name in both}
        times[LOADER] = take_turns({name: lambda name=name: sum(1 for _ in made[name]) for name in both}, rounds)
        for one in made.values():
            one.close()
    rows = [
        {"form": name, "seconds to write": written[name], "MB": sizes[name]}
        | {title: spread([CLIPS / t for t in of[name]]) for title, of in times.items() if name in of}
        for name in forms
    ]
    return {
        "rows": rows,
        # Not the uncached one, which is the disk's.
        "ratios": {
            f"shards: {title} / FLAC files": ratio(of, FILES, SHARDS) for title, of in times.items() if title != COLD
        },
    }


def _tensor(blocks: Sequence[int]) -> Any:
    import torch

    return torch.as_tensor(blocks) if len(blocks) else None


BENCHMARK = Benchmark(
    "Shards",
    __doc__,
    measure,
    {"seconds to write": ".1f", "MB": ".1f"},
    form=".0f",
)

if __name__ == "__main__":
    main(BENCHMARK)
