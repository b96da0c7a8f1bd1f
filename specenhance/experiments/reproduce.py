"""The paper's tables: every model, every fold and every repeat, taken up wherever it was stopped."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

from specenhance._choices import PaperData, Scale, require
from specenhance._files import write_text
from specenhance._names import markdown
from specenhance.experiments.grid import Run, check_settings, numbered, summary, train_or_resume
from specenhance.experiments.jobs import Place, here
from specenhance.training.folder import finished
from specenhance.training.recipe import Recipe, paper_recipe
from specenhance.training.store import RESULT

__all__ = ["PUBLISHED", "SCALES", "SMALL", "TABLES", "Row", "reproduce", "to_markdown"]

_log = logging.getLogger(__name__)


class Row(NamedTuple):
    """A model of a table: the teacher, or a student with a front end.

    Attributes:
        frontend: name of the student's front end; empty for the teacher.
        taught: whether the student learns from the teacher.

    >>> Row("tfe4", True).name, Row().name
    ('tfe4-kd', 'teacher')
    """

    frontend: str = ""
    taught: bool = False

    @property
    def name(self) -> str:
        """Name of the row, and of the folder of its runs."""
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
"""The models that each table compares. Table 2: the front ends, with a teacher. Table 3: the teacher, and the students with a
teacher and without one. Table 4: the bare backbone and TFE(4), without a teacher and with one."""

# Accuracy in percent, the mean of five repeats. The paper does not state what is missing here.
PUBLISHED: dict[str, dict[str, float]] = {
    "esc50": {"teacher": 95.85, "identity-kd": 88.63, "tfe1-kd": 89.42, "tfe2-kd": 89.23, "tfe4-kd": 89.67}
    | {"identity": 86.74, "tfe4": 87.13},
    "speech_commands": {"teacher": 97.46, "identity-kd": 97.74, "tfe1-kd": 97.78, "tfe2-kd": 97.79, "tfe4-kd": 97.85}
    | {"identity": 97.10, "tfe4": 97.19},
}
PUBLISHED_MILLIONS = {"identity": 8.74, "tfe1": 8.75, "tfe2": 8.77, "tfe4": 8.82}

# What the small scale changes in the paper's recipes, so that two cores can run them: models that train from scratch in
# minutes, few epochs, and the higher learning rate that they need.
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
    place: Place = here,
    **settings: Any,
) -> dict[str, Any]:
    """Run one of :data:`TABLES`, and write it to ``out`` as ``tableN.md`` and ``tableN.json``.

    Each run has its folder in ``out``. The next call, for any table, goes on with the runs that it finds there and skips the
    finished ones. The teacher is trained once for each fold. Each student is trained ``repeats`` times, with the seeds 0, 1 and
    so on.

    Args:
        data: ``"esc50"`` or ``"speech_commands"``.
        table: a key of :data:`TABLES`.
        root: the data set's folder.
        out: the folder of all runs.
        scale: ``"paper"``, or ``"small"``: see :data:`SMALL`.
        repeats: number of runs of each student.
        pretrained: whether backbone and teacher start from published weights; None takes what the recipes say.
        backbone: backbone of the students; None takes the recipe's.
        teacher_backbone: backbone of the teacher, such as ``ast:FOLDER`` where no hub can be reached; None takes the recipe's.
        place: where the runs are executed, as for :func:`specenhance.experiments.compare.compare`.
        **settings: as :func:`specenhance.training.run.train` takes them.

    Returns:
        The content of ``tableN.json``.

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
    order = [(TEACHER, 0)] if any(row.taught for row in rows) or TEACHER in rows else []  # first: the others need it
    order += [(row, seed) for row in rows if row != TEACHER for seed in range(repeats)]
    runs = [
        Run(row.name, seed, out / (row.name if row == TEACHER else f"{row.name}-{seed}"), recipe(row, seed))
        for row, seed in order
    ]
    for run in runs:
        check_settings(run)
    for stage in ([run for run in runs if run.name == TEACHER.name], [run for run in runs if run.name != TEACHER.name]):
        undone = [run for run in stage if finished(run.folder, run.recipe) is None]
        if undone:
            place(partial(_train, machine=settings, numbers=numbered(runs)), undone)
    results: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        results.setdefault(run.name, []).append(json.loads((run.folder / RESULT).read_text(encoding="utf-8")))
    report = {
        "data": data,
        "folder": root.name,
        "table": table,
        "scale": scale,
        "repeats": repeats,
        "rows": [_row(data, row, results[row.name]) for row in rows],
    }
    write_text(out / f"table{table}.json", json.dumps(report, indent=2) + "\n")
    write_text(out / f"table{table}.md", to_markdown(report))
    return report


def _train(run: Run, machine: dict[str, Any], numbers: Mapping[tuple[str, int, int], str]) -> None:
    _log.info(f"{numbers[run.key]}: {run.name}, seed {run.seed}")
    train_or_resume(run, **machine)


def to_markdown(report: dict[str, Any]) -> str:
    """Write a report of :func:`reproduce` as a table in Markdown.

    >>> row = {"frontend": "tfe1", "taught": False, "backbone": "resnet18", "parameters": 11200000, "accuracy": 87.5}
    >>> row |= {"standard_deviation": None, "published_accuracy": None, "published_millions": 8.75}
    >>> report = {"data": "esc50", "table": 4, "scale": "paper", "repeats": 1, "folder": "ESC-50", "rows": [row]}
    >>> print(to_markdown(report).splitlines()[-1])
    | tfe1 (resnet18) |  | 11,200,000 | 87.50 | 8.75M |  |
    """
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


def _row(data: str, row: Row, results: list[dict[str, Any]]) -> dict[str, Any]:
    accuracies = [100 * result["test_accuracy"] for result in results]
    found = summary(accuracies)
    return {
        "frontend": row.frontend,
        "taught": row.taught,
        "backbone": results[0]["recipe"]["backbone"],
        "parameters": results[0]["parameters"]["total"],
        "accuracies": accuracies,
        "accuracy": found.mean,
        "standard_deviation": found.deviation,
        "published_accuracy": PUBLISHED[data].get(row.name),
        "published_millions": PUBLISHED_MILLIONS.get(row.frontend),
    }
