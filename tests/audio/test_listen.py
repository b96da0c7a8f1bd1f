"""Windows over a stream: where they lie, whatever the blocks; and the command, without PyTorch and in constant memory."""

import inspect
import io
import json
import math
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from specenhance.audio import AudioError
from specenhance.audio.listen import Event, Heard, events, listen, pcm_blocks
from specenhance.deploy.runtime import OnnxModel

COMMAND = [sys.executable, "-c", "from specenhance.cli import main; main()"]


class Recorder:
    """Keeps what it is given."""

    sample_rate = 10

    def probabilities(self, waveform):
        return waveform.copy()


@settings(deadline=None, max_examples=60)
@given(
    total=st.integers(0, 60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    window=st.integers(1, 20),
    hop=st.integers(1, 20),
)
def test_windows_cover_the_stream_whatever_the_blocks(total, cuts, window, hop):
    hop = min(hop, window)
    stream = np.arange(total, dtype=np.float32)
    edges = sorted({0, total, *(cut for cut in cuts if cut < total)})
    blocks = [stream[a:b] for a, b in pairwise(edges)]
    heard = list(listen(Recorder(), blocks, window, hop))
    starts = list(range(0, total - window + 1, hop))
    if total and (not starts or starts[-1] + window < total):
        starts.append(max(0, total - window))
    assert [round(10 * part.start) for part in heard] == starts
    for part, start in zip(heard, starts, strict=True):
        np.testing.assert_array_equal(part.probabilities, stream[start : start + window])
        assert round(10 * part.end) == start + len(part.probabilities)


def test_a_window_is_told_before_the_next_block_is_read():
    def blocks():
        for i in range(3):
            read.append(i)
            yield np.zeros(10, np.float32)

    read = []
    next(listen(Recorder(), blocks(), 10, 5))
    assert read == [0]


@pytest.mark.parametrize(("window", "hop"), [(10, 0), (10, 11), (0, 0)])
def test_a_window_or_hop_out_of_range(window, hop):
    with pytest.raises(ValueError, match=f"a window of {window} samples every {hop}: expected"):
        next(listen(Recorder(), [np.zeros(20, np.float32)], window, hop))


def heard(*windows, level=-20.0):
    """Windows of a second, every half second, from the probabilities of two classes or of three."""
    return [Heard(i / 2, i / 2 + 1, np.array(window), level, 0.0) for i, window in enumerate(windows)]


YES, NO, NEITHER = (0.9, 0.05, 0.05), (0.1, 0.8, 0.1), (0.3, 0.35, 0.35)


def test_a_run_of_windows_is_one_event_with_its_maximum():
    windows = heard(NEITHER, (0.7, 0.2, 0.1), YES, (0.8, 0.1, 0.1), NEITHER, NO, NO, NO)
    assert list(events(windows)) == [Event(0.5, 2.5, 0, 0.9), Event(2.5, 4.5, 1, 0.8)]


def test_a_class_in_fewer_windows_than_must_agree_is_no_event():
    windows = heard(NEITHER, YES, NO, NO, YES, NEITHER)
    assert list(events(windows)) == [Event(1.0, 2.5, 1, 0.8)]
    assert [event.label for event in events(windows, agree=1)] == [0, 1, 0]
    assert list(events(windows, agree=3)) == []


def test_a_stream_of_one_window_needs_no_second_to_agree():
    assert list(events(heard(YES))) == [Event(0.0, 1.0, 0, 0.9)]
    assert list(events(heard(YES, NO))) == []


def test_patience_lets_windows_of_another_kind_lie_inside_an_event():
    windows = heard(YES, YES, NEITHER, YES, NEITHER, NEITHER, YES, YES)
    assert [(event.start, event.end) for event in events(windows)] == [(0.0, 1.5), (3.0, 4.5)]
    assert [(event.start, event.end) for event in events(windows, patience=1)] == [(0.0, 2.5), (3.0, 4.5)]
    assert [(event.start, event.end) for event in events(windows, patience=2)] == [(0.0, 4.5)]
    assert [(event.start, event.end) for event in events(heard(YES, NEITHER, YES), patience=1)] == [(0.0, 2.0)]
    assert list(events(heard(YES, NEITHER, NEITHER, YES), patience=1)) == []  # one window each


def test_with_patience_two_classes_may_take_turns():
    windows = heard(YES, NO, YES, NO, NEITHER, NEITHER)
    found = [(event.label, event.start, event.end) for event in events(windows, patience=1)]
    assert found == [(0, 0.0, 2.0), (1, 0.5, 2.5)]


def test_debounce_leaves_out_an_event_that_follows_too_soon_on_one_of_its_class():
    windows = heard(YES, YES, NEITHER, NEITHER, YES, YES, NO, NO, *6 * [NEITHER], YES, YES)
    starts = [0.0, 2.0, 3.0, 7.0]  # of the events; the first ends at 1.5
    assert [event.start for event in events(windows)] == starts
    assert [event.start for event in events(windows, debounce=0.5)] == starts
    assert [event.start for event in events(windows, debounce=0.6)] == [0.0, 3.0, 7.0]
    assert [event.start for event in events(windows, debounce=5.5)] == [0.0, 3.0, 7.0]
    assert [event.start for event in events(windows, debounce=6)] == [0.0, 3.0]


def test_an_unsure_window_is_not_heard():
    unsure = heard((0.5, 0.45, 0.05), (0.5, 0.45, 0.05))
    assert list(events(unsure)) == []  # the second class is too near
    assert [event.label for event in events(unsure, margin=0.04)] == [0]
    assert list(events(unsure, margin=0.04, threshold=0.6)) == []


def test_a_quiet_window_is_not_heard_whatever_the_model_says():
    assert list(events(heard(YES, YES, level=-70.0))) == []
    assert list(events(heard(YES, YES, level=-math.inf))) == []
    assert [event.label for event in events(heard(YES, YES, level=-70.0), level=-80)] == [0]
    assert [event.label for event in events(heard(YES, YES, level=-math.inf), level=-math.inf)] == [0]


def test_the_level_of_a_window_is_its_rms_against_a_full_scale():
    level = 0.1
    (one,) = listen(Recorder(), [np.full(20, level, np.float32)], 20, 20)
    assert one.level == pytest.approx(-20)
    (one,) = listen(Recorder(), [np.zeros(20, np.float32)], 20, 20)
    assert one.level == -math.inf


@pytest.mark.parametrize("error", [KeyboardInterrupt, AudioError])
def test_what_was_heard_before_a_stop_is_told_before_it(error):
    def stopping():
        yield from heard(YES, YES)
        raise error("stopped")

    told = events(stopping())
    assert next(told) == Event(0.0, 1.5, 0, 0.9)
    with pytest.raises(error, match="stopped"):
        next(told)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"threshold": 1.5}, "threshold = 1.5: expected a probability from 0 to 1"),
        ({"margin": math.nan}, "margin = nan: expected a probability from 0 to 1"),
        ({"level": math.nan}, "level = nan: expected dBFS"),
        ({"agree": 0}, "agree = 0: expected 1 window or more"),
        ({"patience": -1}, "patience = -1: expected 0 windows or more"),
        ({"debounce": math.nan}, "debounce = nan: expected seconds"),
    ],
)
def test_a_setting_out_of_range_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        list(events(heard(YES), **setting))


