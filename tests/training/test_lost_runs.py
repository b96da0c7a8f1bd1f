"""What used to lose a run, or to make one that was not what it seemed."""

import csv
import json
import math
import multiprocessing
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_run import QUIET, assert_same_end, weights

from specenhance.data import AudioDataset, AudioError
from specenhance.training import load_recipe
from specenhance.training.batches import loader
from specenhance.training.build import build_split
from specenhance.training.checkpoints import DivergedError
from specenhance.training.manifest import load_manifest
from specenhance.training.run import resume, train


@pytest.fixture
def own(tones, tmp_path) -> Path:
    """A copy of the tones that may be changed."""
    shutil.copytree(tones, tmp_path / "tones")
    return tmp_path / "tones"


def rows(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


# ---- Two runs in one folder.


def start(number, recipe, out, barrier, results):
    barrier.wait()
    try:
        train(recipe.replace(seed=number), out, **QUIET)
        results.put(number)
    except (ValueError, FileExistsError) as error:
        results.put(str(error))


def test_of_three_that_start_at_once_in_one_folder_one_trains(quick, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    out = tmp_path / "run"
    processes = [
        context.Process(target=start, args=(i, quick.replace(epochs=1), out, barrier, results)) for i in range(3)
    ]
    for process in processes:
        process.start()
    ends = [results.get(timeout=240) for _ in processes]
    for process in processes:
        process.join()
    (winner,) = [end for end in ends if isinstance(end, int)]
    assert load_recipe(out / "recipe.toml").seed == winner
    assert json.loads((out / "result.json").read_text())["recipe"]["seed"] == winner
    for refused in (end for end in ends if isinstance(end, str)):
        assert "another process is training in it" in refused or "already there" in refused


def test_the_command_gives_each_run_a_folder_of_its_own(quick, tmp_path):
    code = (
        "import time\nfrom specenhance.cli import train\n"
        "from specenhance.training import recipe_for\n"
        "time.strftime = lambda form: '20260101-000000'\n"
        "print([str(train._new_folder(recipe_for('synthetic', backbone='local-dir:/a/b c/'))) for _ in range(3)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    name = "runs/synthetic-b c-tfe4-20260101-000000"
    assert done.stdout.strip() == str([name, f"{name}-2", f"{name}-3"]), done.stderr


def test_a_folder_in_which_a_start_was_killed_is_as_good_as_empty(quick, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / ".recipe.99999999.tmp.toml").write_text("half a rec")
    (out / ".lock").touch()
    train(quick.replace(epochs=1), out, **QUIET)
    assert (out / "result.json").is_file()
    assert not list(out.glob(".*"))


# ---- Steps and rates.


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 10])
def test_any_number_of_steps_has_a_rate(quick, tmp_path, steps):
    train(quick.replace(epochs=steps, batch_size=24), tmp_path / "run", **QUIET)
    assert len(rows(tmp_path / "run")) == steps
    assert all(0 < row["lr"] <= quick.lr for row in rows(tmp_path / "run"))


def test_a_finished_run_is_extended_by_another_cycle_of_the_rate(quick, tmp_path):
    run = tmp_path / "run"
    train(quick, run, **QUIET)
    before, first = weights(run), rows(run)
    shutil.copytree(run, tmp_path / "again")
    result = resume(run, epochs=8, **QUIET)
    assert result["recipe"]["epochs"] == 8
    stored = load_recipe(run / "recipe.toml")
    assert (stored.epochs, stored.cycle_from) == (8, 3)
    after = rows(run)
    assert after[:3] == first
    assert [row["epoch"] for row in after] == list(range(8))
    rates = [row["lr"] for row in after[3:]]
    assert max(rates) > 0.9 * quick.lr > 5 * first[-1]["lr"]  # up again
    assert rates[-1] < max(rates) / 5  # and down
    assert result["validation_accuracy"] == max(row["val_accuracy"] for row in after)
    assert any(not (before[name] == tensor).all() for name, tensor in weights(run).items()) or result[
        "validation_accuracy"
    ] == max(row["val_accuracy"] for row in first)
    # Killed after it was asked for, it is still what was asked for.
    other = tmp_path / "again"
    (other / "recipe.toml").write_text((run / "recipe.toml").read_text())
    resume(other, **QUIET)
    assert_same_end(run, other)


def test_a_schedule_of_steps_goes_on_where_a_run_is_extended(quick, tmp_path):
    recipe = quick.replace(schedule="step", decay=0.5, decay_from=1, decay_every=1)
    train(recipe.replace(epochs=5), tmp_path / "whole", **QUIET)
    train(recipe.replace(epochs=2), tmp_path / "run", **QUIET)
    resume(tmp_path / "run", epochs=5, **QUIET)
    assert [row["lr"] for row in rows(tmp_path / "run")] == pytest.approx(
        [row["lr"] for row in rows(tmp_path / "whole")]
    )


def test_only_a_finished_run_is_extended_and_only_by_more(quick, tmp_path):
    train(quick.replace(epochs=2), tmp_path / "run", **QUIET)
    with pytest.raises(ValueError, match=r"epochs = 1: .* has 2 already; expected more"):
        resume(tmp_path / "run", epochs=1, **QUIET)
    assert resume(tmp_path / "run", epochs=2, **QUIET)["recipe"]["epochs"] == 2
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(ValueError, match="is not finished, and only a finished run can be extended"):
        resume(tmp_path / "run", epochs=5, **QUIET)


def test_ties_of_the_best_epoch_go_to_the_lower_loss():
    from types import SimpleNamespace

    from specenhance._stopping import StopSignals
    from specenhance.training.checkpoints import Keeper

    stop = StopSignals()
    stop.gentle = True
    keeper = Keeper(Path("nowhere"), stop, "")
    kept = []
    for accuracy, loss in ((0.5, 1.0), (0.5, 0.9), (0.5, 0.95), (0.4, 0.1), (0.6, 5.0), (0.6, 5.0)):
        trainer = SimpleNamespace(callback_metrics={"val_accuracy": accuracy, "val_loss": loss}, is_global_zero=False)
        keeper.on_validation_end(trainer, None)
        kept.append(keeper.best)
    assert kept == [(0.5, 1.0), (0.5, 0.9), (0.5, 0.9), (0.5, 0.9), (0.6, 5.0), (0.6, 5.0)]


# ---- Numbers that are none.


def test_training_stops_at_the_first_loss_that_is_not_finite(quick, tmp_path):
    recipe = quick.replace(lr=100.0, schedule="constant", optimizer="adam", epochs=60)
    with pytest.raises(
        DivergedError, match=r"the loss is no finite number in epoch \d+, at .*lr = 100: .*--lr 10"
    ) as stopped:
        train(recipe.replace(backbone="test_vit", frames=48), tmp_path / "run", **QUIET)
    assert "the largest value of the last batch was" in str(stopped.value)
    assert not (tmp_path / "run" / "result.json").exists()


def test_the_step_is_named_and_the_checkpoint_before_it_kept(quick, tmp_path, monkeypatch):
    from specenhance.training.module import Classifier

    take_step = Classifier.training_step

    def no_number(self, batch, i):
        return take_step(self, batch, i) * (math.nan if self.global_step == 4 else 1.0)

    def note(self, batch, i):
        loss = no_number(self, batch, i)
        self.last_loss = loss.detach()
        return loss

    monkeypatch.setattr(Classifier, "training_step", note)
    with pytest.raises(DivergedError, match="in epoch 2, at step 2 of 3; the checkpoint before it is kept"):
        train(quick, tmp_path / "run", **QUIET)
    monkeypatch.undo()
    train(quick, tmp_path / "whole", **QUIET)
    resume(tmp_path / "run", **QUIET)  # the kept checkpoint is the one of before
    assert_same_end(tmp_path / "whole", tmp_path / "run")


# ---- Clips.


def test_what_a_run_was_trained_on_is_written_down(quick, tones, tmp_path):
    train(quick.replace(epochs=1), tmp_path / "run", **QUIET)
    manifest = load_manifest(tmp_path / "run")
    assert manifest.classes == ["high", "low", "middle"]
    assert len(manifest.clips) == 36
    first = manifest.clips[0]
    assert (first.split, first.path, first.label) == ("train", "train/high/0.wav", "high")
    assert first.size == (tones / first.path).stat().st_size
    assert first.seconds == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "train" / "low" / "0.wav").unlink(), r"train/low/0\.wav: gone"),
        (lambda root: shutil.copy(root / "train/low/0.wav", root / "train/low/new.wav"), r"train/low/new\.wav: new"),
        (
            lambda root: soundfile.write(root / "train/low/0.wav", np.zeros(5000), 16000),
            r"train/low/0\.wav: had 8,044 bytes, now 10,044",
        ),
        (
            lambda root: [(root / s / "low").rename(root / s / "zz") for s in ("train", "validation", "test")],
            "only the data has 'zz'; only the run",
        ),
    ],
    ids=["gone", "new", "changed", "renamed class"],
)
def test_a_run_does_not_go_on_with_other_clips(quick, own, tmp_path, change, message):
    recipe = quick.replace(root=own, epochs=1)
    train(recipe, tmp_path / "run", **QUIET)
    (tmp_path / "run" / "result.json").unlink()
    change(own)
    with pytest.raises(ValueError, match=message):
        resume(tmp_path / "run", **QUIET)


