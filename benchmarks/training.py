"""What does training by `specenhance train` cost beside a plain PyTorch loop?

The plain loop has the spectrograms of all clips in memory. It does what cannot be left out: batches in random order,
augmentation, forward, backward, the optimizer's and the schedule's step, and validation after each epoch. The run makes its
spectrograms from waveforms in memory at each step, counts figures, and writes checkpoints; Lightning drives it. Both train
mobilenetv3_small_050 for an epoch of 48 steps, batch 64, and validate on 512 clips. The last column is of the whole data set
of 35 keywords, 6,300 clips that train and 1,050 that validate, at that rate.

In a run with identity the features, which the plain loop does not make, took 10% of the time, the data path 2%, checkpoints,
figures and Lightning less than 1% each. Without the features the run would take 1.04 times the plain loop's time. They are made
at each step because most recipes change waveforms from epoch to epoch, and because a spectrogram's last digits depend on the
batch in which it is made: a cache of spectrograms would change a run's numbers.

    python benchmarks/training.py --threads 2
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from command import Benchmark, main
from data_path import made_files
from side_by_side import Times, ratio, spread
from torch import nn

from specenhance.data import collate
from specenhance.training import recipe_for, train
from specenhance.training.build import build_model, build_splits
from specenhance.training.module import Classifier
from specenhance.training.recipe import Recipe

BACKBONE, TRAIN, VALIDATE = "mobilenetv3_small_050", 48 * 64, 512
TRAIN_OF_ALL, VALIDATE_OF_ALL = 6300, 1050
PLAIN, RUN, WORKER = (
    "plain loop, spectrograms in memory",
    "specenhance train",
    "specenhance train, a worker makes features",
)


def made_recipe(folder: Path, frontend: str) -> Recipe:
    """Write the clips, of which some validate, and give a recipe for them."""
    made_files(folder, TRAIN + VALIDATE + 1)
    names = sorted(str(path.relative_to(folder)) for path in folder.glob("*/*.flac"))
    (folder / "validation_list.txt").write_text("\n".join(names[::6][:VALIDATE]))
    (folder / "testing_list.txt").write_text(names[1])
    return recipe_for("speech_commands", root=folder, backbone=BACKBONE, frontend=frontend, epochs=1)


def plain_loop(recipe: Recipe) -> Callable[[], float]:
    """Give a call that trains as the recipe says and gives the seconds of its epoch."""
    torch.manual_seed(0)
    parts = build_splits(recipe)
    model = build_model(recipe, len(parts["train"].classes))
    spectrograms, labels = {}, {}
    with torch.no_grad():
        for split in ("train", "validation"):
            data = parts[split]
            batch = collate([(data.waveform(i), data.target(i)) for i in range(len(data))])
            spectrograms[split], labels[split] = model.spectrogram(batch.waveform, batch.length), batch.label

    def made() -> float:
        model = build_model(recipe, len(parts["train"].classes)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        augment = Classifier(model, recipe).augment
        criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        optimizer = torch.optim.AdamW(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
        spec, label = spectrograms["train"], labels["train"]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=TRAIN // recipe.batch_size)
        start = time.perf_counter()
        model.train()
        for part in torch.randperm(len(spec)).split(recipe.batch_size):
            loss = criterion(model.classify(augment(spec[part])[0]), label[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            right = [
                (model.classify(s).argmax(1) == y).sum().item()
                for s, y in zip(
                    spectrograms["validation"].split(recipe.batch_size),
                    labels["validation"].split(recipe.batch_size),
                    strict=True,
                )
            ]
        assert 0 <= sum(right) <= len(labels["validation"])
        return time.perf_counter() - start

    return made


def run(recipe: Recipe, **machine: Any) -> Callable[[], float]:
    """Give a call that trains a run and gives the seconds of its epoch."""

    def made() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return train(recipe, Path(folder) / "run", device="cpu", cache="memory", progress=False, **machine)[
                "seconds"
            ]

    return made


def measure(rounds: int = 3) -> dict[str, Any]:
    """Give the rows of the table, and the ratios by which the suite is checked."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    rows, ratios = [], {}
    for frontend in ("identity", "tfe4"):
        with tempfile.TemporaryDirectory() as made:
            recipe = made_recipe(Path(made), frontend)
            candidates = {
                PLAIN: plain_loop(recipe),
                RUN: run(recipe),
                WORKER: run(recipe, workers=1, features_on="worker"),
            }
            times: Times = {name: [] for name in candidates}
            for turn in range(rounds + 1):  # the first warms up
                for name, seconds in candidates.items():
                    taken = seconds()
                    if turn:
                        times[name].append(taken)
            parts = build_splits(recipe)
            clips = len(parts["train"]) + len(parts["validation"]) / 3  # a validation clip has a forward pass alone
        for name, values in times.items():
            epoch = [seconds * (TRAIN_OF_ALL + VALIDATE_OF_ALL / 3) / clips for seconds in values]
            rows.append(
                {
                    "front end": frontend,
                    "way": name,
                    "seconds an epoch": spread(values),
                    "of the plain loop's": ratio(times, name, PLAIN),
                    "epochs of the keywords a minute": spread([60 / seconds for seconds in epoch]),
                }
            )
        ratios |= {f"training, {frontend}: plain loop / {name}": ratio(times, PLAIN, name) for name in (RUN, WORKER)}
    return {"rows": rows, "ratios": ratios}


BENCHMARK = Benchmark(
    "Training end to end",
    __doc__,
    measure,
    {"seconds an epoch": ".2f", "of the plain loop's": ".2f", "epochs of the keywords a minute": ".1f"},
)

if __name__ == "__main__":
    main(BENCHMARK)
