"""Which front end and augmentation hold the accuracy in noise, at other levels and for unseen speakers?

    python -m specenhance.experiments.robustness train ROOT --out DIR [--arms NAME ...] [--folds K ...]
    python -m specenhance.experiments.robustness report ROOT --out DIR [--json FILE]

The protocol:

- Data: a folder laid out as Speech Commands V2. Its speakers are divided into eight folds. The speakers of the testing list are
  fold 1, those of the validation list fold 2, the others follow in the order of their names. Or a folder laid out as ESC-50,
  whose table has the folds, and in ``src_file`` the recording from which a clip was cut. A group is a speaker or a recording,
  and no group is in two folds. Fold k is tested by a model that never heard its groups. Those of fold k + 1 validate, all
  others train.
- Model: mobilenetv3_small_050 from scratch, 128 bins, one seed (the fold's number), the default recipe. Speech Commands: 128
  frames, 30 epochs, batch 64. ESC-50: 512 frames, 60 epochs, batch 16. The epoch that is best on the clean validation clips is
  tested.
- Arms: :data:`ARMS`. In a fold all arms have the same weights of the backbone at the start, and the same order of clips.
- Choice of epochs and arms: only on the training and validation speakers of fold 1 of Speech Commands. ESC-50 is measured with
  what was chosen there.
- Conditions: :data:`CONDITIONS`. A clip sounds the same for all arms.
- Result: accuracy over all clips of all groups. Its 95% interval, and that of the difference to identity, by a bootstrap over
  groups (10,000 draws; a draw takes the same groups for both).

Runs are kept in DIR and resumed. Two processes may share the work by --folds.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from specenhance._files import write_text
from specenhance.analysis.findings import examine
from specenhance.analysis.intervals import by_group
from specenhance.conditions import create_condition
from specenhance.conditions.altered import Altered
from specenhance.data.tables import read_list, read_table
from specenhance.experiments.grid import Run, run_grid
from specenhance.training.build import open_split
from specenhance.training.recipe import Recipe, augmentation, recipe_for
from specenhance.training.store import load_stored

__all__ = [
    "ARMS",
    "CONDITIONS",
    "Clip",
    "clips_of",
    "counts",
    "group_of",
    "markdown",
    "recipe",
    "speaker_folds",
    "write_tables",
]

BACKBONE = "mobilenetv3_small_050"
FOLDS = 8  # of Speech Commands
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


class Clip(NamedTuple):
    """A clip: its file, relative to the folder, its class, and the number of its fold, from 0."""

    path: str
    label: str
    fold: int


def _is_esc50(root: Path) -> bool:
    return (root / "meta" / "esc50.csv").is_file()


def clips_of(root: Path) -> list[Clip]:
    """List all clips of a folder laid out as Speech Commands V2 or ESC-50, with their folds.

    Raises:
        FileNotFoundError: if a list is missing.
    """
    if _is_esc50(root):
        rows = read_table(root / "meta" / "esc50.csv", ["filename", "fold", "category"])
        return [Clip(f"audio/{row['filename']}", row["category"], int(row["fold"]) - 1) for _, row in rows]
    lists = {name: read_list(root / f"{name}_list.txt") for name in ("testing", "validation")}
    paths = sorted(
        path.relative_to(root).as_posix() for path in root.glob("*/*_nohash_*") if not path.parent.name.startswith("_")
    )
    folds = speaker_folds(
        sorted({speaker_of(path) for path in paths}),
        *(sorted({speaker_of(path) for path in lists[name]}) for name in ("testing", "validation")),
    )
    of = {speaker: k for k, fold in enumerate(folds) for speaker in fold}
    return [Clip(path, path.partition("/")[0], of[speaker_of(path)]) for path in paths]


def group_of(root: Path) -> Callable[[Path], str]:
    """Give the function that tells a file's group: its speaker or, in ESC-50, the recording that it was cut from."""
    if not _is_esc50(root):
        return lambda path: speaker_of(path.as_posix())
    rows = read_table(root / "meta" / "esc50.csv", ["filename", "src_file"])
    source = {row["filename"]: row["src_file"] for _, row in rows}
    return lambda path: source[path.name]


def write_tables(root: Path, out: Path) -> list[Path]:
    """Write a table of clips for each fold, as the data set ``folder`` reads them.

    Args:
        root: a folder laid out as Speech Commands V2 or ESC-50.
        out: the folder for the tables.

    Raises:
        FileNotFoundError: if a list is missing.
    """
    clips = clips_of(root)
    folds = 1 + max(clip.fold for clip in clips)
    made = []
    for k in range(folds):
        split = {k: "test", (k + 1) % folds: "validation"}
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["path", "label", "split"])
        writer.writerows((clip.path, clip.label, split.get(clip.fold, "train")) for clip in clips)
        table = out / f"fold{k + 1}.csv"
        write_text(table, text.getvalue())
        made.append(table)
    return made


