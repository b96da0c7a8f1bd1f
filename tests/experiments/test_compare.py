"""A comparison: paired arms, figures that are the runs' own, a page that needs nothing else, and nothing done twice."""

import json
import re
import shutil
from functools import partial
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from specenhance.analysis.intervals import by_group
from specenhance.cli import program
from specenhance.data import AudioDataset
from specenhance.data.registry import DATA, list_data, register_data
from specenhance.distillation.teachers import FrozenTeacher
from specenhance.experiments import jobs
from specenhance.experiments.compare import compare
from specenhance.experiments.findings import find
from specenhance.experiments.jobs import processes
from specenhance.experiments.measure import HEARD
from specenhance.experiments.plan import Plan, load_plan, save_plan, to_toml
from specenhance.experiments.tables import to_markdown
from specenhance.training.build import build_model
from specenhance.training.evaluate import evaluate_run
from specenhance.training.reporting import report_run
from specenhance.training.store import load_stored


def figures(out):
    """What was found, without what depends on the clock."""
    found = json.loads((out / "compare.json").read_text())
    for arm in found["arms"]:
        del arm["seconds"], arm["latency"]
    return found


def heard(out, arm, fold):
    return json.loads((out / "runs" / arm / f"fold{fold}-seed0" / HEARD).read_text())


def test_accuracy_and_differences_are_those_of_the_runs(compared, plan):
    found = json.loads((compared / "compare.json").read_text())
    assert (found["clips"], found["groups"], found["unit"]) == (36, 6, "site")
    assert [arm["name"] for arm in found["arms"]] == ["identity", "tfe1"]
    mean = {}
    for arm in found["arms"]:
        for condition in ("clean", "gain:-12"):
            scores = [
                one.score
                for fold in (1, 2, 3)
                for one in evaluate_run(
                    compared / "runs" / arm["name"] / f"fold{fold}-seed0", conditions=[condition], device="cpu"
                )
            ]
            right = sum(int(score.confusion.trace()) for score in scores)
            mean[arm["name"], condition] = 100 * right / 36
            assert arm["accuracy"][condition]["value"] == pytest.approx(100 * right / 36)
    for condition, gain in found["arms"][1]["gains"].items():
        assert gain["difference"]["value"] == pytest.approx(mean["tfe1", condition] - mean["identity", condition])
    assert found["arms"][0]["gains"] == {}
    assert found["arms"][1]["mask_change"] != [None] * 3
    assert found["arms"][0]["mask_change"] == [None] * 3
    assert [len(curve) for curve in found["arms"][0]["curves"]] == [2, 2, 2]


def test_no_site_is_in_two_folds_and_arms_are_tested_on_the_same_clips(compared):
    tested = [set(heard(compared, "identity", fold)["groups"]) for fold in (1, 2, 3)]
    assert sorted(name for fold in tested for name in fold) == [f"site {i}" for i in range(6)]
    for fold in (1, 2, 3):
        assert heard(compared, "identity", fold)["groups"] == heard(compared, "tfe1", fold)["groups"]
        manifest = (compared / "runs" / "identity" / f"fold{fold}-seed0" / "clips.jsonl").read_text()
        for site in range(6):
            splits = set(re.findall(rf'"split": "(\w+)", "path": "\w+-{site}-', manifest))
            assert len(splits) == 1, (fold, site)


def test_a_seed_gives_every_arm_the_same_backbone(plan, tmp_path):
    weights = []
    for run in plan.runs(tmp_path)[:2]:
        torch.manual_seed(run.recipe.seed)
        weights.append(build_model(run.recipe, 3).backbone.state_dict())
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_what_is_done_is_not_done_again(compared, plan, news, monkeypatch):
    before = figures(compared)
    monkeypatch.setattr(jobs, "here", None)
    compare(plan, compared, device="cpu")
    assert figures(compared) == before
    assert "6 of 6 runs are done" in news


