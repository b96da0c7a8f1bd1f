"""The plan of a comparison: which recipes are compared on which folds and seeds. It is written before the first run."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from specenhance._files import write_text
from specenhance._names import file_name
from specenhance._toml import read_toml
from specenhance.conditions import create_condition
from specenhance.experiments.grid import Run
from specenhance.training.recipe import Recipe, augmentation, in_place, recipe_for

__all__ = ["PLAN", "Plan", "load_plan", "save_plan", "to_toml", "whole_paths"]

PLAN = "compare.toml"
NONE = "none"  # of the factors augment and teacher


class Plan(BaseModel):
    """What a comparison runs and asks.

    An arm is a recipe, one for each combination of the factors' values. All arms of a fold and a seed share the order of clips
    and the random draws; those with a backbone of the same input share its first weights.

    Attributes:
        recipe: Fields of the recipe that all arms share. ``data`` must be among them.
        factors: What differs: the values of each factor. A factor is a field of the recipe, or ``augment`` for a named set.
        baseline: Name of the arm that the others are compared with; the default is the first arm.
        seeds: The number of runs of each arm on each fold.
        conditions: The conditions under which every run is tested. ``clean`` is always one.
        hypothesis: What is asked, in words.

    Raises:
        ValueError: for an unknown field, a factor without a value or with one twice, a baseline that is no arm, or a recipe or
            condition that does not exist.

    >>> plan = Plan(recipe={"data": "synthetic"}, factors={"frontend": ["identity", "tfe4"], "augment": ["none", "light"]})
    >>> list(plan.arms())
    ['identity, none', 'identity, light', 'tfe4, none', 'tfe4, light']
    >>> len(plan.runs(Path("out"))), plan.rivals()
    (4, ['identity, light', 'tfe4, none', 'tfe4, light'])
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: dict[str, Any]
    factors: dict[str, list[Any]]
    baseline: str = ""
    seeds: int = Field(1, ge=1, le=1000)
    conditions: list[str] = ["clean"]
    hypothesis: str = ""

    def model_post_init(self, _: Any) -> None:
        """Check what pydantic cannot: arms, baseline, recipes and conditions."""
        for factor, values in self.factors.items():
            if not values:
                raise ValueError(f"factors.{factor}: expected one value or more")
            if len({str(value) for value in values}) < len(values):
                raise ValueError(f"factors.{factor} = {values}: expected each value once")
            if factor in self.recipe:
                raise ValueError(f"{factor}: is a factor and a field that all arms share; leave one out")
        if self.baseline and self.baseline not in self.arms():
            raise ValueError(f"baseline = {self.baseline!r}: expected one of the arms: {'; '.join(self.arms())}")
        for name in self.conditions:
            create_condition(name)
        self.runs(Path())  # makes every recipe

    def arms(self) -> dict[str, dict[str, Any]]:
        """Give the fields of each arm's recipe that differ, by the arm's name: its values of the factors that vary."""
        found = {}
        for values in product(*self.factors.values()):
            named = [value for value, choices in zip(values, self.factors.values(), strict=True) if len(choices) > 1]
            fields: dict[str, Any] = {}
            for factor, value in zip(self.factors, values, strict=True):
                fields |= _fields(factor, value)
            found[", ".join(map(_shown, named)) or _shown(values[0] if values else "all")] = fields
        return found

    @property
    def reference(self) -> str:
        """The name of the arm that the others are compared with."""
        return self.baseline or next(iter(self.arms()))

    def rivals(self) -> list[str]:
        """List the arms without the baseline: the family of the tests."""
        return [arm for arm in self.arms() if arm != self.reference]

    @property
    def heard(self) -> list[str]:
        """The conditions, ``clean`` first."""
        return list(dict.fromkeys(["clean", *self.conditions]))

    def runs(self, out: Path) -> list[Run]:
        """List all runs, fold by fold and seed by seed, so that a comparison that is cut short has whole pairs."""
        arms = {arm: self._recipe(fields) for arm, fields in self.arms().items()}
        folds = next(iter(arms.values())).fold_count
        return [
            Run(
                arm,
                seed,
                out
                / "runs"
                / file_name(arm.replace(", ", "-"))
                / (f"fold{fold}-seed{seed}" if fold else f"seed{seed}"),
                recipe.replace(fold=fold, seed=seed),
            )
            for fold in (range(1, folds + 1) if folds else (0,))
            for seed in range(self.seeds)
            for arm, recipe in arms.items()
        ]

    def _recipe(self, fields: dict[str, Any]) -> Recipe:
        shared = dict(self.recipe)
        recipe = recipe_for(shared.pop("data", ""), **(shared | fields))
        if recipe.multi_label:
            raise ValueError(
                "multi_label = True: a comparison counts clips that are classified right, which a multi-label model has not; "
                "train its runs one by one, and compare what 'specenhance evaluate RUN --json' gives"
            )
        return recipe