def test_moved_data_is_taken_from_its_new_place(quick, own, tmp_path):
    recipe = quick.replace(root=own)
    train(recipe, tmp_path / "whole", **QUIET)
    train(recipe.replace(epochs=2), tmp_path / "run", **QUIET)
    own.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        resume(tmp_path / "run", epochs=3, **QUIET)
    resume(tmp_path / "run", root=tmp_path / "elsewhere", **QUIET)
    assert load_recipe(tmp_path / "run" / "recipe.toml").root == str(tmp_path / "elsewhere")


def test_bad_files_are_named_all_at_once_before_anything_is_made(quick, own, tmp_path):
    (own / "train" / "low" / "text.wav").write_text("no sound")
    whole = (own / "test" / "high" / "0.wav").read_bytes()
    (own / "test" / "high" / "0.wav").write_bytes(whole[:3000])
    soundfile.write(own / "train" / "low" / "huge.wav", np.array([0, 1e30]), 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match="3 files cannot be used") as refused:
        train(quick.replace(root=own), tmp_path / "run", **QUIET)
    for name in ("text.wav", "0.wav: ends after", "huge.wav: holds a sample of 1e+30", "--skip-bad"):
        assert name in str(refused.value)
    assert not (tmp_path / "run").exists()


def write_damaged(path):
    """Write a FLAC of 0.5 s that is damaged in its middle: its header and its end are whole."""
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, 8000), 16000)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    path.write_bytes(content)