def test_processes_find_the_same(compared, plan, tmp_path):
    threads = torch.get_num_threads()
    compare(plan, tmp_path / "out", partial(processes, jobs=2), device="cpu")
    assert torch.get_num_threads() == threads
    found, expected = figures(tmp_path / "out"), figures(compared)
    if threads == 1:  # sums of floats depend on the number of threads
        assert found == expected
    for run in plan.runs(tmp_path / "out"):
        first = safetensors.torch.load_file(run.folder / "model.safetensors")
        second = safetensors.torch.load_file(compared / "runs" / run.name / run.folder.name / "model.safetensors")
        assert all(torch.allclose(first[name].double(), second[name].double(), atol=1e-4) for name in first)


def test_an_error_of_a_process_is_that_of_the_run(plan, tmp_path):
    recipe = {**plan.recipe, "csv": str(tmp_path / "gone.csv")}
    gone = Plan(recipe=recipe, factors=plan.factors)
    with pytest.raises(FileNotFoundError, match=r"gone\.csv"):
        compare(gone, tmp_path / "out", partial(processes, jobs=2), device="cpu")


def test_another_condition_is_heard_without_training_again(compared, plan, tmp_path):
    out = tmp_path / "more"
    more = plan.model_copy(update={"conditions": ["noise:10"]})
    shutil.copytree(compared / "runs", out / "runs")
    save_plan(more, out)
    model = out / "runs" / "tfe1" / "fold1-seed0" / "model.safetensors"
    before = model.stat().st_mtime_ns
    compare(more, out, device="cpu")
    assert model.stat().st_mtime_ns == before
    assert set(heard(out, "tfe1", 1)["right"]) == {"clean", "gain:-12", "noise:10"}
    assert figures(out)["arms"][0]["accuracy"].keys() == {"clean", "noise:10"}


def test_a_run_with_other_settings_stops_the_comparison_before_any_work(compared, plan, tmp_path):
    other = Plan(**{**plan.model_dump(), "recipe": {**plan.recipe, "lr": 0.002}})
    shutil.copytree(compared / "runs" / "tfe1", tmp_path / "runs" / "tfe1")
    with pytest.raises(ValueError, match=r"fold1-seed0: was made with lr = 0\.001, not 0\.002"):
        compare(other, tmp_path, device="cpu")
    assert not (tmp_path / "runs" / "identity").exists()


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.said = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "srcset", "href")]

    def handle_data(self, data):
        self.said += data


def test_the_tables_show_the_differences_and_warn_of_one_run_a_fold(compared, plan):
    text = (compared / "compare.md").read_text()
    assert "](differences.png)" in text
    assert matplotlib.image.imread(compared / "differences.png").ndim == 3
    assert ("Each arm was trained once on each fold" in text) == (plan.seeds == 1)
    more = plan.model_copy(update={"seeds": 2})
    found = find(plan, plan.runs(compared))
    assert "trained once" not in to_markdown(more, found)
    assert "trained once" in to_markdown(plan, found)


def test_the_page_has_its_pictures_and_escapes_names(compared):
    page = _Page((compared / "compare.html").read_text())
    assert page.tags.count("img") == 5  # conditions, forest, latency, masks, curves
    assert all(source.startswith("data:image/webp") for source in page.sources)
    assert "Not drawn" not in page.said
    assert "Does <b>TFE</b> help?" in page.said
    assert "b" not in page.tags
    found = figures(compared)
    value = found["arms"][1]["gains"]["clean"]["difference"]["value"]
    assert f"{value:+.1f} (" in page.said
    assert 'hypothesis = "Does <b>TFE</b> help?"' in page.said  # the plan


