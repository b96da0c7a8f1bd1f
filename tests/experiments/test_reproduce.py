"""A table run whole on tiny data: its rows, its figures, and a kill in the middle of it."""

import json
import signal
import statistics
import subprocess
import sys

import pytest

from specenhance.experiments import reproduce as module
from specenhance.experiments.reproduce import PUBLISHED, TABLES, Row, reproduce, to_markdown
from specenhance.training import load_recipe

TINY = {
    "backbone": "test_resnet",
    "pretrained": False,
    "epochs": 2,
    "lr": 3e-3,
    "batch_size": 8,
    "frames": 24,
    "bins": 32,
}
SMALL = {data: {"student": TINY, "teacher": TINY | {"epochs": 1}} for data in PUBLISHED}


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(module, "SMALL", SMALL)


SETTINGS = {"scale": "small", "repeats": 2, "device": "cpu"}


DIE = """
import json, logging, os, signal, sys
from pathlib import Path
from specenhance.experiments import reproduce as module
module.SMALL = json.loads(sys.argv[1])
left = int(sys.argv[4])

class Die(logging.Handler):
    def emit(self, record):
        global left
        left -= record.getMessage().startswith("epoch")
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

logging.basicConfig(level=logging.INFO, handlers=[Die()])
module.reproduce("speech_commands", 4, Path(sys.argv[2]), Path(sys.argv[3]), scale="small", repeats=1, device="cpu")
"""


def test_a_table_that_is_killed_again_and_again_ends_as_one_that_is_not(speech, tmp_path, tiny, news):
    once = SETTINGS | {"repeats": 1}
    whole = reproduce("speech_commands", 4, speech, tmp_path / "whole", **once)
    assert [(row["frontend"], row["taught"]) for row in whole["rows"]] == [
        ("identity", False), ("identity", True), ("tfe4", False), ("tfe4", True)
    ]  # fmt: skip
    assert [line for line in news if line.startswith("run ")] == [
        f"run {i} of 5: {name}, seed 0"
        for i, name in enumerate(("teacher", "identity", "identity-kd", "tfe4", "tfe4-kd"), start=1)
    ]
    out = tmp_path / "killed"
    command = [sys.executable, "-c", DIE, json.dumps(SMALL), str(speech), str(out)]
    for epochs in ("2", "3"):  # in the first student's second epoch, then in the next one's
        done = subprocess.run([*command, epochs], capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not (out / "table4.json").exists()
    finished = set(out.glob("*/result.json"))
    assert 2 <= len(finished) < 5
    stamps = {path: path.stat().st_mtime_ns for path in finished}
    again = reproduce("speech_commands", 4, speech, out, **once)
    assert again == whole
    assert {path: path.stat().st_mtime_ns for path in finished} == stamps  # what was done was not done again
    assert (out / "table4.md").read_text() == (tmp_path / "whole" / "table4.md").read_text()


def test_a_table_says_what_its_runs_say_beside_the_paper(speech, tmp_path, tiny, news):
    report = reproduce("speech_commands", 3, speech, tmp_path, **SETTINGS)
    assert json.loads((tmp_path / "table3.json").read_text()) == report
    assert len(report["rows"]) == 9
    for row in report["rows"]:
        name = f"{row['frontend']}{'-kd' if row['taught'] else ''}"
        folders = [tmp_path / f"{name}-{seed}" for seed in (0, 1)] if name else [tmp_path / "teacher"]
        results = [json.loads((folder / "result.json").read_text()) for folder in folders]
        assert row["accuracies"] == [100 * result["test_accuracy"] for result in results]
        assert row["accuracy"] == pytest.approx(statistics.mean(row["accuracies"]))
        assert row["parameters"] == results[0]["parameters"]["total"]
        recipes = [load_recipe(folder / "recipe.toml") for folder in folders]
        assert [recipe.seed for recipe in recipes] == list(range(len(folders)))
        assert {recipe.teacher for recipe in recipes} == {str(tmp_path / "teacher") if row["taught"] else ""}
        assert {recipe.mixup for recipe in recipes} == {0.6}  # the paper's, small as it is
    by_name = {(row["frontend"], row["taught"]): row for row in report["rows"]}
    assert by_name["tfe4", True]["published_accuracy"] == 97.85
    assert by_name["tfe4", True]["published_millions"] == 8.82
    assert by_name["identity", False]["published_accuracy"] == 97.10
    assert by_name["tfe1", False]["published_accuracy"] is None
    assert by_name["", False]["published_accuracy"] == 97.46
    assert by_name["tfe4", True]["parameters"] - by_name["identity", True]["parameters"] == 88422
    text = (tmp_path / "table3.md").read_text()
    row = by_name["tfe2", True]
    assert (
        f"| tfe2 (test_resnet) | yes | {row['parameters']:,} | {row['accuracy']:.2f} ± {row['standard_deviation']:.2f} "
        "| 8.77M | 97.79 |"
    ) in text
    assert "compare the rows with each other, not with the paper's figures" in text
    # Another table takes up the same runs.
    news.clear()
    reproduce("speech_commands", 2, speech, tmp_path, **SETTINGS)
    assert not any(line.startswith(("run", "epoch")) for line in news)


def test_runs_of_other_settings_are_not_taken_for_these(speech, tmp_path, tiny, monkeypatch):
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / ".recipe.99999999.tmp.toml").write_text("half a rec")  # killed as it began
    short = TINY | {"epochs": 1}
    monkeypatch.setattr(module, "SMALL", {data: {"student": short, "teacher": short} for data in PUBLISHED})
    monkeypatch.setattr(module, "TABLES", {2: [Row("tfe1", True)]})
    assert reproduce("speech_commands", 2, speech, tmp_path, **SETTINGS | {"repeats": 1})["rows"][0]["taught"]
    with pytest.raises(
        ValueError, match=r"teacher: was made with backbone = 'test_resnet', not 'test_vit'; choose another"
    ):
        reproduce("speech_commands", 2, speech, tmp_path, **SETTINGS, teacher_backbone="test_vit")
    with pytest.raises(ValueError, match=r"tfe1-kd-0: was made with backbone = 'test_resnet', not 'test_efficientnet'"):
        reproduce("speech_commands", 2, speech, tmp_path, **SETTINGS, backbone="test_efficientnet")


