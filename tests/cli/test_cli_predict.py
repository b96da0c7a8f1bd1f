"""``predict --out`` as a user meets it: tables over folders of recordings, stopped and resumed, with bad files among them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile
from typer.testing import CliRunner

from specenhance.annotations import read_annotations
from specenhance.audio import read_samples
from specenhance.cli import app
from specenhance.deploy.runtime import OnnxModel
from specenhance.detection import work


def run(*args):
    return CliRunner().invoke(app, ["predict", *map(str, args)])


def refusal(*args):
    result = run(*args)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error: ")
    return result.stderr


@pytest.fixture
def field(tones, tmp_path, monkeypatch):
    """Folders of clips, and a recording of ten seconds, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        for label in ("low", "high"):
            shutil.copytree(tones / split / label, tmp_path / "in" / split / label)
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "in" / "long.wav", 0.1 * rng.standard_normal(220_500), 22050)
    return tmp_path


ALL = ("--threshold", 0)


def test_a_table_has_a_row_for_each_detection(field, exported):
    result = run(exported, "in", "--out", "table.csv", *ALL, "--hop", 0.1)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("table.csv: ")
    assert "of 21 files, 0.00 hours; " in result.stdout
    model = OnnxModel(exported)
    table = pandas.read_csv("table.csv")
    rows = table[table["file"] == "in/test/low/0.wav"]
    assert rows["start"].tolist() == [0.0]
    assert rows["end"].tolist() == [0.25]
    label, probability = model.predict(read_samples("in/test/low/0.wav"), 1)[0]
    assert (rows["label"].item(), rows["probability"].item()) == (
        model.classes[label],
        pytest.approx(probability, abs=2e-6),
    )
    rows = table[table["file"] == "in/long.wav"]
    window = model.clip_samples / 16000
    assert rows["start"].tolist() == pytest.approx([*np.arange(98) / 10, 10 - window], abs=1e-4)
    assert rows["end"].tolist() == pytest.approx(rows["start"] + window, abs=1e-6)
    third = read_samples("in/long.wav", 16000)[4800:][: model.clip_samples]
    assert rows["probability"].tolist()[3] == pytest.approx(model.probabilities(third).max(), abs=1e-3)
    assert sorted(os.listdir(field)) == ["in", "table.csv"]