def test_a_single_arm_of_one_group_is_no_comparison_but_no_error_either(plan, tmp_path, monkeypatch):
    assert list_data()  # the library's own are loaded
    monkeypatch.setattr(DATA, "_entries", dict(DATA._entries))
    recipe = {name: value for name, value in plan.recipe.items() if name not in ("folds", "group", "csv", "root")}

    @register_data("one_site")
    class OneSite(AudioDataset):
        def __init__(self, split, seed=0, sample_rate=16000):
            super().__init__(["a", "b"], [0, 1] * 4, (), sample_rate)
            self.groups = {"site": ["here"] * 8}

        def waveform(self, i):
            return torch.sin(torch.arange(4000) * (0.1 + 0.4 * self.labels[i])) + 0.01 * torch.randn(
                4000, generator=torch.Generator().manual_seed(i)
            )

    alone = Plan(recipe={**recipe, "data": "one_site"}, factors={"frontend": ["tfe1"]})
    compare(alone, tmp_path / "out", device="cpu")
    found = figures(tmp_path / "out")
    assert (found["groups"], found["clips"], len(found["arms"])) == (1, 8, 1)
    both = alone.model_copy(update={"factors": {"frontend": ["identity", "tfe1"]}})
    compare(both, tmp_path / "both", device="cpu")
    text = (tmp_path / "both" / "compare.md").read_text()
    assert "nan" not in text
    assert json.loads((tmp_path / "both" / "compare.json").read_text())["arms"][1]["p"] is None


def test_clips_without_files_are_each_a_group_in_all_folds(plan, tmp_path, monkeypatch):
    assert list_data()  # the library's own are loaded
    monkeypatch.setattr(DATA, "_entries", dict(DATA._entries))

    @register_data("made")
    class Made(AudioDataset):
        def __init__(self, split, seed=0, sample_rate=16000):
            super().__init__(["a", "b"], [0, 1] * 3, (), sample_rate)

        def waveform(self, i):
            return 0.1 * torch.sin(torch.arange(4000) * (0.1 + 0.4 * self.labels[i] + 0.01 * i))

    recipe = {name: value for name, value in plan.recipe.items() if name not in ("csv", "root")}
    recipe |= {"data": "made", "group": "clip", "epochs": 1}
    out = tmp_path / "out"
    compare(Plan(recipe=recipe, factors={"frontend": ["identity"]}), out, device="cpu", cache="memory")
    found = figures(out)
    assert (found["clips"], found["groups"], found["unit"]) == (18, 18, "clip")
    tested = [name for fold in (1, 2, 3) for name in heard(out, "identity", fold)["groups"]]
    assert sorted(tested) == sorted(f"clip {i}" for i in range(18))


# ---- The command.


def run(*arguments):
    return CliRunner().invoke(program.app, ["compare", *map(str, arguments)])


def test_the_command_plans_before_it_runs(sites, tmp_path):
    out = tmp_path / "out"
    data = ["--data", "folder", "--root", sites, "--csv", sites / "clips.csv", "--folds", 3, "--group", "site"]
    size = ["--set", "frames=24", "--set", "bins=32", "--set", "batch_size=8", "--epochs", 2]
    grid = ["--frontends", "identity,tfe1", "--backbones", "test_resnet", "--factor", "lr=0.001,0.003"]
    shown = run(*data, *size, *grid, "--dry-run", "--out", out)
    assert shown.exit_code == 0, shown.output
    assert "12 runs of 4 arms" in shown.output
    assert re.search(r"tfe1, 0.003: 3 runs of 2 epochs of 2 steps, \d+\.\d\d hours", shown.output)
    assert not out.exists()