def test_every_fold_of_esc50_is_run(tmp_path, five_folds, tiny, monkeypatch):
    short = TINY | {"epochs": 1}
    monkeypatch.setattr(module, "SMALL", {data: {"student": short, "teacher": short} for data in PUBLISHED})
    monkeypatch.setattr(module, "TABLES", {4: [Row("tfe1", True)]})
    report = reproduce("esc50", 4, five_folds, tmp_path / "out", **SETTINGS | {"repeats": 1})
    for name in ("teacher", "tfe1-kd-0"):
        assert len(list((tmp_path / "out" / name).glob("fold*/result.json"))) == 5
    (row,) = report["rows"]
    assert row["standard_deviation"] is None
    assert " ± " not in to_markdown(report)
    assert "one run of each model" in to_markdown(report)


def test_a_table_shows_names_and_nothing_else():
    row = {"frontend": "tfe1", "taught": True, "backbone": "local-dir:../a|b_*c*", "parameters": 1, "accuracy": 1.0}
    row |= {"standard_deviation": None, "published_accuracy": None, "published_millions": None}
    report = {"data": "esc50", "table": 2, "scale": "paper", "repeats": 1, "folder": "<b>|\x1b[31m\n# e", "rows": [row]}
    text = to_markdown(report)
    tokens = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table").parse(text)
    kinds = [token.type for token in tokens]
    assert (kinds.count("heading_open"), kinds.count("th_open"), kinds.count("td_open")) == (1, 6, 6)
    inline = [token for token in tokens if token.type == "inline"]
    shown = ["".join(child.content for child in token.children) for token in inline]
    assert shown[0].endswith(r"on <b>|\x1b[31m\n# e")
    assert "tfe1 (local-dir:../a|b_*c*)" in shown
    assert {child.type for token in inline for child in token.children} <= {"text", "text_special", "softbreak"}


def test_the_tables_and_figures_fit_together():
    names = {row.name for rows in TABLES.values() for row in rows}
    assert set(PUBLISHED["esc50"]) == set(PUBLISHED["speech_commands"]) <= names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "speech"}, "data = 'speech': expected one of esc50, speech_commands"),
        ({"table": 1}, "table = 1: expected one of 2, 3, 4"),
        ({"scale": "large"}, "scale = 'large': expected one of paper, small"),
        ({"repeats": 0}, "repeats = 0: expected 1 or more"),
    ],
)
def test_what_there_is_not_is_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        reproduce(**{"data": "esc50", "table": 2, "root": tmp_path, "out": tmp_path} | changes)


def test_a_folder_that_is_no_run_is_left_alone(speech, tmp_path, tiny):
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="teacher: already there"):
        reproduce("speech_commands", 2, speech, tmp_path, **SETTINGS)
    assert (tmp_path / "teacher" / "thesis.txt").read_text() == "mine"


def test_a_recipe_that_a_kill_left_half_written_does_not_stop_the_next_call(speech, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(module, "TABLES", {4: [Row("tfe1")]})
    (tmp_path / "tfe1-0").mkdir()
    (tmp_path / "tfe1-0" / ".recipe.99999999.tmp.toml").write_text("data = ")
    reproduce("speech_commands", 4, speech, tmp_path, **SETTINGS | {"repeats": 1})
    assert (tmp_path / "tfe1-0" / "result.json").is_file()
    assert not (tmp_path / "tfe1-0" / ".recipe.99999999.tmp.toml").exists()
