"""What is measured of a run of a comparison: which clips of which groups it gets right, under each condition."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from specenhance._files import write_text
from specenhance.analysis.findings import examine
from specenhance.conditions import create_condition
from specenhance.conditions.altered import Altered
from specenhance.inference import chosen_device
from specenhance.training.build import open_split
from specenhance.training.loop import cached
from specenhance.training.machine import Machine
from specenhance.training.store import load_stored

__all__ = ["HEARD", "heard", "is_heard"]

HEARD = "heard.json"


def heard(run: Path, conditions: Sequence[str], machine: Machine) -> dict[str, Any]:
    """Test a finished run under conditions, each once. What was measured before is read from ``heard.json``.

    Args:
        run: The run folder.
        conditions: The names of the conditions.
        machine: Its device computes, and its cache keeps the clips between conditions.

    Returns:
        ``"unit"``, what a group is; ``"groups"``, the group of each test clip; ``"right"``, for each condition 1 for each clip
        that is classified right, otherwise 0; ``"mask change"``, how much the mask changes between clean clips, as a part of
        its mean, None without a mask.

    Raises:
        FileNotFoundError, ValueError: for a run that is not finished, or clips that are not there.
    """
    found = _stored(run)
    missing = [name for name in conditions if name not in found["right"]]
    if not missing:
        return found
    model, classes, recipe = load_stored(run)
    data = open_split(recipe, "test", classes)
    data = cached(data, machine)
    model.to(chosen_device(machine.device))
    for name in missing:
        result = examine(model, Altered(data, create_condition(name)), recipe.batch_size, recipe.group)
        found["unit"], found["groups"] = result.unit, list(result.groups)
        found["right"][name] = (result.predicted == result.labels).int().tolist()
        if name == "clean":
            found["mask change"] = None if result.mask is None else result.mask.change.clips
    write_text(run / HEARD, json.dumps(found) + "\n")
    return found


def is_heard(run: Path, conditions: Sequence[str]) -> bool:
    """Say whether a run was tested under all of some conditions.

    >>> is_heard(Path("nothing here"), ["clean"])
    False
    """
    return set(conditions) <= _stored(run)["right"].keys()


def _stored(run: Path) -> dict[str, Any]:
    file = run / HEARD
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"right": {}}
