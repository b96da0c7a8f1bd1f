"""Which front end and augmentation hold the accuracy in noise, at other levels and for unseen speakers?

    python -m specenhance.experiments.robustness train ROOT --out DIR [--arms NAME ...] [--folds K ...]
    python -m specenhance.experiments.robustness report ROOT --out DIR

The protocol:

- Data: a folder laid out as Speech Commands V2. Its speakers are divided into eight folds. The speakers of the testing list are
  fold 1, those of the validation list fold 2, the others follow in the order of their names. Fold k is tested by a model that
  never heard its speakers. The speakers of fold k + 1 validate, all others train.
- Model: mobilenetv3_small_050 from scratch, 128 frames x 128 bins, one seed (the fold's number), :data:`EPOCHS` epochs of the
  default recipe. The epoch that is best on the clean validation clips is tested.
- Arms: :data:`ARMS`. In a fold all arms have the same weights of the backbone at the start, and the same order of clips.
- Choice of epochs and arms: only on the training and validation speakers of fold 1.
- Conditions: :data:`CONDITIONS`. A clip sounds the same for all arms.
- Result: accuracy over all clips of all speakers. Its 95% interval, and that of the difference to identity, by a bootstrap over
  speakers (10,000 draws; a draw takes the same speakers for both).

Runs are kept in DIR and resumed. Two processes may share the work by --folds.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from specenhance._files import write_text
from specenhance.analysis.findings import examine
from specenhance.conditions import create_condition
from specenhance.conditions.altered import Altered
from specenhance.data.tables import read_list
from specenhance.experiments.grid import Run, run_grid
from specenhance.training.build import open_split
from specenhance.training.recipe import Recipe, augmentation, recipe_for
from specenhance.training.store import load_stored

__all__ = ["ARMS", "CONDITIONS", "Interval", "by_speaker", "markdown", "recipe", "speaker_folds", "write_tables"]

BACKBONE = "mobilenetv3_small_050"
EPOCHS = 30
FOLDS = 8
DRAWS = 10_000
CONDITIONS = ("clean", "noise:20", "noise:10", "noise:5", "gain:-12", "gain:+12", "reverb:0.5")
ARMS: dict[str, dict[str, Any]] = {
    "identity": {"frontend": "identity"},
    "identity, robust": {"frontend": "identity", **augmentation("robust")},
    "clipnorm, robust": {"frontend": "clipnorm", **augmentation("robust")},
    "pcen+clipnorm, robust": {"frontend": "pcen+clipnorm", **augmentation("robust")},
    "rfn, robust": {"frontend": "rfn", **augmentation("robust")},
    "clipnorm+tfe4, robust": {"frontend": "clipnorm+tfe4", **augmentation("robust")},
}


def speaker_of(path: str) -> str:
    """Give the speaker of a file of Speech Commands.

    >>> speaker_of("yes/004ae714_nohash_0.wav")
    '004ae714'
    """
    return path.rpartition("/")[2].partition("_")[0]


def speaker_folds(speakers: Sequence[str], test: Sequence[str], validation: Sequence[str]) -> list[list[str]]:
    """Divide speakers into folds: first those that test and those that validate, then the others by name.

    >>> speaker_folds(list("abcdefgh"), ["d"], ["b"])[:4]
    [['d'], ['b'], ['a'], ['c']]
    """
    others = sorted(set(speakers) - set(test) - set(validation))
    return [
        sorted(test),
        sorted(validation),
        *(sorted(part.tolist()) for part in np.array_split(np.array(others), FOLDS - 2)),
    ]


def write_tables(root: Path, out: Path) -> list[Path]:
    """Write a table of clips for each fold, as the data set ``folder`` reads them.

    Args:
        root: a folder laid out as Speech Commands V2.
        out: the folder for the tables.

    Raises:
        FileNotFoundError: if a list is missing.
    """
    lists = {name: read_list(root / f"{name}_list.txt") for name in ("testing", "validation")}
    paths = sorted(
        path.relative_to(root).as_posix() for path in root.glob("*/*_nohash_*") if not path.parent.name.startswith("_")
    )
    folds = speaker_folds(
        sorted({speaker_of(path) for path in paths}),
        *(sorted({speaker_of(path) for path in lists[name]}) for name in ("testing", "validation")),
    )
    made = []
    for k in range(FOLDS):
        split = dict.fromkeys(folds[k], "test") | dict.fromkeys(folds[(k + 1) % FOLDS], "validation")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["path", "label", "split"])
        writer.writerows((path, path.partition("/")[0], split.get(speaker_of(path), "train")) for path in paths)
        table = out / f"fold{k + 1}.csv"
        write_text(table, text.getvalue())
        made.append(table)
    return made


def recipe(root: Path, table: Path, arm: str, fold: int, epochs: int = EPOCHS) -> Recipe:
    """Make the recipe of an arm on a fold."""
    fixed = {"frames": 128, "batch_size": 64, "crop": "start", "backbone": BACKBONE, "epochs": epochs, "seed": fold}
    return recipe_for("folder", root=root.resolve(), csv=table.resolve(), **fixed, **ARMS[arm])


def _folder(out: Path, arm: str, fold: int) -> Path:
    return out / f"{arm.replace(', ', '-')}-fold{fold}"


def _train(root: Path, out: Path, arms: Sequence[str], folds: Sequence[int], epochs: int, split: str) -> None:
    tables = write_tables(root, out / "tables")
    runs = [
        Run(arm, fold, _folder(out, arm, fold), recipe(root, tables[fold - 1], arm, fold, epochs))
        for fold in folds
        for arm in arms
    ]
    for run, _ in run_grid(runs, device="cpu", cache="memory"):
        _heard(run.folder, split)


def _heard(run: Path, split: str) -> dict[str, Any]:
    """Measure a run under all conditions, once: which clips of which speakers are right."""
    file = run / f"heard-{split}.json"
    if file.is_file():
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    model, classes, made = load_stored(run)
    data = open_split(made, split, classes)
    found = {"speakers": [speaker_of(path.as_posix()) for path in data.paths]}
    for condition in CONDITIONS:
        heard = examine(model, Altered(data, create_condition(condition)), made.batch_size)
        found[condition] = (heard.predicted == heard.labels).int().tolist()
        print(f"{run.name}, {condition}: {100 * float(np.mean(found[condition])):.2f}", flush=True)
    write_text(file, json.dumps(found) + "\n")
    return found


class Interval(NamedTuple):
    """A figure in percent, and its 95% interval."""

    value: float
    low: float
    high: float

    def text(self, form: str = ".1f") -> str:
        """Write the figure and its interval.

        >>> Interval(80.0, 75.0, 84.0).text()
        '80.0 (75.0 to 84.0)'
        """
        return f"{self.value:{form}} ({self.low:{form}} to {self.high:{form}})"


def by_speaker(
    right: Sequence[int], speakers: Sequence[str], baseline: Sequence[int] | None = None, draws: int = DRAWS
) -> Interval:
    """Compute an accuracy in percent, or its difference to a baseline, with an interval by a bootstrap over speakers.

    Args:
        right: 1 for each clip that is classified right, otherwise 0.
        speakers: the speaker of each clip.
        baseline: the same for another model on the same clips.
        draws: number of draws.

    >>> by_speaker([1, 1, 0, 0], ["a", "a", "b", "b"], draws=100)
    Interval(value=50.0, low=0.0, high=100.0)
    """
    names, of = np.unique(np.asarray(speakers), return_inverse=True)
    values = np.asarray(right, float) - (0 if baseline is None else np.asarray(baseline, float))
    sums = np.bincount(of, values, len(names))
    counts = np.bincount(of, minlength=len(names))
    drawn = np.random.default_rng(0).integers(len(names), size=(draws, len(names)))
    means = 100 * sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(100 * sums.sum() / counts.sum()), float(low), float(high))


def markdown(found: Mapping[str, Mapping[str, Sequence[Any]]]) -> str:
    """Write the tables of the report.

    Args:
        found: for each arm the speakers of all clips, and for each condition which clips are right.
    """
    lines = ["| arm | " + " | ".join(CONDITIONS) + " |", "|---" * (len(CONDITIONS) + 1) + "|"]
    for arm, heard in found.items():
        cells = [by_speaker(heard[c], heard["speakers"]).text() for c in CONDITIONS]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    lines += ["", "Difference to identity, paired:", "", *lines[:2]]
    base = found["identity"]
    for arm, heard in found.items():
        if arm != "identity":
            if list(heard["speakers"]) != list(base["speakers"]):
                raise ValueError(f"{arm} has other folds than identity; train the missing ones")
            cells = [by_speaker(heard[c], heard["speakers"], base[c]).text("+.1f") for c in CONDITIONS]
            lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _report(out: Path, arms: Sequence[str], folds: Sequence[int], split: str) -> str:
    found: dict[str, dict[str, list[Any]]] = {}
    for arm in arms:
        parts = [_heard(_folder(out, arm, fold), split) for fold in folds]
        found[arm] = {name: [value for part in parts for value in part[name]] for name in ("speakers", *CONDITIONS)}
    return markdown(found)


def main() -> None:
    """Train, or report what is trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("train", "report"))
    parser.add_argument("root", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--folds", nargs="+", type=int, default=list(range(1, FOLDS + 1)))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    if given.step == "train":
        _train(given.root, given.out, given.arms, given.folds, given.epochs, given.split)
    else:
        print(_report(given.out, given.arms, given.folds, given.split))


if __name__ == "__main__":
    main()