def test_the_command_has_the_defaults_of_the_function():
    from specenhance.cli import predict

    given = {name: option.default for name, option in inspect.signature(predict.listen).parameters.items()}
    own = {name: value.default for name, value in inspect.signature(events).parameters.items() if name != "heard"}
    assert own.pop("threshold") > own.pop("margin") > 0
    assert given["threshold"] is given["margin"] is None  # those of the function, or of a multi-label model
    assert own == {name: given[name] for name in own}


def test_raw_pcm_in_odd_pieces():
    samples = np.array([0, 1, -1, 32767, -32768], "<i2")

    class Pieces(io.RawIOBase):
        data = samples.tobytes() + b"\x05"  # half a sample at the end

        def read(self, size=-1):
            piece, self.data = self.data[:3], self.data[3:]
            return piece

    got = np.concatenate(list(pcm_blocks(Pieces())))
    np.testing.assert_array_equal(got, samples.astype(np.float32) / 32768)


@pytest.fixture(scope="module")
def model_file(quick, tmp_path_factory):
    from specenhance.training.exporting import export_run as export
    from specenhance.training.run import train

    folder = tmp_path_factory.mktemp("listen")
    train(quick.replace(epochs=40, lr=3e-3), folder / "run", device="cpu")
    return export(folder / "run")