def _fields(factor: str, value: Any) -> dict[str, Any]:
    if factor == "augment":
        return augmentation(value)
    return {factor: "" if factor == "teacher" and value == NONE else value}


def _shown(value: Any) -> str:
    """Show a value by its name: of a file or folder, with a prefix or without, by the last part of its path."""
    if not isinstance(value, str) or "/" not in value:
        return str(value)
    prefix, colon, rest = value.rpartition(":")
    return f"{prefix}{colon}{Path(rest).name}"


def whole_paths(found: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make the paths of a plan whole, of its recipe and of its factors.

    Args:
        found: The fields of a plan, as a file has them.
        folder: What a relative path is relative to.

    >>> whole_paths({"recipe": {"root": "sounds"}}, Path("/data"))
    {'recipe': {'root': '/data/sounds'}}
    """
    if isinstance(found.get("recipe"), dict):
        found["recipe"] = in_place(found["recipe"], folder)
    if isinstance(found.get("factors"), dict):
        for factor, values in found["factors"].items():
            if isinstance(values, list):
                found["factors"][factor] = [in_place({factor: value}, folder)[factor] for value in values]
    return found


def save_plan(plan: Plan, out: Path) -> None:
    """Write a plan into the folder of a comparison, or see that the one there is the same.

    Raises:
        ValueError: if the folder has another plan; the message has what differs.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plan = Plan(recipe={"data": "synthetic"}, factors={"frontend": ["identity", "tfe1"]})
    ...     save_plan(plan, Path(folder))
    ...     load_plan(Path(folder) / PLAN) == plan
    True
    """
    path = out / PLAN
    if path.is_file():
        there = load_plan(path)
        differ = [
            f"{name} = {getattr(there, name)!r}, not {getattr(plan, name)!r}"
            for name in Plan.model_fields
            if getattr(there, name) != getattr(plan, name)
        ]
        if differ:
            raise ValueError(f"{path}: was planned with {'; '.join(differ)}; choose another --out")
        return
    out.mkdir(parents=True, exist_ok=True)
    write_text(path, to_toml(plan))


def to_toml(plan: Plan) -> str:
    """Write a plan as TOML, which :func:`load_plan` reads.

    >>> print(to_toml(Plan(recipe={"data": "synthetic"}, factors={"frontend": ["identity"]})).splitlines()[-1])
    ]
    """
    import tomli_w

    return tomli_w.dumps(plan.model_dump(mode="json"))


def load_plan(path: Path) -> Plan:
    """Read a plan from a TOML file. A relative path in it is relative to the file's folder.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for malformed TOML, and as :class:`Plan`. The message starts with the path.
    """
    try:
        found = read_toml(path, "plan; expected a TOML file with the tables recipe and factors")
        return Plan(**whole_paths(found, path.absolute().parent))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: {where}{': ' if where else ''}{first['msg']}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
