"""Many runs in one folder. Each recipe is trained once, a stopped run is taken up, and figures are summed up over repeats."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy import stats

from specenhance.training.recipe import RECIPE, Recipe, load_recipe

__all__ = ["Run", "Summary", "check_settings", "numbered", "run_grid", "summary", "train_or_resume"]

_log = logging.getLogger(__name__)


class Run(NamedTuple):
    """One run of a grid.

    Attributes:
        name: what the run is a repeat of, such as ``"tfe4"``.
        seed: its number among the repeats.
        folder: the run folder.
        recipe: what it trains.
    """

    name: str
    seed: int
    folder: Path
    recipe: Recipe

    @property
    def key(self) -> tuple[str, int, int]:
        """What no other run of the grid has: name, seed and fold. A cluster may keep the run in another folder."""
        return self.name, self.seed, self.recipe.fold


def run_grid(runs: Sequence[Run], **machine: Any) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Train runs one after the other, and give each with its result as soon as it has one.

    A run that is finished is not trained again; one that was stopped goes on where it stopped.

    Args:
        runs: the runs, those that others need before the others.
        **machine: fields of :class:`specenhance.training.machine.Machine`.

    Raises:
        FileNotFoundError, ValueError: as :func:`specenhance.training.run.train`.
        ValueError: for a folder whose run was made with other settings.

    >>> list(run_grid([]))
    []
    """
    for count, run in enumerate(runs, start=1):
        _log.info(f"run {count} of {len(runs)}: {run.name}, seed {run.seed}")
        yield run, train_or_resume(run, **machine)


def numbered(runs: Sequence[Run]) -> dict[tuple[str, int, int], str]:
    """Name each run's place among all, by its key, for news.

    >>> list(numbered([Run("a", 0, Path("a"), Recipe()), Run("b", 0, Path("b"), Recipe())]).values())
    ['run 1 of 2', 'run 2 of 2']
    """
    return {run.key: f"run {number} of {len(runs)}" for number, run in enumerate(runs, start=1)}


def train_or_resume(run: Run, **machine: Any) -> dict[str, Any]:
    """Train a run, or go on with it where it was stopped. A finished run only gives its result.

    Args:
        run: the run.
        **machine: fields of :class:`specenhance.training.machine.Machine`.

    Raises:
        FileNotFoundError, ValueError: as :func:`specenhance.training.run.train`.
        ValueError: if the folder's run was made with other settings.
    """
    from specenhance.training.run import resume, train  # here, so that a plan is read without Lightning

    check_settings(run)
    if (run.folder / RECIPE).is_file():
        return resume(run.folder, **machine)
    return train(run.recipe, run.folder, **machine)


def check_settings(run: Run) -> None:
    """Check that what is in a run's folder was made with its recipe.

    Raises:
        ValueError: if it was made with other settings; the message names them.

    >>> check_settings(Run("a", 0, Path("nothing here"), Recipe()))
    """
    if not (run.folder / RECIPE).is_file():
        return
    there = load_recipe(run.folder / RECIPE)
    names = there.differences(run.recipe)
    if names:
        differ = ", ".join(f"{name} = {getattr(there, name)!r}, not {getattr(run.recipe, name)!r}" for name in names)
        raise ValueError(f"{run.folder}: was made with {differ}; choose another --out, or remove it")


class Summary(NamedTuple):
    """A figure over repeats.

    Attributes:
        mean: its mean.
        deviation: its standard deviation between repeats; None for a single one.
        half: half the width of the mean's 95% interval by Student's t; None for a single one.
    """

    mean: float
    deviation: float | None
    half: float | None

    def text(self, form: str = ".2f") -> str:
        """Write the mean and half the width of its interval; ``form`` is the mean's format."""
        if self.half is None:
            return f"{self.mean:{form}}"
        return f"{self.mean:{form}} ± {self.half:{form.lstrip('+')}}"


def summary(values: Sequence[float]) -> Summary:
    """Sum up a figure over repeats.

    Args:
        values: the figure of each repeat, one or more.

    >>> summary([1, 2, 3, 4, 5]).text()
    '3.00 ± 1.96'
    >>> summary([2.0])
    Summary(mean=2.0, deviation=None, half=None)
    """
    mean = statistics.mean(values)
    if len(values) < 2:
        return Summary(mean, None, None)
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return Summary(mean, statistics.stdev(values), float(half))