def command(*args, **settings):
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*COMMAND, *map(str, args)], capture_output=True, env=environment, timeout=300, **settings)


def tones(*frequencies):
    """A second of each frequency, as noisy as the model knows them; of 0 Hz, of silence."""
    time = np.arange(16000) / 16000
    rng = np.random.default_rng(0)
    parts = [0.3 * np.sin(2 * np.pi * f * time) + 0.03 * rng.standard_normal(16000) for f in frequencies]
    return np.concatenate([part if f else np.zeros(16000) for f, part in zip(frequencies, parts, strict=True)])


def test_listen_says_what_is_heard_when(model_file, tmp_path):
    soundfile.write(tmp_path / "a.wav", tones(0, 300, 0, 2700, 0), 16000)
    done = command("listen", "--model", model_file, tmp_path / "a.wav")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    longest = {second: max(lines, key=lambda line: shared(line, second)) for second in (1, 3)}
    assert {second: line[4] for second, line in longest.items()} == {1: "low", 3: "high"}
    assert all(shared(line, second) > 0.8 for second, line in longest.items())
    assert all(float(start) > 0.7 and float(end) < 4.3 for start, _, end, *_ in lines)  # nothing is heard in silence
    assert b"5.0 s of sound in" in done.stderr
    assert b"real-time factor 0." in done.stderr
    raw = soundfile.read(tmp_path / "a.wav", dtype="int16")[0].astype("<i2").tobytes()
    again = command("listen", "--model", model_file, "-", input=raw)
    assert again.stdout == done.stdout
    objects = command("listen", "--model", model_file, "--json", "--patience", 0, "--debounce", 0, tmp_path / "a.wav")
    found = [json.loads(line) for line in objects.stdout.splitlines()]
    told = [f"{one['start']:.2f} to {one['end']:.2f} s: {one['label']} {one['probability']:.1%}" for one in found]
    assert told == done.stdout.decode().splitlines()


def shared(line, second):
    """Seconds of an event that lie in one second of the stream."""
    return min(float(line[2]), second + 1) - max(float(line[0]), second)


def test_the_window_is_as_long_as_the_clips_that_were_trained_on(model_file):
    model = OnnxModel(model_file)
    assert (model.metadata["clip_seconds"], model.clip_samples) == (0.25, 4000)