def recipe(root: Path, table: Path, arm: str, fold: int, epochs: int | None = None) -> Recipe:
    """Make the recipe of an arm on a fold. With another number of epochs than the protocol's it is only a trial."""
    size = (
        {"frames": 512, "batch_size": 16, "epochs": 60}
        if _is_esc50(root)
        else {"frames": 128, "batch_size": 64, "epochs": 30}
    )
    if epochs is not None:
        size["epochs"] = epochs
    fixed = {"crop": "start", "backbone": BACKBONE, "seed": fold}
    return recipe_for("folder", root=root.resolve(), csv=table.resolve(), **size, **fixed, **ARMS[arm])


def _folder(out: Path, arm: str, fold: int) -> Path:
    return out / f"{arm.replace(', ', '-')}-fold{fold}"


def _train(root: Path, out: Path, arms: Sequence[str], folds: Sequence[int], epochs: int | None, split: str) -> None:
    tables = write_tables(root, out / "tables")
    runs = [
        Run(arm, fold, _folder(out, arm, fold), recipe(root, tables[fold - 1], arm, fold, epochs))
        for fold in folds
        for arm in arms
    ]
    for run, _ in run_grid(runs, device="cpu", cache="memory"):
        _heard(run.folder, split, root)


def _heard(run: Path, split: str, root: Path) -> dict[str, Any]:
    """Measure a run under all conditions, once: which clips of which groups are right."""
    file = run / f"heard-{split}.json"
    if file.is_file():
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    model, classes, made = load_stored(run)
    data = open_split(made, split, classes)
    found = {"groups": list(map(group_of(root), data.paths))}
    for condition in CONDITIONS:
        heard = examine(model, Altered(data, create_condition(condition)), made.batch_size)
        found[condition] = (heard.predicted == heard.labels).int().tolist()
        print(f"{run.name}, {condition}: {100 * float(np.mean(found[condition])):.2f}", flush=True)
    write_text(file, json.dumps(found) + "\n")
    return found


def markdown(found: Mapping[str, Mapping[str, Sequence[Any]]]) -> str:
    """Write the tables of the report.

    Args:
        found: for each arm the groups of all clips, and for each condition which clips are right.
    """
    lines = ["| arm | " + " | ".join(CONDITIONS) + " |", "|---" * (len(CONDITIONS) + 1) + "|"]
    for arm, heard in found.items():
        cells = [by_group([heard[c]], heard["groups"]).text() for c in CONDITIONS]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    lines += ["", "Difference to identity, paired:", "", *lines[:2]]
    base = found["identity"]
    for arm, heard in found.items():
        if arm != "identity":
            if list(heard["groups"]) != list(base["groups"]):
                raise ValueError(f"{arm} has other folds than identity; train the missing ones")
            cells = [by_group([heard[c]], heard["groups"], [base[c]]).text("+.1f") for c in CONDITIONS]
            lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def counts(found: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, dict[str, Any]]:
    """Count, for each arm and group, its clips and those that are right under each condition: all that the intervals need.

    Args:
        found: as for :func:`markdown`.

    >>> counts({"identity": {"groups": ["a", "a", "b"], **{c: [1, 0, 1] for c in CONDITIONS}}})["identity"]["a"]["clean"]
    1
    """
    made: dict[str, dict[str, Any]] = {}
    for arm, heard in found.items():
        groups = np.asarray(heard["groups"])
        made[arm] = {
            str(name): {"clips": int((groups == name).sum())}
            | {c: int(np.asarray(heard[c])[groups == name].sum()) for c in CONDITIONS}
            for name in np.unique(groups)
        }
    return made


def _found(root: Path, out: Path, arms: Sequence[str], folds: Sequence[int], split: str) -> dict[str, dict[str, Any]]:
    found = {}
    for arm in arms:
        parts = [_heard(_folder(out, arm, fold), split, root) for fold in folds]
        found[arm] = {name: [value for part in parts for value in part[name]] for name in ("groups", *CONDITIONS)}
    return found


def main() -> None:
    """Train, or report what is trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("train", "report"))
    parser.add_argument("root", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--folds", nargs="+", type=int, help="the default is all")
    parser.add_argument("--epochs", type=int, help="another number than the protocol's, for a trial")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--json", type=Path, help="a file for the counts of each group, with report")
    given = parser.parse_args()
    folds = given.folds or sorted({clip.fold + 1 for clip in clips_of(given.root)})
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    if given.step == "train":
        _train(given.root, given.out, given.arms, folds, given.epochs, given.split)
    else:
        found = _found(given.root, given.out, given.arms, folds, given.split)
        print(markdown(found))
        if given.json:
            write_text(given.json, json.dumps(counts(found), indent=1) + "\n")


if __name__ == "__main__":
    main()
