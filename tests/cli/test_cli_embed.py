"""``embed`` and ``search`` as a user meets them: files of embeddings, and what is like a clip."""

import json
import shutil

import numpy as np
import pandas
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from specenhance.audio import read_samples
from specenhance.cli import app
from specenhance.detection.embeddings import read_embeddings
from specenhance.inference import embed
from specenhance.training import load_model


def run(*args):
    return CliRunner().invoke(app, list(map(str, args)))


def refusal(*args):
    result = run(*args)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error: ")
    return result.stderr


@pytest.fixture
def field(tones, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tones / "test", tmp_path / "in")
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "in" / "long.wav", 0.1 * rng.standard_normal(16000), 16000, subtype="FLOAT")
    return tmp_path


CPU = ("--device", "cpu", "--jobs", 1)


def test_each_file_holds_what_the_model_gives_in_python(field, untrained):
    model = load_model(untrained)
    window = model.features.samples
    wave = read_samples("in/long.wav")
    expected = embed(model, [wave[at : at + window] for at in (0, 1600, 3200)])
    torch.testing.assert_close(model.embed("in/low/0.wav"), embed(model, read_samples("in/low/0.wav")))
    read = {}
    for suffix in ("parquet", "npz", "npy"):
        result = run("embed", untrained, "in", "--out", f"e.{suffix}", "--hop", 0.1, *CPU)
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith(f"e.{suffix}: ")
        read[suffix] = found = read_embeddings(f"e.{suffix}")
        assert list(dict.fromkeys(row.file for row in found.rows))[:2] == ["in/long.wav", "in/high/0.wav"]
        first = 0
        assert found.rows[first + 1] == ("in/long.wav", 0.1, pytest.approx(0.1 + window / 16000))
        torch.testing.assert_close(torch.tensor(found.vectors[first : first + 3]), expected, rtol=1e-4, atol=1e-5)
        assert found.about["run"] == str(untrained)
    for found in read.values():
        assert found.rows == read["npy"].rows
        np.testing.assert_array_equal(found.vectors, read["npy"].vectors)
    table = pandas.read_parquet("e.parquet")
    assert list(table.columns) == ["file", "start", "end", "embedding"]
    np.testing.assert_array_equal(np.stack(table["embedding"]), np.load("e.npy"))
    np.testing.assert_array_equal(np.load("e.npz")["file"], table["file"])
    before = (field / "e.npz").read_bytes()
    run("embed", untrained, "in", "--out", "e.npz", "--hop", 0.1, *CPU)
    assert (field / "e.npz").read_bytes() == before


def test_a_row_for_each_file_is_the_mean_of_its_windows(field, untrained):
    run("embed", untrained, "in", "--out", "windows.npz", *CPU)
    run("embed", untrained, "in", "--out", "files.npz", "--per", "file", *CPU)
    windows, files = read_embeddings("windows.npz"), read_embeddings("files.npz")
    assert [row.file for row in files.rows] == sorted(
        {row.file for row in windows.rows}, key=[r.file for r in windows.rows].index
    )
    its = np.array([row.file == "in/long.wav" for row in windows.rows])
    (place,) = [i for i, row in enumerate(files.rows) if row.file == "in/long.wav"]
    np.testing.assert_allclose(files.vectors[place], windows.vectors[its].mean(axis=0), rtol=1e-5, atol=1e-6)
    assert files.rows[place] == ("in/long.wav", 0.0, 1.0)


def test_the_nearest_to_a_clip_is_the_clip_itself(field, untrained):
    run("embed", untrained, "in", "--out", "e.npz", *CPU)
    lines = run("search", "e.npz", "in/low/1.wav", "--top", 3, "--device", "cpu").stdout.splitlines()
    assert len(lines) == 3
    assert lines[0] == "in/low/1.wav: 0.00 to 0.25 s, similarity 1.000"
    result = run("search", "e.npz", "in/low/1.wav", "--out", "near.csv", "--device", "cpu")
    assert result.stdout == "near.csv\n"
    table = pandas.read_csv("near.csv")
    assert table["file"][0] == "in/low/1.wav"
    assert table["similarity"].is_monotonic_decreasing
    found = read_embeddings("e.npz")
    query = found.vectors[[row.file for row in found.rows].index("in/low/1.wav")]
    cosines = found.vectors @ query / np.linalg.norm(found.vectors, axis=1) / np.linalg.norm(query)
    np.testing.assert_allclose(table["similarity"], np.sort(cosines)[::-1][:10], atol=1e-5)
    run("search", "e.npz", "in/low/1.wav", "--out", "near.jsonl", "--device", "cpu")
    assert [json.loads(line)["file"] for line in (field / "near.jsonl").read_text().splitlines()] == table[
        "file"
    ].tolist()


def test_a_bad_file_is_told_and_a_wrong_use_refused(field, untrained, exported):
    (field / "in" / "bad.wav").write_text("no sound")
    result = run("embed", untrained, "in", "--out", "e.npy", *CPU)
    assert result.exit_code == 1
    assert "1 of 8 files could not be used; e.errors.csv says why" in result.stderr
    assert len(read_embeddings("e.npy").rows) == len(np.load("e.npy")) > 7
    (field / "other").mkdir()
    shutil.copytree(untrained, field / "moved")
    (field / "moved" / "model.safetensors").write_bytes(b"other")
    for words, message in (
        (("embed", untrained, "in", "--out", "e.csv"), "e.csv: expected a name that ends in .parquet, .npz, .npy"),
        (("embed", untrained, "in", "--out", "e.npz", "--per", "day"), "--per = 'day': expected one of window, file"),
        (
            ("embed", exported, "in", "--out", "e.npz"),
            "an exported model gives probabilities only; give the run folder",
        ),
        (("embed", "other", "in", "--out", "e.npz"), "other: no training run"),
        (("search", "none.npz", "in/low/1.wav"), "none.npz: no such file of embeddings; specenhance embed RUN"),
        (("search", "e.npy", "none.wav"), "none.wav: no such audio file"),
        (("search", "e.npy", "in/bad.wav", "--device", "cpu"), "in/bad.wav: cannot be decoded"),
        (("search", "e.npy", "in/low/1.wav", "--run", "moved"), "was made by another model than that of moved"),
        (
            ("search", "e.npy", "in/low/1.wav", "--out", "near.txt"),
            "near.txt: expected a name that ends in .csv or .jsonl",
        ),
    ):
        assert message in refusal(*words), words
    (field / "e.rows.json").unlink()
    assert "e.rows.json is missing" in refusal("search", "e.npy", "in/low/1.wav")
    np.savez("mine.npz", a=1)
    assert "mine.npz: is no file of embeddings" in refusal("search", "mine.npz", "in/low/1.wav")