def test_a_run_does_without_bad_files_where_that_is_asked_for(quick, own, tmp_path, news):
    (own / "train" / "low" / "text.wav").write_text("no sound")
    hurt = own / "train" / "high" / "hurt.flac"
    write_damaged(hurt)
    recipe = quick.replace(root=own, skip_bad=True)
    train(recipe, tmp_path / "run", device="cpu")
    assert any(line.startswith("2 files cannot be used and are left out") for line in news)
    assert any("24 clips train" in line for line in news)
    skipped = (tmp_path / "run" / "skipped.txt").read_text().splitlines()
    assert [Path(line.partition(":")[0]).name for line in skipped] == ["hurt.flac", "text.wav"]
    train(quick, tmp_path / "whole", **QUIET)  # the same clips without the bad ones
    for name, tensor in weights(tmp_path / "whole").items():
        assert (tensor == weights(tmp_path / "run")[name]).all()


def test_a_file_that_breaks_in_the_middle_of_a_run_is_named_in_one_line(quick, own, tmp_path):
    hurt = own / "train" / "high" / "hurt.flac"
    write_damaged(hurt)
    for workers in (0, 2):
        with pytest.raises(AudioError, match=r"hurt\.flac: cannot be decoded after") as refused:
            train(quick.replace(root=own, mean=-1.0, std=3.0), tmp_path / f"run{workers}", workers=workers, **QUIET)
        assert "\n" not in str(refused.value)


def test_one_sound_that_trains_and_tests_is_refused(quick, own, tmp_path):
    os.symlink(own / "train" / "low" / "0.wav", own / "test" / "low" / "link.wav")
    with pytest.raises(
        ValueError, match=r"1 sounds train and also validate or test.*\n.*train/low/0\.wav and test: .*link\.wav"
    ):
        train(quick.replace(root=own), tmp_path / "run", **QUIET)


def test_one_class_and_a_class_without_training_clips_are_told_before_training(quick, own, tmp_path, news):
    shutil.rmtree(own / "train" / "low")
    train(quick.replace(root=own, epochs=1), tmp_path / "run", device="cpu")
    assert any("1 classes have no training clip and will never be predicted: 'low'" in line for line in news)
    for split in ("train", "validation", "test"):
        for label in ("middle", "low"):
            shutil.rmtree(own / split / label, ignore_errors=True)
    with pytest.raises(ValueError, match="only one class, 'high'"):
        train(quick.replace(root=own), tmp_path / "one", **QUIET)


def test_dead_filters_and_files_passed_over_are_told(quick, own, tmp_path, news):
    (own / "train" / "low" / "notes.txt").touch()
    recipe = quick.replace(root=own, epochs=1, sample_rate=8000, bins=256)
    train(recipe, tmp_path / "run", device="cpu")
    assert any(
        "58 of 256 mel filters at 8000 Hz are so narrow that they are all zero; --set bins=" in line for line in news
    ), news
    assert [news[i + 1] for i, line in enumerate(news) if line.endswith("1 files and folders are ignored:")] == [
        "  train/low/notes.txt"
    ]


def test_the_end_says_when_nothing_was_learned(quick, own, tmp_path, news):
    train(quick.replace(root=own, epochs=1, lr=1e-9), tmp_path / "run", device="cpu")
    assert any(
        "warning: the test accuracy is no better than that of always predicting 'high' (33.33%)" in line
        for line in news
    )