def test_a_plans_file_gives_what_the_options_give(compared, plan, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "here", None)
    (tmp_path / "plan.toml").write_text(to_toml(plan))
    shown = run(tmp_path / "plan.toml", "--out", compared, "--device", "cpu")
    assert shown.exit_code == 0, shown.output
    assert "| tfe1 |" in shown.output
    assert str(compared / "compare.html") in shown.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--data is missing"),
        (["--data", "synthetic"], "nothing to compare: expected --frontends"),
        (["--data", "synthetic", "--factor", "lr"], "--factor lr: expected FIELD=VALUE,VALUE"),
        (["--data", "synthetic", "--frontends", "identity,tfe99x"], "tfe99x"),
        (["--data", "synthetic", "--backbones", "test_resnet,no_such_net"], "no_such_net"),
        (["--data", "synthetic", "--teacher", "none,no/such/run"], "no/such/run"),
        (["--data", "synthetic", "--frontends", "tfe1", "--factor", "frontend=tfe2"], "also given by another option"),
        (["--data", "synthetic", "--frontends", "tfe1,tfe2", "--baseline", "tfe4"], "expected one of the arms"),
        (["--data", "synthetic", "--frontends", "tfe1,tfe2", "--ray", "local", "--jobs", "2"], "--jobs"),
        (["--data", "synthetic", "--frontends", "tfe1,tfe2", "--set", "nothing=1"], "nothing"),
        (["plan.toml", "--frontends", "tfe1"], "leave the options"),
        (["plan.toml", "--seeds", "2"], "leave the options"),
        (["plan.toml"], "no such plan"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_written(arguments, message, tmp_path):
    shown = run(*arguments, "--out", tmp_path / "out")
    assert shown.exit_code == 1
    assert message in shown.output
    assert "Traceback" not in shown.output
    assert not (tmp_path / "out").exists()


def test_the_plan_is_there_before_the_first_run(plan, tmp_path):
    seen = []

    def place(work, runs):
        seen.append((load_plan(tmp_path / "out" / "compare.toml"), len(runs)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(plan, tmp_path / "out", place, device="cpu")
    assert seen == [(plan, 6)]


def test_medians_of_latency_are_side_by_side(compared):
    latency = [arm["latency"] for arm in json.loads((compared / "compare.json").read_text())["arms"]]
    assert latency[0]["ratio"] == latency[0]["low"] == latency[0]["high"] == 1
    assert latency[1]["low"] <= latency[1]["ratio"] <= latency[1]["high"]
    assert all(np.isfinite(one["milliseconds"]) for one in latency)
    assert load_stored(compared / "runs" / "tfe1" / "fold1-seed0").model.features.samples > 0


def test_a_runs_interval_is_over_its_groups(compared, news):
    folder = compared / "runs" / "tfe1" / "fold1-seed0"
    (one,) = evaluate_run(folder, device="cpu")
    clips = heard(compared, "tfe1", 1)
    assert list(one.score.right) == clips["right"]["clean"]  # in the order of the clips
    found = by_group([clips["right"]["clean"]], clips["groups"])
    assert (100 * one.interval.low, 100 * one.interval.high) == pytest.approx((found.low, found.high))
    assert one.interval.over == "2 groups (site)"
    shown = CliRunner().invoke(program.app, ["evaluate", str(folder), "--device", "cpu"])
    assert one.interval.text() in shown.output
    page = report_run(folder, compared / "report.html", worst=0).read_text()
    assert one.interval.text() in page


def test_arms_share_what_a_teacher_says_of_the_same_views(plan, tmp_path, monkeypatch):
    (tmp_path / "my_sums.py").write_text(
        "import torch\ndef sums(rest, classes):\n    return lambda spec: spec.flatten(1)[:, : len(classes)]\n"
    )
    monkeypatch.chdir(tmp_path)
    asked = []
    forward = FrozenTeacher.forward
    monkeypatch.setattr(
        FrozenTeacher, "forward", lambda self, x, keys=None: (asked.append(len(x)), forward(self, x))[1]
    )
    fields = {"recipe": plan.recipe | {"teacher": "my_sums:sums", "teacher_views": 1}, "conditions": ["clean"]}
    taught = plan.model_copy(update=fields)
    compare(taught, tmp_path / "kept", device="cpu", teacher_cache=str(tmp_path / "cache"))
    assert (
        sum(asked) == 36
    )  # each of three folds trains on a third of 36 clips: one view, one of two arms, one of two epochs
