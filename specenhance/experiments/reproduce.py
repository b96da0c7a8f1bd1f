"""The paper's tables, run whole: every model, fold and repeat, from any point where it was stopped."""

from __future__ import annotations

import json
import logging
import statistics
from pathlib import Path
from typing import Any, NamedTuple, get_args

from specenhance._choices import PaperData, Scale, require
from specenhance._files import write_text
from specenhance._names import markdown
from specenhance.training.recipe import RECIPE, Recipe, load_recipe, paper_recipe
from specenhance.training.run import resume, train

__all__ = ["PUBLISHED", "SCALES", "SMALL", "TABLES", "Row", "reproduce", "to_markdown"]


class Row(NamedTuple):
    """A model of a table: the teacher (no front end), or a student with a front end, that learns from it or not."""

    frontend: str = ""
    taught: bool = False

    @property
    def name(self) -> str:
        """What the row, and the folder of its runs, is called."""
        return f"{self.frontend}{'-kd' if self.taught else ''}" or "teacher"


TEACHER = Row()
TABLES = {
    2: [Row(frontend, True) for frontend in ("identity", "tfe1", "tfe2", "tfe4")],
    3: [
        TEACHER,
        *(Row(frontend, taught) for taught in (True, False) for frontend in ("identity", "tfe1", "tfe2", "tfe4")),
    ],
    4: [Row(frontend, taught) for frontend in ("identity", "tfe4") for taught in (False, True)],
}
"""What each table compares. 2: the front ends, with a teacher. 3: teacher and students, with it and without. 4: what the
teacher is worth to the bare backbone and to TFE(4)."""

# Accuracy in percent, the mean of five repeats, and millions of parameters; what is not here the paper does not state.
PUBLISHED: dict[str, dict[str, float]] = {
    "esc50": {"teacher": 95.85, "identity-kd": 88.63, "tfe1-kd": 89.42, "tfe2-kd": 89.23, "tfe4-kd": 89.67}
    | {"identity": 86.74, "tfe4": 87.13},
    "speech_commands": {"teacher": 97.46, "identity-kd": 97.74, "tfe1-kd": 97.78, "tfe2-kd": 97.79, "tfe4-kd": 97.85}
    | {"identity": 97.10, "tfe4": 97.19},
}
PUBLISHED_MILLIONS = {"identity": 8.74, "tfe1": 8.75, "tfe2": 8.77, "tfe4": 8.82}

# What the small scale changes in the paper's recipes, so that the same path runs on two cores: models that train from
# scratch in minutes, and the few epochs and higher rate that they need.
_SCRATCH = {"pretrained": False, "lr": 3e-3}
_STUDENT = _SCRATCH | {"backbone": "mobilenetv3_small_050"}
_TEACHER = _SCRATCH | {"backbone": "mobilenetv3_small_100"}
SMALL: dict[str, dict[str, dict[str, Any]]] = {
    "esc50": {
        "student": _STUDENT | {"epochs": 10, "batch_size": 16},
        "teacher": _TEACHER | {"epochs": 20, "batch_size": 16, "lr": 5e-3, "schedule": "onecycle"},
    },
    "speech_commands": {
        "student": _STUDENT | {"epochs": 3, "batch_size": 64},
        "teacher": _TEACHER | {"epochs": 5, "batch_size": 64},
    },
}
SCALES: tuple[Scale, ...] = get_args(Scale)

_log = logging.getLogger(__name__)