def test_no_batch_process_or_format_changes_a_row(field, exported, untrained):
    run(exported, "in", "--out", "a.csv", *ALL, "--jobs", 1)
    expected = list(read_annotations("a.csv"))
    run("--model", exported, "in/**/*.wav", "--out", "b.csv", *ALL, "--jobs", 2)
    assert sorted(read_annotations("b.csv")) == sorted(expected)
    for name in ("a.jsonl", "a.parquet"):
        assert run(exported, "in", "--out", name, *ALL, "--jobs", 1).exit_code == 0
        assert list(read_annotations(name)) == expected
    for option in (("--batch-size", 5), ("--device", "cpu")):
        model = untrained if option[0] == "--device" else exported
        result = run(model, "in", "--out", "other.csv", *ALL, *option, "--jobs", 1)
        assert result.exit_code == 0, result.output
        for one, other in zip(expected, read_annotations("other.csv"), strict=True):
            assert other[:4] == one[:4]
            assert other.probability == pytest.approx(one.probability, abs=1e-4)


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of a batch, so that a few files are work for several processes."""
    monkeypatch.setattr(work, "BATCHES", 1)


def test_several_processes_with_a_run_folder(field, untrained, small_parts):
    result = run(untrained, "in/test", "--out", "a.csv", *ALL, "--batch-size", 2, "--jobs", 2, "--device", "cpu")
    assert result.exit_code == 0, result.output
    run(untrained, "in/test", "--out", "b.csv", *ALL, "--batch-size", 2, "--jobs", 1, "--device", "cpu")
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()


def test_thresholds_merging_and_all(field, exported):
    run(exported, "in/long.wav", "--out", "all.csv", "--all", "--top", 2)
    every = pandas.read_csv("all.csv")
    windows = len(every) // 2
    assert windows > 30
    assert (every["probability"].to_numpy()[0::2] >= every["probability"].to_numpy()[1::2]).all()
    middle = float(every["probability"].iloc[0::2].median())
    run(exported, "in/long.wav", "--out", "some.csv", "--threshold", round(middle, 4))
    some = pandas.read_csv("some.csv")
    assert 0 < len(some) < windows
    assert (some["probability"] >= round(middle, 4)).all()
    run(exported, "in/long.wav", "--out", "merged.csv", *ALL, "--merge", 0)
    merged = pandas.read_csv("merged.csv")
    assert len(merged) < windows
    assert merged["start"].iloc[0] == 0
    assert merged["end"].iloc[-1] == pytest.approx(10, abs=1e-3)
    likeliest = every["label"].iloc[0]
    Path("least.csv").write_text(
        "label,threshold\n" + "".join(f"{c},{int(c == likeliest)}\n" for c in OnnxModel(exported).classes)
    )
    run(exported, "in/long.wav", "--out", "one.csv", "--threshold", "least.csv")
    assert likeliest not in set(pandas.read_csv("one.csv")["label"])


def test_a_folder_for_raven_and_for_audacity(field, exported):
    run(exported, "in", "--out", "table.csv", *ALL)
    expected = list(read_annotations("table.csv"))
    result = run(exported, "in", "--out", "raven", "--format", "raven", *ALL)
    assert result.exit_code == 0, result.output
    assert (
        Path("raven/test/low/0.selections.txt").read_text().startswith("Selection\tView\tChannel\tBegin Time (s)\tEnd")
    )
    got = list(read_annotations("raven"))
    assert sorted(got) == sorted(one._replace(file=os.path.abspath(one.file), low=0.0, high=8000.0) for one in expected)
    assert run(exported, "in", "--out", "labels", "--format", "audacity", *ALL).exit_code == 0
    got = list(read_annotations("labels", sounds="in"))
    assert sorted(got) == sorted(one._replace(probability=None) for one in expected)
    assert "raven: already there" in refusal(exported, "in", "--out", "raven", "--format", "raven")
    assert sorted(os.listdir(field)) == ["in", "labels", "raven", "table.csv"]


def test_bad_files_are_a_table_and_an_exit_code_after_the_others_are_done(field, exported, small_parts):
    run(exported, "in", "--out", "good.csv", *ALL, "--batch-size", 8)
    Path("in/a.wav").write_text("no sound")
    soundfile.write("in/empty.wav", np.zeros(0), 16000)
    for jobs in (1, 2):
        result = run(exported, "in", "--out", "table.csv", *ALL, "--jobs", jobs, "--batch-size", 8)
        assert result.exit_code == 1
        assert "2 of 23 files could not be used; table.errors.csv says why" in result.stderr
        assert Path("table.csv").read_bytes() == Path("good.csv").read_bytes()
        errors = pandas.read_csv("table.errors.csv")
        assert errors["file"].tolist() == ["in/a.wav", "in/empty.wav"]
        assert "cannot be decoded" in errors["error"][0]
    os.unlink("in/a.wav")
    os.unlink("in/empty.wav")
    assert run(exported, "in", "--out", "table.csv", *ALL).exit_code == 0
    assert not Path("table.errors.csv").exists()


def test_labels_and_names_that_a_format_cannot_hold_are_refused_before_the_work(field, exported):
    shutil.copy("in/test/low/0.wav", "in/=1+2.wav")
    shutil.copy("in/test/low/0.wav", "in/two\nlines.wav")
    assert r"file 'in/two\nlines.wav': holds characters that are not visible" in refusal(
        exported, "in", "--out", "a.csv"
    )
    assert r"in/two\nlines.wav" in refusal(exported, "in", "--out", "a", "--format", "audacity")
    assert not Path("a.csv.journal").exists()
    assert run(exported, "in", "--out", "a.jsonl", *ALL).exit_code == 0
    assert {"in/two\nlines.wav", "in/=1+2.wav"} < {one.file for one in read_annotations("a.jsonl")}
    os.unlink("in/two\nlines.wav")
    assert run(exported, "=1+2.wav", "--out", "a.csv", *ALL).exit_code == 1
    os.chdir("in")
    assert run(exported, "=1+2.wav", "--out", "../a.csv", *ALL).exit_code == 0
    assert '"\'=1+2.wav",' in Path("../a.csv").read_text()
    assert {one.file for one in read_annotations("../a.csv")} == {"=1+2.wav"}


def command(*args, **settings):
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "specenhance", "predict", *map(str, args)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)


@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_and_started_again_it_ends_with_the_same_table(field, exported, jobs):
    rng = np.random.default_rng(0)
    Path("many").mkdir()
    for i in range(150):
        soundfile.write(f"many/{i:03}.flac", 0.1 * rng.standard_normal(4000), 16000)
    for i in range(3):
        soundfile.write(f"many/long{i}.wav", 0.1 * rng.standard_normal(16000 * 40), 16000)
    Path("many/bad.wav").write_text("no sound")
    words = (
        exported,
        "many",
        "--threshold",
        "0.3",
        "--merge",
        "0.5",
        "--hop",
        "0.05",
        "--batch-size",
        "8",
        "--jobs",
        jobs,
        "--out",
    )
    assert run(*words, "whole.csv").exit_code == 1
    kills = 0
    for _ in range(30):
        working = command(*words, "table.csv")
        journal = Path("table.csv.journal")
        size = journal.stat().st_size if journal.exists() else 0
        while working.poll() is None and not (journal.exists() and journal.stat().st_size > size + 1000):
            time.sleep(0.002)
        if working.poll() is not None:
            break
        working.kill()
        working.wait()
        kills += 1
        assert not Path("table.csv").exists()
        if kills == 3:
            working = command(*words, "table.csv")
            break
    assert kills >= 1
    _, error = working.communicate(timeout=120)
    assert working.returncode == 1, error
    assert b"1 of 154 files could not be used" in error
    assert Path("table.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert Path("table.errors.csv").read_bytes() == Path("whole.errors.csv").read_bytes()
    left = {"in", "many", "table.csv", "whole.csv", "table.errors.csv", "whole.errors.csv"}
    assert set(os.listdir(field)) == left


def test_ctrl_c_ends_it_and_other_settings_do_not_go_on_with_it(field, exported):
    rng = np.random.default_rng(0)
    for i in range(12):
        soundfile.write(f"in/long{i}.wav", 0.1 * rng.standard_normal(16000 * 20), 16000)
    words = (exported, "in", "--hop", "0.05", "--batch-size", "2", "--out", "table.csv")
    working = command(*words, "--jobs", "2", start_new_session=True)
    journal = Path("table.csv.journal")
    while working.poll() is None and not (journal.exists() and journal.stat().st_size > 1500):
        time.sleep(0.01)
    os.killpg(working.pid, signal.SIGINT)
    _, error = working.communicate(timeout=60)
    assert working.returncode == 130, error
    assert b"Traceback" not in error
    message = refusal(*words[:-2], "--merge", 0, "--out", "table.csv")
    assert (
        "table.csv.journal: a command with other settings has begun this output (--merge was null, is 0.0)" in message
    )
    assert "remove the journal to begin anew, or choose another --out" in message


def test_what_does_not_go_together_is_refused(field, exported, untrained):
    for option in (("--threshold", 0.5), ("--format", "raven"), ("--hop", 1), ("--window", 1), ("--merge", 0), ("--all",),
                   ("--batch-size", 2), ("--jobs", 2)):  # fmt: skip
        assert f"{option[0]}: is for a table; add --out" in refusal(exported, "in", *option)
    for words, message in (
        (("--out", "a.csv", "--top", 2), "--top 2: with --out it is for --all"),
        (("--out", "a.csv", "--first-window"), "--first-window: --out has a row for each window"),
        (("--out", "a.csv", "--all", "--merge", 0), "--all: writes every window"),
        (
            ("--out", "a.csv", "--window", 9),
            "--window 9.0: expected seconds, more than 0 and at most the 0.255 of the model",
        ),
        (("--out", "a.csv", "--window", 0.1, "--hop", 0.2), "--hop 0.2: expected seconds"),
        (("--out", "a.csv", "--merge", -1), "--merge -1.0: expected seconds, 0 or more"),
        (("--out", "a.csv", "--threshold", 2), "threshold 2: expected a number from 0 to 1"),
        (
            (
                "--out",
                "none/a.csv",
            ),
            "there is no folder none; make it",
        ),
        (("--out", "in"), "in: expected a name that ends in .csv"),
        (("--out", "in", "--format", "raven"), "in: already there; remove it"),
        (("--out", "a.csv", "--format", "raven"), "a.csv: ends in .csv, but its format is to be raven"),
        (("--out", "a", "--format", "xml"), "format = 'xml': expected one of csv"),
        (("--out", "a.csv", "--device", "cuda"), "--device cuda: with --model or an ONNX file"),
    ):
        assert message in refusal(exported, "in", *words), words
    assert "no such audio file" in refusal(untrained, "none.wav", "--out", "a.csv")
    assert sorted(os.listdir(field)) == ["in"]


def test_without_out_a_folder_is_a_line_for_each_file(field, exported):
    lines = run(exported, "in/test").stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        f"in/test/{label}/{i}.wav" for label in ("high", "low") for i in (0, 1)
    ]
    assert run(exported, "in/test/*/0.wav").stdout.splitlines() == lines[0::2]
    assert run("--model", exported, "in/test").stdout.splitlines() == lines


def test_predict_with_a_table_needs_no_pytorch(field, exported):
    code = """
