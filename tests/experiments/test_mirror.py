"""Runs at a URL: whole files, in an order from which a run can go on, by one process at a time."""

import json
import logging
import shutil
import time
from pathlib import Path

import fsspec
import pytest
import safetensors.torch
import torch
from fsspec.implementations.local import LocalFileSystem

from specenhance.experiments import mirror
from specenhance.experiments.mirror import mirrored, pull, push
from specenhance.training import artefacts
from specenhance.training import run as running
from specenhance.training.folder import locked
from specenhance.training.run import resume, train


def make(folder: Path, epochs: int = 2, **others: str) -> Path:
    """A folder with the names of a run's files."""
    files = {
        "recipe.toml": "seed = 1",
        "checkpoints/best.safetensors": f"best of {epochs}",
        "checkpoints/last.ckpt": f"last of {epochs}",
        "metrics.csv": "epoch\n" + "".join(f"{epoch}\n" for epoch in range(epochs)),
    }
    for name, text in (files | others).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def texts(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(params=["file", "memory"])
def url(request, tmp_path) -> str:
    return f"memory://{tmp_path}/run" if request.param == "memory" else f"file://{tmp_path}/at/run"


def test_a_run_comes_back_as_it_went(url, tmp_path):
    run = make(tmp_path / "run", **{"tensorboard/events.1": "picture", "result.json": "{}"})
    sent = texts(run)
    make(run, **{".lock": "", "checkpoints/previous.ckpt": "old", ".recipe.77.tmp.toml": "half", **sent})
    push(run, url)
    pull(url, tmp_path / "back")
    assert texts(tmp_path / "back") == sent


def test_a_url_without_a_run_changes_nothing(url, tmp_path):
    pull(url, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_run_that_is_not_as_far_is_replaced(url, tmp_path):
    push(make(tmp_path / "run", epochs=3), url)
    back = make(tmp_path / "back", epochs=2)
    pull(url, back)
    assert texts(back) == texts(tmp_path / "run")


@pytest.mark.parametrize("further", [{"epochs": 3}, {"result.json": "{}"}, {"heard.json": "{}"}], ids=str)
def test_a_run_that_is_further_is_not_replaced(further, url, tmp_path):
    push(make(tmp_path / "run", epochs=2), url)
    back = make(tmp_path / "back", **further)
    before = texts(back)
    with pytest.raises(ValueError, match="its run is further than the one at"):
        pull(url, back)
    assert texts(back) == before


def test_a_run_in_training_is_not_replaced(url, tmp_path):
    push(make(tmp_path / "run"), url)
    with locked(tmp_path / "back"), pytest.raises(ValueError, match="another process is training in it"):
        pull(url, tmp_path / "back")


def test_only_what_has_changed_is_copied_again(tmp_path, monkeypatch):
    run = make(tmp_path / "run")
    target = mirror._Target(f"file://{tmp_path}/at")
    target.push(run)
    copied = []
    put = target._put
    monkeypatch.setattr(target, "_put", lambda name, source: (copied.append(name), put(name, source)))
    (run / "metrics.csv.new").write_text("epoch\n0\n1\n2\n")
    (run / "metrics.csv.new").replace(run / "metrics.csv")
    target.push(run)
    assert copied == ["metrics.csv"]


def test_names_outside_of_the_folder_are_refused(tmp_path):
    push(make(tmp_path / "run"), "memory://outside/run")
    store = fsspec.filesystem("memory").store
    store["/outside/run/../../evil"] = store["/outside/run/recipe.toml"]
    try:
        with pytest.raises(ValueError, match="outside of its folder"):
            pull("memory://outside/run", tmp_path / "back")
    finally:
        del store["/outside/run/../../evil"]


def test_no_half_of_a_file_has_its_name(tmp_path, monkeypatch):
    """The copy of every file is cut in its middle."""
    run, at = make(tmp_path / "run"), tmp_path / "at"
    push(run, f"file://{at}")
    whole = texts(at)
    make(run, epochs=3)

    def cut(source, target, length):
        target.write(source.read(3))
        raise OSError("the line is dead")

    monkeypatch.setattr(shutil, "copyfileobj", cut)
    with pytest.raises(OSError, match="the line is dead"):
        push(run, f"file://{at}")
    assert {name: text for name, text in texts(at).items() if not name.endswith(".tmp")} == whole
    with pytest.raises(OSError, match="the line is dead"):
        pull(f"file://{at}", tmp_path / "back")
    assert texts(tmp_path / "back") == {}


@pytest.mark.parametrize("opened", range(1, 5))
def test_files_that_change_meanwhile_fit_together(opened, tmp_path, monkeypatch):
    """An epoch ends after some files are opened. The checkpoint is not newer than the best weights and the figures."""
    run, back = make(tmp_path / "run", epochs=2), tmp_path / "back"
    make(tmp_path / "next", epochs=3)
    opens, left = Path.open, [opened]

    def open_slowly(path, *args, **options):
        file = opens(path, *args, **options)
        if path.is_relative_to(run):
            left[0] -= 1
            if left[0] == 0:
                for name in texts(tmp_path / "next"):
                    (tmp_path / "next" / name).replace(run / name)
        return file

    monkeypatch.setattr(Path, "open", open_slowly)
    push(run, f"file://{tmp_path}/at")
    assert left[0] <= 0
    pull(f"file://{tmp_path}/at", back)
    best, last, rows = (
        texts(back)[f"{name}"] for name in ("checkpoints/best.safetensors", "checkpoints/last.ckpt", "metrics.csv")
    )
    assert last in ("last of 2", "last of 3")
    assert best[-1] >= last[-1] <= str(rows.count("\n") - 1)


class CutError(Exception):
    pass


def test_a_push_that_is_cut_leaves_a_run_that_goes_on(quick, tmp_path, monkeypatch):
    for module in (artefacts, running):
        monkeypatch.setattr(module, "draw_pictures", lambda *_: None)

    class Pusher(logging.Handler):
        def emit(self, record):
            if "epoch   2/" in record.getMessage():
                push(run, f"file://{tmp_path}/early")

    run, handler, logger = tmp_path / "run", Pusher(), logging.getLogger("specenhance")
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.addHandler(handler)
    try:
        train(quick, run, device="cpu")
    finally:
        logger.removeHandler(handler)
    move = LocalFileSystem.mv
    for last in ("best.safetensors", "metrics.csv", "last.ckpt", "result.json"):
        at = tmp_path / f"at-{last}"
        shutil.copytree(tmp_path / "early", at)

        def cut(self, source, target, last=last, **options):
            move(self, source, target, **options)
            if target.endswith(last):
                raise CutError

        monkeypatch.setattr(LocalFileSystem, "mv", cut)
        with pytest.raises(CutError):
            push(run, f"file://{at}")
        back = tmp_path / f"back-{last}"
        pull(f"file://{at}", back)
        resume(back, device="cpu")
        ours, theirs = (safetensors.torch.load_file(folder / "model.safetensors") for folder in (back, run))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        assert (back / "metrics.csv").read_text() == (run / "metrics.csv").read_text()
        results = [json.loads((folder / "result.json").read_text()) for folder in (back, run)]
        assert results[0]["test_accuracy"] == results[1]["test_accuracy"]


# ---- A folder that is kept at a URL.


def until(true, seconds=20.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_changes_are_copied_while_the_block_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "EVERY", 0.02)
    at = tmp_path / "at"
    push(make(tmp_path / "run"), f"file://{at}")
    with mirrored(f"file://{at}") as folder:
        assert texts(folder) == texts(tmp_path / "run")
        (folder / "metrics.csv").write_text("epoch\n0\n1\n2\n")
        until(lambda: (at / "metrics.csv").read_text().endswith("2\n"))
    assert not folder.exists()


def test_the_last_changes_are_copied_after_an_error_too(url, tmp_path):
    def fail():
        with mirrored(url) as folder:
            make(folder)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with mirrored(url) as folder:
        assert texts(folder) == texts(make(tmp_path / "run"))
        (folder / "result.json").write_text("{}")
    pull(url, tmp_path / "back")
    assert (tmp_path / "back" / "result.json").exists()


def test_the_error_of_the_block_is_told_before_that_of_the_copy(tmp_path, monkeypatch, news):
    def cut(*_):
        raise OSError("the line is dead")

    def fail():
        with mirrored(f"file://{tmp_path}/at/run") as folder:
            make(folder)
            monkeypatch.setattr(mirror._Target, "_put", cut)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert any("run: its copy to file://" in line and "the line is dead" in line for line in news)


def test_a_copy_that_fails_is_tried_again(tmp_path, monkeypatch, news):
    monkeypatch.setattr(mirror, "EVERY", 0.02)
    put, faults = mirror._Target._put, iter([OSError("busy")])

    def fail_once(self, name, source):
        if name == "recipe.toml":
            for fault in faults:
                raise fault
        put(self, name, source)

    monkeypatch.setattr(mirror._Target, "_put", fail_once)
    with mirrored(f"file://{tmp_path}/at") as folder:
        make(folder)
        until(lambda: (tmp_path / "at" / "checkpoints" / "last.ckpt").exists())
    assert sum("busy" in line for line in news) == 1


def test_who_was_taken_for_lost_copies_nothing_any_more(url, tmp_path):
    def two():
        with mirrored(url) as cut_off:
            make(cut_off, epochs=1)
            with mirrored(url) as folder:
                make(folder, epochs=2)
                make(cut_off, epochs=3)

    with pytest.raises(RuntimeError, match="another process has taken up this run"):
        two()
    pull(url, tmp_path / "back")
    assert texts(tmp_path / "back") == texts(make(tmp_path / "run", epochs=2))


def test_unfinished_files_of_a_lost_process_are_removed(tmp_path):
    (tmp_path / "at").mkdir()
    (tmp_path / "at" / ".last.ckpt.77.tmp").write_text("half")
    with mirrored(f"file://{tmp_path}/at") as folder:
        make(folder)
    assert not (tmp_path / "at" / ".last.ckpt.77.tmp").exists()
