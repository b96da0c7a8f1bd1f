"""Sounds through a model: batches, parts, processes and the journal change nothing in what is found."""

import threading
from functools import partial
from multiprocessing import active_children

import numpy as np
import pytest
import soundfile

from specenhance._cores import cores
from specenhance.audio import read_samples
from specenhance.detection.journal import Journal
from specenhance.detection.work import Job, do, parts_of, work_through


class Loudness:
    """A model that gives the length and the level of a window, and says what it was given."""

    sample_rate = 1000

    def __init__(self):
        self.shapes, self.threads = [], set()

    def batch_probabilities(self, batch):
        self.shapes.append(batch.shape)
        self.threads.add(threading.get_ident())
        return np.stack([np.full(len(batch), batch.shape[1]), np.abs(batch).mean(axis=1)], axis=1)


class Kept:
    def __init__(self):
        self.rows = []

    def add(self, start, end, row):
        self.rows.append([start, end, *map(float, row)])

    def result(self):
        return self.rows


def compute(model, batch):
    return model.batch_probabilities(batch)


def job(**settings):
    return Job(**{"open_model": Loudness, "compute": compute, "collector": Kept, "sample_rate": 1000, "window": 100,
                  "hop": 50, "batch_size": 4, **settings})  # fmt: skip


@pytest.fixture
def sounds(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for i, length in enumerate((100, 30, 1000, 5, 100, 130, 30, 260)):
        paths.append(str(tmp_path / f"{i}.wav"))
        soundfile.write(paths[-1], rng.uniform(-0.5, 0.5, length), 1000, subtype="FLOAT")
    return paths


def test_every_window_comes_once_and_in_order_whatever_the_batch_and_the_threads(sounds):
    def expected(path):
        wave = read_samples(path, 1000)
        starts = list(range(0, max(1, len(wave) - 99), 50))
        if starts[-1] + 100 < len(wave):
            starts.append(len(wave) - 100)
        return [[at / 1000, (at + len(part)) / 1000, len(part), float(np.float64(np.abs(part).mean()))]
                for at in starts for part in [wave[at : at + 100]]]  # fmt: skip

    for batch_size in (1, 3, 64):
        for threads in (1, 3):
            model = Loudness()
            found = do(job(batch_size=batch_size), model, sounds, threads)
            for path, one in zip(sounds, found, strict=True):
                np.testing.assert_allclose(one["result"], expected(path), rtol=1e-6)
                assert one["seconds"] == pytest.approx(len(read_samples(path, 1000)) / 1000)
            assert max(shape[0] for shape in model.shapes) <= batch_size
            assert all(shape[0] == 1 for shape in model.shapes if shape[1] <= 8)


def test_windows_of_several_sounds_share_a_batch(sounds):
    model = Loudness()
    do(job(batch_size=64), model, sounds)
    assert sorted(model.shapes) == [(1, 5), (2, 30), (28, 100)]


def test_a_bad_sound_is_told_and_the_others_are_done(sounds, tmp_path):
    bad, empty = tmp_path / "bad.wav", tmp_path / "empty.wav"
    bad.write_text("no sound")
    soundfile.write(empty, np.zeros(0), 1000)
    whole = do(job(), Loudness(), sounds)
    found = do(job(), Loudness(), [sounds[0], str(bad), str(empty), str(tmp_path / "none.wav"), *sounds[1:]])
    assert [one["error"].partition(": ")[2][:17] for one in found[1:4]] == [
        "cannot be decoded",
        "holds no sound; r",
        "no such audio fil",
    ]
    assert [found[0], *found[4:]] == whole


def test_a_sound_that_breaks_off_gives_an_error_and_nothing_of_it(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(1000, np.float32), 1000, subtype="FLOAT")
    wave = np.fromfile(path, "<f4")
    wave[-1] = np.nan
    wave.tofile(path)
    (one,) = do(job(), Loudness(), [str(path)])
    assert list(one) == ["error"]
    assert "not finite" in one["error"]


def test_parts_are_of_many_short_or_of_one_long_sound(tmp_path, monkeypatch):
    from specenhance.detection import work

    monkeypatch.setattr(work, "PART_BYTES", 1000)
    monkeypatch.setattr(work, "BATCHES", 2)
    sizes = (10, 10, 10, 10, 10, 5000, 10, 600, 600)
    paths = [tmp_path / f"{i}.wav" for i in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        path.write_bytes(bytes(size))
    parts = parts_of([str(path) for path in paths], 2)
    assert [len(part.sounds) for part in parts] == [4, 1, 1, 2, 1]
    assert [sound for part in parts for sound in part.sounds] == [str(path) for path in paths]
    paths[5].write_bytes(bytes(5001))
    again = parts_of([str(path) for path in paths], 2)
    assert [a.key == b.key for a, b in zip(parts, again, strict=True)] == [True, True, False, True, True]


@pytest.fixture
def pairs(sounds, monkeypatch):
    """The sounds in parts of two."""
    from specenhance.detection import work

    monkeypatch.setattr(work, "BATCHES", 1)
    return parts_of(sounds, 2)


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_the_journal_has_is_not_done_again_and_processes_change_nothing(pairs, tmp_path, jobs):
    parts = pairs
    told = []
    with Journal(tmp_path / "a.journal", {}) as journal:
        work_through(job(batch_size=2), parts, journal, jobs, lambda files, seconds: told.append(files))
        found = [journal.get(part.key) for part in parts]
    assert sorted(told) == [2, 2, 2, 2]
    assert found == [do(job(batch_size=2), Loudness(), part.sounds) for part in parts]
    with Journal(tmp_path / "a.journal", {}) as journal:
        work_through(job(open_model=None), parts, journal, jobs)  # there is nothing to do


def fails(message):
    raise ValueError(message)


def test_a_model_that_cannot_be_opened_is_told_as_it_is(pairs, tmp_path):
    with Journal(tmp_path / "a.journal", {}) as journal, pytest.raises(ValueError, match=r"model\.onnx: damaged"):
        work_through(job(open_model=partial(fails, "model.onnx: damaged")), pairs, journal, 2)


def dies(model, batch):
    import os

    os._exit(1)


def test_a_process_that_was_killed_is_told_with_a_cure(pairs, tmp_path):
    with (
        Journal(tmp_path / "a.journal", {}) as journal,
        pytest.raises(ChildProcessError, match="goes on where it stopped"),
    ):
        work_through(job(compute=dies), pairs, journal, 2)


def test_a_stop_leaves_no_process_and_no_thread(pairs, tmp_path):
    def stops(files, seconds):
        raise KeyboardInterrupt

    before = threading.enumerate()
    with Journal(tmp_path / "a.journal", {}) as journal, pytest.raises(KeyboardInterrupt):
        work_through(job(batch_size=2), pairs, journal, 2, stops)
    assert threading.enumerate() == before
    assert not active_children()


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_a_line_that_a_kill_has_cut_off_is_done_again(tmp_path, cut):
    path = tmp_path / "a.journal"
    with Journal(path, {"a": 1}) as journal:
        journal.add("x", [1])
        journal.add("y", {"é": "\udc80"})
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with Journal(path, {"a": 1}) as journal:
        assert len(journal) == 1
        assert "y" not in journal
        journal.add("y", {"é": "\udc80"})
        assert journal.get("x") == [1]
        assert journal.get("y") == {"é": "\udc80"}
    assert path.read_bytes() == whole
    for left in (0, 1, 5):
        path.write_bytes(whole[:left])
        with Journal(path, {"a": 1}) as journal:
            assert len(journal) == 0


def test_a_journal_of_other_settings_or_of_another_program_is_refused(tmp_path):
    path = tmp_path / "a.csv.journal"
    Journal(path, {"--hop": 1.0, "model": "0" * 64}).__exit__(None, None, None)
    with pytest.raises(
        ValueError, match=r"other settings has begun this output \(--hop was 1\.0, is 0\.5\); give that command"
    ):
        Journal(path, {"--hop": 0.5, "model": "0" * 64})
    path.write_text("notes\nof mine\n")
    with pytest.raises(ValueError, match="is no journal of specenhance"):
        Journal(path, {})
    assert path.read_text() == "notes\nof mine\n"


def test_two_commands_do_not_write_to_one_journal(tmp_path):
    with Journal(tmp_path / "a.journal", {}), pytest.raises(BlockingIOError, match="another command is writing to it"):
        Journal(tmp_path / "a.journal", {})


def test_cores_are_those_of_this_process():
    assert 1 <= cores() <= 4096