def reproduce(
    data: PaperData,
    table: int,
    root: Path,
    out: Path,
    *,
    scale: Scale = "paper",
    repeats: int = 5,
    pretrained: bool | None = None,
    backbone: str | None = None,
    teacher_backbone: str | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Run one of :data:`TABLES`, and write it to ``out`` as ``tableN.md`` and ``tableN.json``.

    Each run has its folder in ``out``: the next call takes up what is there, of whatever table, and skips what is done.
    The teacher is trained once, for each fold; each student ``repeats`` times, with the seeds 0, 1, ...

    Args:
        data: ``"esc50"`` or ``"speech_commands"``.
        table: a key of :data:`TABLES`.
        root: the data set's folder.
        out: the folder of all runs.
        scale: ``"paper"``, or ``"small"``: see :data:`SMALL`.
        repeats: runs of each student.
        pretrained: whether backbone and teacher start from published weights; None: as the recipes say.
        backbone: another one for the students than the recipe's.
        teacher_backbone: another one for the teacher, such as ``ast:FOLDER`` where a hub cannot be reached.
        **settings: as :func:`specenhance.training.run.train` takes them.

    Returns:
        What ``tableN.json`` holds.

    Raises:
        FileNotFoundError, ValueError: as :func:`specenhance.training.run.train`, and for runs in ``out`` that were made
            with other settings.
    """
    require("data", data, PaperData)
    require("scale", scale, Scale)
    if table not in TABLES:
        raise ValueError(f"table = {table!r}: expected one of {', '.join(map(str, TABLES))}")
    if repeats < 1:
        raise ValueError(f"repeats = {repeats}: expected 1 or more")
    root, out = root.resolve(), out.resolve()  # a run is taken up from anywhere

    def recipe(row: Row, seed: int = 0) -> Recipe:
        role = "student" if row.frontend else "teacher"
        changes: dict[str, Any] = {"root": root, "role": role, "seed": seed}
        if scale == "small":
            changes |= SMALL[data][role]
        if row.frontend:
            changes["frontend"] = row.frontend
        if row.taught:
            changes["teacher"] = out / TEACHER.name
        if pretrained is not None:
            changes["pretrained"] = pretrained
        named = backbone if row.frontend else teacher_backbone
        return paper_recipe(data, **changes | ({"backbone": named} if named else {}))

    rows = TABLES[table]
    runs = [(TEACHER, 0)] if any(row.taught for row in rows) or TEACHER in rows else []  # first: the others need it
    runs += [(row, seed) for row in rows if row != TEACHER for seed in range(repeats)]
    results: dict[Row, list[dict[str, Any]]] = {}
    for count, (row, seed) in enumerate(runs, start=1):
        _log.info(f"run {count} of {len(runs)}: {row.name}, seed {seed}")
        folder = out / (row.name if row == TEACHER else f"{row.name}-{seed}")
        results.setdefault(row, []).append(_run(recipe(row, seed), folder, **settings))
    report = {
        "data": data,
        "folder": root.name,
        "table": table,
        "scale": scale,
        "repeats": repeats,
        "rows": [_row(data, row, results[row]) for row in rows],
    }
    write_text(out / f"table{table}.json", json.dumps(report, indent=2) + "\n")
    write_text(out / f"table{table}.md", to_markdown(report))
    return report


def to_markdown(report: dict[str, Any]) -> str:
    """Write a report of :func:`reproduce` as a table in Markdown."""
    repeats = report["repeats"]
    lines = [
        f"# {report['data']}, table {report['table']}, scale {report['scale']}, on {markdown(report['folder'])}",
        "",
        "Accuracy on the test clips in percent; "
        + (f"mean and standard deviation of {repeats} repeats." if repeats > 1 else "one run of each model."),
    ]
    if report["scale"] != "paper":
        lines += ["", "The scale is not the paper's: compare the rows with each other, not with the paper's figures."]
    lines += [
        "",
        "| model | teacher | parameters | accuracy | paper: parameters | paper: accuracy |",
        "|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        spread = "" if row["standard_deviation"] is None else f" ± {row['standard_deviation']:.2f}"
        millions, accuracy = row["published_millions"], row["published_accuracy"]
        cells = [
            f"{markdown(row['frontend'] or 'teacher')} ({markdown(row['backbone'])})",
            "yes" if row["taught"] else "",
            f"{row['parameters']:,}",
            f"{row['accuracy']:.2f}{spread}",
            "" if millions is None else f"{millions:.2f}M",
            "" if accuracy is None else f"{accuracy:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _run(recipe: Recipe, folder: Path, **settings: Any) -> dict[str, Any]:
    """Train a recipe in a folder, or go on with what is there."""
    if (folder / RECIPE).is_file():
        there = load_recipe(folder / RECIPE)
        names = there.differences(recipe)
        if names:
            differ = ", ".join(f"{name} = {getattr(there, name)!r}, not {getattr(recipe, name)!r}" for name in names)
            raise ValueError(f"{folder}: was made with {differ}; choose another --out, or remove it")
        return resume(folder, **settings)
    return train(recipe, folder, **settings)


def _row(data: str, row: Row, results: list[dict[str, Any]]) -> dict[str, Any]:
    accuracies = [100 * result["test_accuracy"] for result in results]
    return {
        "frontend": row.frontend,
        "taught": row.taught,
        "backbone": results[0]["recipe"]["backbone"],
        "parameters": results[0]["parameters"]["total"],
        "accuracies": accuracies,
        "accuracy": statistics.mean(accuracies),
        "standard_deviation": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "published_accuracy": PUBLISHED[data].get(row.name),
        "published_millions": PUBLISHED_MILLIONS.get(row.frontend),
    }
