"""Does the data path keep up? Clips a second of each stage, against what a training step takes.

First each stage by itself (reading files, cached waveforms, features, augmentation), in batches of 64. Then whole loaders as a
run makes them. Then the training step from spectrograms on: its need. ROOT is a folder laid out as Speech Commands V2. Without
it, FLAC files of made sound are written first.

    python benchmarks/data_path.py ROOT --threads 2
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import soundfile
import torch
from command import Argument, Benchmark, main
from side_by_side import Spread, spread, take_turns
from torch import nn

from specenhance.data import AudioDataset, CachedWaveforms, SyntheticSounds, collate
from specenhance.training.batches import SpectrogramBatch, loader
from specenhance.training.build import build_model, build_split
from specenhance.training.module import Classifier
from specenhance.training.recipe import Recipe, recipe_for

B = 64
CLIPS = 1024
MODELS = ("mobilenetv3_small_050", "tf_efficientnetv2_b2")
# workers, where the features are made, whether the waveforms are cached
LOADERS = [(0, "device", False), (1, "device", False), (2, "device", False), (0, "device", True), (1, "worker", True)]


def made_files(folder: Path, clips: int = CLIPS) -> None:
    """Write one-second FLAC files of made sound, laid out as Speech Commands V2."""
    sounds = SyntheticSounds("train")
    for i in range(clips):
        path = folder / sounds.classes[sounds.labels[i % len(sounds)]] / f"speaker{i}_nohash_0.flac"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, sounds.waveform(i % len(sounds)).numpy(), sounds.sample_rate)
    names = sorted(str(path.relative_to(folder)) for path in folder.glob("*/*.flac"))
    (folder / "validation_list.txt").write_text(names[0] + "\n")
    (folder / "testing_list.txt").write_text(names[1] + "\n")


class Some(AudioDataset):
    """The first clips of a data set."""

    def __init__(self, data: AudioDataset, count: int) -> None:
        super().__init__(data.classes, data.labels[:count], data.paths[:count], data.sample_rate)


def training_step(recipe: Recipe, spec: torch.Tensor, label: torch.Tensor, num_classes: int) -> Callable[[], Any]:
    """Give a call that makes one step of a recipe's model, with augmentation, and returns its loss."""
    model = build_model(recipe, num_classes)
    model.to(memory_format=torch.channels_last)
    module = Classifier(model, recipe)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> float:
        optimizer.zero_grad()
        loss = module.losses(SpectrogramBatch(spec, label, label))[0].total
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def measure(root: Path | None = None, rounds: int = 7) -> dict[str, Any]:
    """Give the rows of the table, and the ratios by which the suite is checked."""
    with tempfile.TemporaryDirectory() as made:
        if root is None:
            made_files(Path(made))
        return measure_in(root or Path(made), rounds)


def measure_in(root: Path, rounds: int) -> dict[str, Any]:
    """Measure on the files of a folder laid out as Speech Commands V2."""
    recipe = recipe_for("speech_commands", root=root.resolve(), batch_size=B, frontend="tfe4", backbone=MODELS[0])
    data = Some(build_split(recipe, "train"), CLIPS)
    model = build_model(recipe, len(data.classes))
    module = Classifier(model, recipe)
    with tempfile.TemporaryDirectory() as folder:
        cached = {"memory": CachedWaveforms(data), "mapped file": CachedWaveforms(data, folder)}
        batch = collate([data[i] for i in range(B)])
        spec = model.spectrogram(batch.waveform, batch.length)

        def batches(clips: AudioDataset) -> Callable[[], Any]:
            starts = cycle(range(0, len(clips) - B + 1, B))

            def take() -> Any:
                start = next(starts)
                return collate([clips[i] for i in range(start, start + B)])

            return take

        stages: dict[str, Callable[[], Any]] = {
            "read and decode files": batches(data),
            **{f"waveforms cached, {where}": batches(clips) for where, clips in cached.items()},
            "features (KaldiFbank)": torch.no_grad()(lambda: model.spectrogram(batch.waveform, batch.length)),
            "augment spectrograms": lambda: module.augment(spec),
        }
        times = take_turns(stages, rounds)
        per_second = {name: spread([B / t for t in values]) for name, values in times.items()}
        for workers, features_on, cache in LOADERS:
            features: nn.Module | None = model.features if features_on == "worker" else None
            made = loader(cached["memory"] if cache else data, recipe, train=True, workers=workers, features=features)

            def epoch(made: Any = made, features: nn.Module | None = features) -> None:
                for batch in made:
                    if features is None:
                        with torch.no_grad():
                            model.spectrogram(batch.waveform, batch.length)

            name = f"loader to spectrograms: {workers} workers, features on {features_on}{', cached' if cache else ''}"
            per_second[name] = spread([len(data) / t for t in take_turns({name: epoch}, 3)[name]])
    steps = {
        name: training_step(recipe.replace(backbone=name), spec, batch.label, len(data.classes)) for name in MODELS
    }
    need = {name: spread([B / t for t in values]) for name, values in take_turns(steps, 3).items()}
    rows = []
    for name, rate in per_second.items():
        row = {"stage": name, "clips a second": rate}
        row |= {f"of the need of {model}": rate.median / need[model].median for model in MODELS}
        rows.append(row)
    rows += [{"stage": f"training step of {name}: its need", "clips a second": rate} for name, rate in need.items()]
    first = f"loader to spectrograms: {LOADERS[0][0]} workers, features on {LOADERS[0][1]}"
    ratios = {
        f"data path: {name} / reading files": Spread(
            *(rate / per_second["read and decode files"].median for rate in per_second[name])
        )
        for name in ("waveforms cached, memory", "waveforms cached, mapped file", first)
    }
    return {"rows": rows, "ratios": ratios}


BENCHMARK = Benchmark(
    "The data path",
    __doc__,
    measure,
    {"clips a second": ".0f"} | {f"of the need of {model}": ".1f" for model in MODELS},
    arguments=[Argument("root", type=Path, nargs="?", help="a folder laid out as Speech Commands V2")],
)

if __name__ == "__main__":
    main(BENCHMARK)
