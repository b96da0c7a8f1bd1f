"""Searches of recipe fields: the space, the engine, what is written, and what stops and kills do to one."""

import json
import os
import signal
import subprocess
import sys

import pytest

from specenhance.experiments.space import Choice, Interval, as_text, parse_space
from specenhance.experiments.tune import tune
from specenhance.training.recipe import load_recipe, save_recipe

SPACE = {"lr": "1e-4..1e-2:log", "batch_size": "4..8", "frontend": "identity,tfe1"}


def test_a_space_is_read_and_written():
    space = parse_space({**SPACE, "mixup": "0..0.5"})
    assert space["lr"] == Interval(1e-4, 1e-2, log=True)
    assert space["batch_size"] == Interval(4, 8, whole=True)
    assert space["mixup"] == Interval(0, 0.5)
    assert space["frontend"] == Choice(("identity", "tfe1"))
    assert parse_space(as_text(space)) == space


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1e-2..1e-4", "expected a lower number and then a higher one"),
        ("0..1:log", "expected numbers above 0 with :log"),
        ("1..2:linear", "expected nothing or :log after the interval"),
        ("a..b", "expected numbers, such as"),
        ("0.1", "expected LOW..HIGH, or two or more values"),
        ("nan..1", "expected a lower number"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_space({"lr": text})
    with pytest.raises(ValueError, match="no field varies"):
        parse_space({})


@pytest.fixture(scope="module")
def fast(quick):
    return quick.replace(epochs=1)


@pytest.fixture(scope="module")
def searched(fast, tmp_path_factory):
    out = tmp_path_factory.mktemp("tune") / "search"
    return out, tune(fast, SPACE, 5, out, device="cpu")


def scores(out):
    found = {}
    for folder in sorted((out / "runs").iterdir()):
        result = json.loads((folder / "result.json").read_text())
        recipe = result["recipe"]
        found[folder.name] = (*(recipe[name] for name in SPACE), result["validation_accuracy"])
    return found


def test_a_search_keeps_the_best_by_the_validation_clips(searched, fast):
    out, tuned = searched
    assert len(tuned.trials) == 5
    assert [trial.score for trial in tuned.trials] == sorted((trial.score for trial in tuned.trials), reverse=True)
    of_run = scores(out)
    for trial in tuned.trials:
        assert of_run[trial.folder.name] == (*(trial.values[name] for name in SPACE), trial.score)
        assert 1e-4 <= trial.values["lr"] <= 1e-2
        assert trial.values["batch_size"] in range(4, 9)
    assert len({trial.values["lr"] for trial in tuned.trials}) == 5
    best = load_recipe(out / "best.toml")
    assert {name: getattr(best, name) for name in SPACE} == tuned.trials[0].values
    assert best.replace(**{name: getattr(fast, name) for name in (*SPACE, "mean", "std", "clip_seconds")}) == fast
    page = (out / "tune.md").read_text()
    assert f"{tuned.test:.2%} on the test clips" in page
    assert page.count("\n| ") >= 6
    assert tuned.importance.keys() <= SPACE.keys()


def test_a_search_goes_on_with_more_trials_and_refuses_another(searched, fast, tmp_path):
    import shutil

    out = tmp_path / "search"
    shutil.copytree(searched[0], out)
    more = tune(fast, SPACE, 6, out, device="cpu")
    assert len(more.trials) == 6
    assert scores(out).items() >= scores(searched[0]).items()
    with pytest.raises(ValueError, match="has a search of other fields, values or settings"):
        tune(fast, {"lr": "1e-4..1e-1:log"}, 6, out, device="cpu")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    with pytest.raises(FileExistsError, match="is not empty, and has no search"):
        tune(fast, SPACE, 1, tmp_path / "other", device="cpu")


KILLED = """
import os, signal, sys
from pathlib import Path
from specenhance.experiments.tune import tune
from specenhance.training import load_recipe
from specenhance.training.checkpoints import AtomicCheckpoints
save, count = AtomicCheckpoints.save_checkpoint, 0
def save_and_die(self, *args, **kwargs):
    global count
    save(self, *args, **kwargs)
    count += 1
    if count == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
AtomicCheckpoints.save_checkpoint = save_and_die
tune(load_recipe(sys.argv[1]), {space!r}, 5, Path(sys.argv[2]), device="cpu")
"""


def test_a_killed_search_ends_as_the_uninterrupted_one(searched, fast, tmp_path):
    save_recipe(fast, tmp_path / "recipe.toml")
    for at in ("2", "1"):  # in its second trial, and then again in the same
        command = [
            sys.executable,
            "-c",
            KILLED.format(space=SPACE),
            str(tmp_path / "recipe.toml"),
            str(tmp_path / "search"),
            at,
        ]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        assert subprocess.run(command, capture_output=True, env=environment).returncode == -signal.SIGKILL
    tune(fast, SPACE, 5, tmp_path / "search", device="cpu")
    assert scores(tmp_path / "search") == scores(searched[0])
    assert (tmp_path / "search" / "tune.md").read_text() == (searched[0] / "tune.md").read_text()


def test_a_value_that_a_recipe_cannot_have_is_told_before_the_first_run(fast, tmp_path):
    with pytest.raises(ValueError, match="tfa1"):
        tune(fast, {"frontend": "identity,tfa1"}, 3, tmp_path / "a", device="cpu")
    with pytest.raises(ValueError, match="mixup = 2"):
        tune(fast, {"mixup": "0..2"}, 3, tmp_path / "a", device="cpu")
    assert not (tmp_path / "a").exists()


def test_the_command_searches_in_two_processes(fast, tmp_path):
    from typer.testing import CliRunner

    from specenhance.cli.program import app

    save_recipe(fast, tmp_path / "recipe.toml")
    arguments = ["tune", "--recipe", str(tmp_path / "recipe.toml"), "--space", "lr=1e-4..1e-2:log", "--trials", "2"]
    found = CliRunner().invoke(app, [*arguments, "--jobs", "2", "--out", str(tmp_path / "search"), "--device", "cpu"])
    assert found.exit_code == 0, found.output
    assert (tmp_path / "search" / "best.toml").is_file()
    wrong = CliRunner().invoke(app, [*arguments[:3], "--space", "lr", "--out", str(tmp_path / "b")])
    assert "--space lr: expected FIELD=VALUE" in wrong.output