import sys
for name in ("torch", "timm", "torchaudio", "lightning", "scipy", "onnx", "matplotlib", "pandas"):
    sys.modules[name] = None
from specenhance.cli import main
main()
"""
    words = ["predict", str(exported), "in/test", "--out", "a.csv", "--threshold", "0"]
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(read_annotations("a.csv"))) == 4


def test_real_recordings_of_all_kinds_and_damaged_ones(shared, exported, tmp_path):
    result = run(exported, shared / "awkward", "--out", tmp_path / "a.csv", "--threshold", 0)
    assert result.exit_code == 1
    assert "2 of 6 files could not be used" in result.stderr
    heard = {Path(one.file).name for one in read_annotations(tmp_path / "a.csv")}
    assert heard == {"cbr_ffmpeg_to_a_pipe.mp3", "gsm610.wav", "tone.aiff", "vbr_without_xing_header_2s.mp3"}
    run(exported, shared / "awkward", "--out", tmp_path / "b.csv", "--threshold", 0, "--allow-truncated")
    more = {Path(one.file).name for one in read_annotations(tmp_path / "b.csv")} - heard
    assert more == {"mp3_cut_9.5s_declared_3.4s_there.mp3"}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say a process's peak memory")
def test_memory_does_not_grow_with_a_recording(exported, tmp_path):
    code = """
