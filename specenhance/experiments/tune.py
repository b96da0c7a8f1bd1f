"""Search the values of recipe fields that score best on the validation clips, by Optuna on the engine of comparisons."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from specenhance._files import write_text
from specenhance._missing import missing
from specenhance._names import markdown
from specenhance._stopping import Stopped
from specenhance.experiments.grid import Run, train_or_resume
from specenhance.experiments.jobs import Place, here
from specenhance.experiments.space import Choice, Interval, as_text, parse_space, suggested
from specenhance.training.folds import has_folds
from specenhance.training.machine import Machine
from specenhance.training.recipe import Recipe, save_recipe
from specenhance.training.run import check_recipe
from specenhance.training.store import RESULT

if TYPE_CHECKING:
    import optuna

__all__ = ["Trial", "Tuned", "tune"]

ABOUT, JOURNAL, BEST = "tune.json", "trials.log", "best.toml"

_log = logging.getLogger(__name__)


class Trial(NamedTuple):
    """One run of a search.

    Attributes:
        number: its number, from 0.
        values: the values of the fields that vary.
        score: the accuracy, or mean average precision, on the validation clips, in [0, 1].
        folder: the run folder.
    """

    number: int
    values: dict[str, Any]
    score: float
    folder: Path


class Tuned(NamedTuple):
    """The result of a search.

    Attributes:
        trials: all trials, the best first.
        test: the score of the best trial on the test clips, which nothing was chosen by.
        importance: the part of the score's variance that each field explains, the largest first. Empty after few trials.
    """

    trials: list[Trial]
    test: float
    importance: dict[str, float]


def tune(
    recipe: Recipe,
    space: Mapping[str, str],
    trials: int,
    out: Path,
    place: Place = here,
    at_once: int = 1,
    **machine: Any,
) -> Tuned:
    """Search, or go on with a search that was stopped.

    Each trial is a run with its own values, in ``out/runs``. Optuna's tree-structured Parzen estimator chooses the values from
    the trials before, by the score on the validation clips. The test clips choose nothing. What is searched is written to
    ``out/tune.json`` before the first run. At the end, ``out/tune.md`` has all trials, and ``out/best.toml`` is the best
    trial's recipe. A search that was killed ends as one that was not, if it makes one trial at once.

    Args:
        recipe: The fields that all trials share. Its seed is that of the search, too.
        space: The values of the fields that vary, as :func:`specenhance.experiments.space.parse_space` reads them.
        trials: The number of trials, 1 or more. A larger number goes on with a finished search.
        out: The folder of the search.
        place: Where the runs are executed, as for :func:`specenhance.experiments.compare.compare`.
        at_once: The number of trials whose values are chosen together.
        **machine: Fields of :class:`specenhance.training.machine.Machine`.

    Raises:
        ValueError: for another search in ``out``, a field or a value that a recipe cannot have, or a recipe that trains each
            fold in turn.
        ImportError: if Optuna is missing.
        Stopped: if a signal has asked for a stop. The same call goes on.

    Source: Akiba et al., "Optuna", KDD 2019; Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011.

    Example (it trains for minutes, so it does not run as a test)::

        tune(recipe_for("synthetic", epochs=2), {"lr": "1e-4..1e-2:log"}, trials=10, out=Path("tune"))
    """
    optuna = _optuna()
    fields = parse_space(space)
    if trials < 1 or at_once < 1:
        raise ValueError(f"trials = {trials}, {at_once} at once: expected 1 or more")
    if has_folds(recipe):
        raise ValueError("fold = 0 trains each fold in turn; expected one fold, such as --set fold=1")
    for values in _corners(fields):
        check_recipe(recipe.replace(**values), Machine(**machine))
    out = out.resolve()
    _write_about(recipe, fields, out)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    out.mkdir(parents=True, exist_ok=True)
    backend = optuna.storages.journal.JournalFileBackend(str(out / JOURNAL))
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(backend), study_name="tune", direction="maximize", load_if_exists=True
    )
    try:
        while undone := _asked(study, fields, trials, at_once, recipe.seed):
            runs = [
                Run(f"trial {number}", recipe.seed, out / "runs" / f"{number:04d}", recipe.replace(**values))
                for number, values in undone
            ]
            for run, (_, values) in zip(runs, undone, strict=True):
                _log.info(f"{run.name} of {trials}: {_told(values)}")
            place(partial(_train, machine=machine), runs)
            for run, (number, _) in zip(runs, undone, strict=True):
                score = _score(run.folder)
                study.tell(number, score)
                _log.info(f"{run.name}: {score:.2%} on the validation clips")
    except Stopped as stop:
        raise Stopped(stop.signum, f"stopped; the same command goes on with {out}") from None
    return _written(study, out)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise missing(error, "a search of recipe fields needs Optuna", "optuna") from error
    return optuna


def _corners(fields: Mapping[str, Interval | Choice]) -> list[dict[str, Any]]:
    """List values to check before the first run: each field's first and last with the first of the others."""
    ends = {
        name: list(values.values)
        if isinstance(values, Choice)
        else [int(end) if values.whole else end for end in (values.low, values.high)]
        for name, values in fields.items()
    }
    first = {name: values[0] for name, values in ends.items()}
    return [first, *({**first, name: value} for name, values in ends.items() for value in values[1:])]