def test_a_long_file_among_short_ones_costs_what_its_frames_need(quick, own, tmp_path):
    soundfile.write(own / "train" / "low" / "long.flac", np.zeros(16000 * 600, np.int16), 16000)
    read = []
    for crop in ("start", "random"):
        recipe = quick.replace(root=own, crop=crop)
        for batch in loader(build_split(recipe, "train"), recipe, train=True, seconds=0.255):
            read.append(batch.waveform.shape[1])
    assert max(read) == 4080


def test_a_random_crop_depends_on_seed_epoch_and_clip_alone(quick, tmp_path):
    for i in range(4):
        soundfile.write(tmp_path / f"{i}.wav", np.linspace(0, 0.9, 160000), 16000)
    data = AudioDataset(["a"], [0] * 4, [tmp_path / f"{i}.wav" for i in range(4)])

    def starts(seed=0, epoch=0, workers=0, train=True):
        recipe = quick.replace(crop="random", seed=seed)
        with closing(loader(data, recipe, train=train, seconds=0.25, workers=workers)) as batches:
            if train:
                batches.batch_sampler.set_epoch(epoch)
            return sorted(float(waveform[0]) for batch in batches for waveform in batch.waveform)

    assert starts() == starts(workers=2)
    assert len(set(starts())) == 4
    assert starts() != starts(epoch=1)
    assert starts() != starts(seed=1)
    assert starts(train=False) == [0.0] * 4


def test_every_second_short_clip_lies_at_any_place_in_faint_noise(quick, tmp_path):
    for i in range(40):
        soundfile.write(tmp_path / f"{i}.wav", np.full(1600, 0.5), 16000)
    data = AudioDataset(["a"], [0] * 40, [tmp_path / f"{i}.wav" for i in range(40)])

    def clips(crop, train=True):
        recipe = quick.replace(crop=crop, batch_size=40)
        (batch,) = loader(data, recipe, train=train, seconds=0.25)
        return [waveform[:length].numpy() for waveform, length in zip(batch.waveform, batch.length, strict=True)]

    assert {len(clip) for clip in clips("start") + clips("random", train=False)} == {1600}
    placed = [clip for clip in clips("random") if len(clip) > 1600]
    assert 10 <= len(placed) <= 30
    assert {len(clip) for clip in placed} == {4000}
    starts = [int(np.argmax(clip > 0.4)) for clip in placed]
    assert len(set(starts)) > 8
    assert all(0 <= start <= 2400 for start in starts)
    for clip, start in zip(placed, starts, strict=True):
        noise = np.concatenate([clip[:start], clip[start + 1600 :]])
        assert -101 < 20 * np.log10(noise.std()) < -49
        np.testing.assert_allclose(clip[start : start + 1600], 0.5, atol=0.02)


# ---- The machine.


def test_a_device_that_is_not_there_is_refused_before_a_folder_is_made(quick, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    for device in ("cuda", "mps"):
        with pytest.raises(
            ValueError, match=f"device = '{device}': PyTorch finds none on this machine; take --device cpu"
        ):
            train(quick, tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_rights_is_one_line(quick, tmp_path):
    if os.geteuid() == 0:
        (tmp_path / "file").touch()
        out = tmp_path / "file" / "run"  # nobody makes a folder there, not even root
    else:
        (tmp_path / "closed").mkdir(mode=0o500)
        out = tmp_path / "closed" / "run"
    with pytest.raises(OSError, match=str(out)):
        train(quick, out, **QUIET)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="the system shares no memory by files")
def test_the_death_of_a_process_that_reads_clips_ends_the_run_in_a_line(quick, own, tmp_path):
    code = """
import os, signal, sys
from specenhance.data import AudioDataset
from specenhance.training import load_recipe
from specenhance.training.run import train
from specenhance.training.batches import WorkerError
from pathlib import Path

excerpt = AudioDataset.excerpt
def die(self, i, *args):
    if os.getpid() != PARENT and "3.wav" in str(self.paths[i]):
        os.kill(os.getpid(), signal.SIGKILL)
    return excerpt(self, i, *args)
PARENT = os.getpid()
AudioDataset.excerpt = die
try:
    train(load_recipe(sys.argv[1]), Path(sys.argv[2]), device="cpu", workers=2)
except WorkerError as error:
    print(error)
"""
    from specenhance.training import save_recipe

    save_recipe(quick.replace(root=own, mean=-1.0, std=3.0), tmp_path / "r.toml")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "r.toml"), str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    (line,) = done.stdout.splitlines()
    assert line.startswith("a process that reads clips has died"), done.stderr
    assert "--workers 0" in line