import sys
from functools import partial
from specenhance.deploy.runtime import OnnxModel
from specenhance.detection import predict_sounds

def peak():  # kB
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

for name in sys.argv[2:]:
    predict_sounds(partial(OnnxModel, sys.argv[1], threads=1), [name], "out.csv", format="csv", jobs=1, thresholds=0.0)
    print(peak())
"""
    rng = np.random.default_rng(0)
    for name, minutes in (("a.wav", 1), ("b.wav", 20)):
        with soundfile.SoundFile(tmp_path / name, "w", 16000, 1) as file:
            for _ in range(minutes):
                file.write(0.1 * rng.standard_normal(16000 * 60))
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code, str(exported), "a.wav", "b.wav"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    short, long = map(int, done.stdout.split())
    assert long - short < 12_000  # kB; the recording has 77 MB as float32


def test_a_model_of_several_labels_gives_all_classes_that_reach_their_own_thresholds(field, untrained, tmp_path):
    from specenhance.training.exporting import export_run
    from specenhance.training.store import load_stored, save_model

    stored = load_stored(untrained)
    stored.model.thresholds = [0.0, 1.0, 0.0]
    shutil.copytree(untrained, tmp_path / "tagger", ignore=shutil.ignore_patterns("*.onnx"))
    save_model(stored.model, stored.classes, tmp_path / "tagger")
    model = export_run(tmp_path / "tagger")
    assert run(model, "in/test", "--out", "a.csv").exit_code == 0
    found = list(read_annotations("a.csv"))
    expected = {stored.classes[0], stored.classes[2]}
    assert len(found) == 8
    assert {one.label for one in found if one.file == "in/test/low/0.wav"} == expected
    probabilities = dict(
        zip(stored.classes, OnnxModel(model).probabilities(read_samples("in/test/low/0.wav")), strict=True)
    )
    for one in found:
        if one.file == "in/test/low/0.wav":
            assert one.probability == pytest.approx(probabilities[one.label], abs=1e-4)
    run(tmp_path / "tagger", "in/test", "--out", "b.csv", "--device", "cpu", "--jobs", 1)
    assert [one[:4] for one in read_annotations("b.csv")] == [one[:4] for one in found]
    run(model, "in/test", "--out", "c.csv", "--threshold", 0)
    assert len(list(read_annotations("c.csv"))) == 12