def _write_about(recipe: Recipe, fields: Mapping[str, Interval | Choice], out: Path) -> None:
    """Write down what is searched. Refuse a folder that has another search."""
    about = {"space": as_text(fields), "recipe": recipe.model_dump(mode="json")}
    path = out / ABOUT
    if path.is_file():
        if json.loads(path.read_text(encoding="utf-8")) != about:
            raise ValueError(
                f"{out}: has a search of other fields, values or settings; choose another --out, or remove it"
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f"{out}: is not empty, and has no search; choose another --out")
    write_text(path, json.dumps(about, indent=1) + "\n")


def _asked(
    study: optuna.Study, fields: Mapping[str, Interval | Choice], trials: int, at_once: int, seed: int
) -> list[tuple[int, dict[str, Any]]]:
    """Give the numbers and values of the next trials: those that a stop has interrupted, or else new ones."""
    import optuna

    open_trials = [one for one in study.get_trials(deepcopy=False) if one.state == optuna.trial.TrialState.RUNNING]
    whole = [(one.number, dict(one.params)) for one in open_trials if one.params.keys() == fields.keys()]
    for one in open_trials:  # killed while its values were chosen
        if one.params.keys() != fields.keys():
            study.tell(one.number, state=optuna.trial.TrialState.FAIL)
    if whole:
        return whole
    done = len([one for one in study.get_trials(deepcopy=False) if one.state == optuna.trial.TrialState.COMPLETE])
    found = []
    for _ in range(min(at_once, trials - done)):
        # A seed of its own: so the values depend on the trials before, and on no state that a stop would lose.
        number = len(study.get_trials(deepcopy=False))
        study.sampler = optuna.samplers.TPESampler(seed=seed + number, constant_liar=at_once > 1)
        trial = study.ask()
        found.append((trial.number, suggested(trial, fields)))
    return found


def _train(run: Run, machine: dict[str, Any]) -> None:
    train_or_resume(run, **machine)


def _score(folder: Path) -> float:
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return float(next(value for name, value in result.items() if name.startswith("validation_")))


def _written(study: optuna.Study, out: Path) -> Tuned:
    """Write what was found, and return it."""
    import optuna

    complete = [one for one in study.get_trials(deepcopy=False) if one.state == optuna.trial.TrialState.COMPLETE]
    trials = sorted(
        (
            Trial(one.number, dict(one.params), float(one.value or 0), out / "runs" / f"{one.number:04d}")
            for one in complete
        ),
        key=lambda trial: (-trial.score, trial.number),
    )
    best = trials[0]
    result = json.loads((best.folder / RESULT).read_text(encoding="utf-8"))
    test = float(next(value for name, value in result.items() if name.startswith("test_")))
    tuned = Tuned(trials, test, _importance(study, len(trials)))
    recipe = Recipe(**result["recipe"])
    save_recipe(recipe, out / BEST)
    write_text(out / "tune.md", _page(tuned))
    _log.info(
        f"best of {len(trials)} trials: {_told(best.values)}; {best.score:.2%} on the validation clips, {test:.2%} on the test "
        f"clips; specenhance train --recipe {out / BEST} trains it again"
    )
    return tuned


def _importance(study: optuna.Study, trials: int) -> dict[str, float]:
    import optuna

    if trials < 4 or len({trial.value for trial in study.trials}) < 2:
        return {}
    try:
        return dict(optuna.importance.get_param_importances(study))
    except (ImportError, RuntimeError, ValueError):  # it needs scikit-learn, and scores that differ
        return {}


def _page(tuned: Tuned) -> str:
    names = list(tuned.trials[0].values)
    lines = [
        "# Search of recipe fields",
        "",
        f"{len(tuned.trials)} trials. The best one, by the validation clips, scores {tuned.test:.2%} on the test clips. The "
        "scores of the validation clips chose it, so they flatter it.",
        "",
        f"| trial | validation | {' | '.join(map(markdown, names))} |",
        f"|{'---|' * (len(names) + 2)}",
    ]
    for trial in tuned.trials:
        lines.append(
            f"| {trial.number} | {trial.score:.2%} | {' | '.join(_value(trial.values[name]) for name in names)} |"
        )
    if tuned.importance:
        lines += ["", "Part of the score's variance that each field explains (fANOVA of Hutter et al., 2014):", ""]
        lines += [f"- {markdown(name)}: {part:.0%}" for name, part in tuned.importance.items()]
    return "\n".join(lines) + "\n"


def _told(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} = {value:.4g}" if isinstance(value, float) else f"{name} = {value}" for name, value in values.items()
    )


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else markdown(str(value))
