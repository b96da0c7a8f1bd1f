"""Windows over a stream: where they lie, whatever the blocks; and the command, without PyTorch and in constant memory."""

import io
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

from specenhance.listen import listen, pcm_blocks

COMMAND = [sys.executable, "-c", "from specenhance.cli import main; main()"]


class Recorder:
    """Keeps what it is given."""

    sample_rate = 10

    def shares(self, waveform):
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
        np.testing.assert_array_equal(part.shares, stream[start : start + window])
        assert round(10 * part.end) == start + len(part.shares)


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
    from specenhance.export import export
    from specenhance.training.run import train

    folder = tmp_path_factory.mktemp("listen")
    train(quick.replace(epochs=40, lr=3e-3), folder / "run", say=lambda line: None, device="cpu")
    return export(folder / "run", say=lambda line: None)


def command(*args, **settings):
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*COMMAND, *map(str, args)], capture_output=True, env=environment, timeout=300, **settings)


def tones(*frequencies):
    time = np.arange(16000) / 16000
    return np.concatenate([0.3 * np.sin(2 * np.pi * frequency * time) for frequency in frequencies])


def test_listen_says_what_is_heard_when(model_file, tmp_path):
    soundfile.write(tmp_path / "a.wav", tones(300, 2700, 300), 16000)
    done = command("listen", "--model", model_file, "--threshold", 0.4, tmp_path / "a.wav")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    inside = [line for line in lines if line.startswith("1.") and float(line.split()[2]) < 2]
    assert inside
    assert all("high" in line for line in inside)
    assert b"3.0 s of sound in" in done.stderr
    assert b"real-time factor 0.0" in done.stderr
    raw = soundfile.read(tmp_path / "a.wav", dtype="int16")[0].astype("<i2").tobytes()
    assert command("listen", "--model", model_file, "--threshold", 0.4, "-", input=raw).stdout == done.stdout


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
        done = subprocess.run(whole, capture_output=True, text=True, cwd=Path(__file__).parents[1], timeout=120)
        assert done.returncode == 0, done.stderr
        assert "low" in done.stdout


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say a process's peak memory")
def test_an_hour_in_constant_memory(model_file):
    code = """
import sys
import numpy as np
from specenhance.listen import listen
from specenhance.runtime import OnnxModel

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
    soundfile.write(tmp_path / "long.wav", np.tile(tones(300), 60), 16000)
    listener = subprocess.Popen(
        [*COMMAND, "listen", "--model", str(model_file), "--threshold", "0", str(tmp_path / "long.wav")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
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
        cwd=Path(__file__).parents[1],
    )
    listener.stdin.write(bytes(2 * 16000))
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
        (["listen", "--model", model_file, "--rate", "8000", tmp_path / "text.wav"], b"--rate 8000: for raw PCM"),
        (["listen", "--model", model_file, "-"], b"-: no sound came; expected raw PCM"),
        (["listen", "--model", model_file, tmp_path / "empty.wav"], b"empty.wav: no sound came"),
        (["predict", "--model", model_file, "--device", "cuda", tmp_path / "text.wav"], b"--device cuda: with --model"),
        (["predict", tmp_path], b"expected a run folder and then audio files, or --model"),
    ):
        done = command(*args, input=b"")
        assert done.returncode == 1, args
        assert message in done.stderr, done.stderr
        assert b"Traceback" not in done.stderr