def test_predict_and_listen_need_no_pytorch(model_file, tmp_path):
    soundfile.write(tmp_path / "a.wav", tones(300), 16000)
    code = """
import sys
for name in ("torch", "timm", "torchaudio", "lightning", "scipy", "soxr", "onnx", "matplotlib"):
    sys.modules[name] = None
from specenhance.cli import main
main()
"""
    for args in (["predict"], ["listen", "--threshold", "0"]):
        whole = [sys.executable, "-c", code, *args, "--model", str(model_file), str(tmp_path / "a.wav")]
        done = subprocess.run(whole, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=120)
        assert done.returncode == 0, done.stderr
        assert "low" in done.stdout


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say a process's peak memory")
def test_an_hour_in_constant_memory(model_file):
    code = """
import sys
import numpy as np
from specenhance.audio.listen import listen
from specenhance.deploy.runtime import OnnxModel

def peak():  # kB; getrusage's would be that of the process that started this one, if that was the larger
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

model = OnnxModel(sys.argv[1], threads=1)
rng = np.random.default_rng(0)
second = (0.1 * rng.standard_normal(16000)).astype(np.float32)
peaks, windows = [], 0
for heard in listen(model, (second for _ in range(3600)), model.samples, model.samples):
    windows += 1
    if windows % 2000 == 0:
        peaks.append(peak())
print(heard.end, windows, peaks[-1] - peaks[0])
"""
    done = subprocess.run([sys.executable, "-c", code, str(model_file)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    end, windows, growth = map(float, done.stdout.split())
    assert end == 3600
    assert windows > 7000
    assert growth < 4096  # kB


def test_a_reader_that_has_seen_enough(model_file, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.tile(tones(300, 0), 60), 16000)
    listener = subprocess.Popen(
        [*COMMAND, "listen", "--model", str(model_file), "--threshold", "0", str(tmp_path / "long.wav")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert b" s: " in listener.stdout.readline()
    listener.stdout.close()
    error = listener.stderr.read()
    assert listener.wait(60) == 0, error
    assert b"Traceback" not in error


def test_ctrl_c_ends_it_with_what_it_took(model_file):
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); " + COMMAND[2]
    listener = subprocess.Popen(
        [sys.executable, "-c", code, "listen", "--model", str(model_file), "--threshold", "0", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    listener.stdin.write((32767 * tones(300, 0)).astype("<i2").tobytes())
    listener.stdin.flush()  # and left open: a live stream
    assert b" s: " in listener.stdout.readline()
    listener.send_signal(signal.SIGINT)
    error = listener.stderr.read()
    assert listener.wait(60) == 130, error
    assert b"real-time factor" in error
    assert b"stopped" in error
    assert b"Traceback" not in error
    listener.stdin.close()
    listener.stdout.close()


def test_wrong_arguments(model_file, tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    for args, message in (
        (["listen", "--model", model_file, tmp_path / "none.wav"], b"no such audio file"),
        (["listen", "--model", model_file, tmp_path / "text.wav"], b"cannot be decoded"),
        (["listen", "--model", tmp_path / "none.onnx", "-"], b"no such model"),
        (
            ["listen", "--model", model_file, "--window", "0.2", "--hop", "0.3", tmp_path / "text.wav"],
            b"--hop 0.3: expected seconds",
        ),
        (["listen", "--model", model_file, "--window", "inf", "-"], b"--window inf: expected seconds"),
        (["listen", "--model", model_file, "--window", "1", "-"], b"more than 0 and at most the 0.255 of the model"),
        (["listen", "--model", model_file, "--hop", "nan", "-"], b"--hop nan: expected seconds"),
        (["listen", "--model", model_file, "--rate", "8000", tmp_path / "text.wav"], b"--rate 8000: only for raw PCM"),
        (["listen", "--model", model_file, "-"], b"-: no samples; expected raw PCM"),
        (["listen", "--model", model_file, tmp_path / "empty.wav"], b"empty.wav: no samples"),
        (["predict", "--model", model_file, "--device", "cuda", tmp_path / "text.wav"], b"--device cuda: with --model"),
        (["predict", tmp_path], b"expected a run folder and then audio files, or --model"),
    ):
        done = command(*args, input=b"")
        assert done.returncode == 1, args
        assert message in done.stderr, done.stderr
        assert b"Traceback" not in done.stderr


def test_with_a_threshold_for_each_class_events_overlap():
    rows = [(0.9, 0.2), (0.8, 0.7), (0.1, 0.8), (0.1, 0.1)]
    windows = [Heard(i, i + 1, np.array(row), level=-20, seconds=0.0) for i, row in enumerate(rows)]
    found = list(events(windows, threshold=[0.5, 0.6]))
    assert [(event.start, event.end, event.label, event.probability) for event in found] == [
        (0, 2, 0, 0.9),
        (1, 3, 1, 0.8),
    ]
    assert list(events(windows, threshold=[0.95, 0.95])) == []
    with pytest.raises(ValueError, match="expected a probability from 0 to 1"):
        list(events(windows, threshold=[0.5, 1.5]))
