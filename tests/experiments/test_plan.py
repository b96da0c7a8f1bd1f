"""A plan names every run before the first one, and what it cannot mean is an error that says so."""

import re
from pathlib import Path

import pytest

from specenhance.experiments.plan import PLAN, Plan, load_plan, save_plan, to_toml

BASE = {"recipe": {"data": "synthetic"}, "factors": {"frontend": ["identity", "tfe1"]}}


def test_every_combination_of_every_fold_and_seed_is_a_run(sites):
    recipe = {"data": "folder", "root": str(sites), "csv": str(sites / "clips.csv"), "folds": 3, "group": "site"}
    factors = {"frontend": ["identity", "tfe1"], "augment": ["none", "robust"], "lr": [0.001]}
    plan = Plan(recipe=recipe, factors=factors, seeds=2)
    runs = plan.runs(Path("out"))
    assert len(runs) == len({run.folder for run in runs}) == 2 * 2 * 3 * 2
    assert {(run.recipe.fold, run.recipe.seed) for run in runs} == {(f, s) for f in (1, 2, 3) for s in (0, 1)}
    assert all(run.recipe.lr == 0.001 for run in runs)
    assert plan.arms().keys() == {"identity, none", "identity, robust", "tfe1, none", "tfe1, robust"}
    pairs = [[run.name for run in runs[i : i + 4]] for i in range(0, len(runs), 4)]
    assert pairs == [list(plan.arms())] * 6  # a stop leaves whole pairs


def test_arms_differ_only_in_their_factors():
    runs = Plan(**BASE).runs(Path("out"))
    first, second = (run.recipe.model_dump() for run in runs)
    assert {name for name in first if first[name] != second[name]} == {"frontend"}


def test_none_is_a_teacher_and_esc50_has_its_own_folds(five_folds):
    plan = Plan(recipe={"data": "esc50", "root": str(five_folds)}, factors={"teacher": ["none", "runs/ast"]})
    assert [run.recipe.teacher for run in plan.runs(Path())][:2] == ["", "runs/ast"]
    assert list(plan.arms()) == ["none", "ast"]
    assert [run.recipe.fold for run in plan.runs(Path())] == [k for k in range(1, 6) for _ in range(2)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factors": {"frontend": []}}, "factors.frontend: expected one value or more"),
        ({"factors": {"frontend": ["tfe1", "tfe1"]}}, "expected each value once"),
        ({"factors": {"lr": [1e-3]}, "recipe": {"data": "synthetic", "lr": 1e-2}}, "lr: is a factor and a field"),
        ({"factors": {"front": ["tfe1"]}}, "front"),
        ({"factors": {"augment": ["strong"]}}, "strong"),
        ({"recipe": {"data": "no such"}}, "no such"),
        ({"baseline": "tfe4"}, "baseline = 'tfe4': expected one of the arms: identity; tfe1"),
        ({"conditions": ["nois:20"]}, "nois"),
        ({"seeds": 0}, "seeds"),
        ({"other": 1}, "other"),
    ],
)
def test_what_a_plan_cannot_mean_is_an_error(changes, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        Plan(**{**BASE, **changes})


def test_a_plan_is_written_once_and_another_one_is_refused(tmp_path):
    plan = Plan(**BASE, hypothesis='names are "data"\n')
    save_plan(plan, tmp_path)
    save_plan(plan, tmp_path)
    assert load_plan(tmp_path / PLAN) == plan
    with pytest.raises(ValueError, match=r"was planned with seeds = 1, not 2; choose another --out"):
        save_plan(plan.model_copy(update={"seeds": 2}), tmp_path)


def test_a_file_that_is_no_plan_is_named(tmp_path):
    file = tmp_path / "plan.toml"
    with pytest.raises(FileNotFoundError, match="no such plan"):
        load_plan(file)
    file.write_text("recipe = 3\n")
    with pytest.raises(ValueError, match=r"plan.toml: recipe: .*dictionary"):
        load_plan(file)
    file.write_text("= 3")
    with pytest.raises(ValueError, match=r"plan.toml: "):
        load_plan(file)
    file.write_text(to_toml(Plan(**BASE)))
    assert load_plan(file) == Plan(**BASE)


def test_the_guides_plan_is_a_plan(tmp_path):
    guide = (Path(__file__).parents[2] / "docs" / "compare.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```toml\n(.*?)^```", guide, re.M | re.S)
    (tmp_path / "plan.toml").write_text(text)
    plan = load_plan(tmp_path / "plan.toml")
    assert len(plan.runs(tmp_path)) == 4 * 8
    assert Path(plan.recipe["root"]).is_absolute()


def test_paths_in_a_plan_are_relative_to_its_file_also_among_the_factors(tmp_path):
    (tmp_path / "values.npz").touch()
    (tmp_path / "lite0").mkdir()
    (tmp_path / "plan.toml").write_text(
        '[recipe]\ndata = "folder"\nroot = "sounds"\nbackbone = "local-dir:lite0"\n'
        '[factors]\nteacher = ["none", "embedding:values.npz"]\nfrontend = ["identity"]\n'
    )
    plan = load_plan(tmp_path / "plan.toml")
    (_, taught) = plan.runs(tmp_path)
    assert taught.recipe.root == str(tmp_path / "sounds")
    assert taught.recipe.backbone == f"local-dir:{tmp_path / 'lite0'}"
    assert taught.recipe.teacher == f"embedding:{tmp_path / 'values.npz'}"
    assert list(plan.arms()) == ["none", "embedding:values.npz"]
