"""The C++ example builds, and prints what the command line prints."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import timm
import torch

from specenhance import KaldiFbank, with_frontend
from specenhance.audio import read_samples
from specenhance.deploy.export import export
from specenhance.deploy.runtime import OnnxModel

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "deploy_cpp"
CLASSES = ["nine", "\u0635\u0641\u0631", 'a "b"\u00e9', "clear\x1b[2J", *map(str, range(6))]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The program, built as its README says."""
    for tool in ("cmake", "g++"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    place = Path(os.environ.get("ONNXRUNTIME_ROOT", ROOT / ".onnxruntime"))
    build = tmp_path_factory.mktemp("build")
    made = subprocess.run(
        ["cmake", "-S", EXAMPLE, "-B", build, f"-DONNXRUNTIME_ROOT={place}"], capture_output=True, text=True
    )
    if "Could not find" in made.stderr:
        pytest.skip(f"no headers and library of onnxruntime in {place} or the system; 'make onnxruntime' brings them")
    assert made.returncode == 0, made.stderr
    made = subprocess.run(["cmake", "--build", build], capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "warning:" not in made.stdout + made.stderr
    return build / "classify"


def exported(folder, thresholds=None):
    """An untrained model whose probabilities differ between sounds, as ONNX."""
    torch.manual_seed(0)
    backbone = timm.create_model("test_resnet", in_chans=1, num_classes=len(CLASSES))
    model = with_frontend(backbone, "tfe2", features=KaldiFbank(frames=100))
    with torch.no_grad():
        model.train()
        for level in (1e-3, 0.1, 0.5):
            model(level * torch.randn(8, 16000))  # batch norm learns the range of its input
        backbone.get_classifier().weight.mul_(30)
    model.classes, model.thresholds = CLASSES, thresholds
    return export(model, folder / "model.onnx", clip_seconds=1.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("one_label"))


def run(program, *arguments, stdin=None):
    return subprocess.run([program, *arguments], capture_output=True, input=stdin, timeout=60)


def told(done):
    """What was printed: for each file its labels and probabilities."""
    assert done.returncode == 0, done.stderr
    lines = {}
    for line in done.stdout.decode().splitlines():
        name, _, rest = line.partition(": ")
        lines[name] = [
            (label, float(number[:-1]) / 100)
            for label, number in (part.replace(" (found)", "").rsplit(" ", 1) for part in rest.split(", "))
        ]
    return lines


def same(found, model, waveform):
    expected = model.predict(waveform, top=3)
    assert [label for label, _ in found] == [model.classes[label].replace("\x1b", "?") for label, _ in expected]
    np.testing.assert_allclose([p for _, p in found], [p for _, p in expected], atol=1e-4)


def sound(samples=16000, channels=1, seed=0):
    shape = (samples, channels)
    noise = np.random.default_rng(seed).normal(0, 0.1, shape)
    return np.clip(noise + 0.3 * np.sin(np.arange(samples) / (3 + seed))[:, None], -1, 1)


@pytest.mark.parametrize(
    ("samples", "channels"), [(16000, 1), (7000, 1), (100, 1), (16000, 2), (9001, 3)], ids=lambda n: str(n)
)
def test_it_gives_what_python_gives(program, model, tmp_path, samples, channels):
    paths = [tmp_path / f"{seed}.wav" for seed in range(3)]
    for seed, path in enumerate(paths):
        soundfile.write(path, sound(samples, channels, seed), 16000, subtype="PCM_16")
    lines = told(run(program, model, *paths))
    python = OnnxModel(model)
    assert len(lines) == 3
    for path in paths:
        same(lines[str(path)], python, read_samples(path, 16000))
    if samples > 400:  # shorter than a frame is nothing to the model
        assert len({str(labels) for labels in lines.values()}) == 3


def test_real_clips(program, model, shared, tmp_path):
    clips = sorted((shared / "arabic_speech_commands").glob("*/*.flac"))[::600]
    assert len(clips) >= 10
    python, paths = OnnxModel(model), []
    for i, clip in enumerate(clips):
        samples, rate = soundfile.read(clip, dtype="int16")
        paths.append(tmp_path / f"{i}.wav")
        soundfile.write(paths[-1], samples, rate)
    lines = told(run(program, model, *paths))
    for path in paths:
        same(lines[str(path)], python, read_samples(path, 16000))


def test_silence_and_raw_samples(program, model, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    python = OnnxModel(model)
    lines = told(run(program, model, tmp_path / "silence.wav"))
    same(lines[str(tmp_path / "silence.wav")], python, np.zeros(16000, np.float32))
    raw = (32767 * sound()[:, 0]).astype("<i2")
    same(told(run(program, model, "-", stdin=raw.tobytes()))["-"], python, raw.astype(np.int16))


def test_a_long_file_is_cut_as_first_window_cuts_it(program, model, tmp_path):
    soundfile.write(tmp_path / "long.wav", sound(40000), 16000)
    done = run(program, model, tmp_path / "long.wav")
    python = OnnxModel(model)
    assert done.stdout.endswith(b" (only its start)\n")
    done.stdout = done.stdout.replace(b" (only its start)", b"")
    start = read_samples(tmp_path / "long.wav", 16000)[: python.samples]
    same(told(done)[str(tmp_path / "long.wav")], python, start)


def test_a_multi_label_model_marks_what_reaches_its_threshold(program, tmp_path):
    thresholds = [0.01 if i < 3 else 0.9999 for i in range(len(CLASSES))]
    model = exported(tmp_path, thresholds)
    path = tmp_path / "a.wav"
    marked = 0
    for seed in range(4):
        soundfile.write(path, sound(seed=seed), 16000)
        done = run(program, model, path)
        same(told(done)[str(path)], OnnxModel(model), read_samples(path, 16000))
        for part in done.stdout.decode().partition(": ")[2].strip().split(", "):
            label, number = part.replace(" (found)", "").rsplit(" ", 1)
            least = thresholds[[name.replace("\x1b", "?") for name in CLASSES].index(label)]
            assert part.endswith("(found)") == (float(number[:-1]) / 100 >= least)
            marked += part.endswith("(found)")
    assert 0 < marked < 12


def header(size, data=4, rate=16000, bits=16, kind=1, channels=1):
    chunk = struct.pack("<HHIIHH", kind, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)
    return (
        b"RIFF"
        + struct.pack("<I", size)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + chunk
        + b"data"
        + struct.pack("<I", data)
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no WAV file"),
        (b"RIFF", "is no WAV file"),
        (b"fLaC" + bytes(100), "is no WAV file"),
        (header(40)[:30], "ends early"),
        (header(40), "ends early"),
        (header(0xFFFFFFFF, 0xFFFFFFFF) + bytes(4), "ends early"),
        (header(40)[:12] + header(40)[36:] + bytes(4), "has no format before its samples"),
        (header(40)[:36] + bytes(3), "is a WAV file without samples"),
        (header(40, 0), "holds no samples"),
        (header(40, rate=8000) + bytes(4), "has 8000 Hz, the model expects 16000 Hz"),
        (header(40, bits=24) + bytes(4), "is not 16-bit PCM"),
        (header(40, kind=3) + bytes(4), "is not 16-bit PCM"),
        (header(40, channels=0) + bytes(4), "is not 16-bit PCM"),
    ],
)
def test_a_damaged_file_is_refused_and_the_next_is_read(program, model, tmp_path, content, message):
    (tmp_path / "bad.wav").write_bytes(content)
    soundfile.write(tmp_path / "good.wav", sound(), 16000)
    done = run(program, model, tmp_path / "bad.wav", tmp_path / "good.wav")
    assert done.returncode == 1
    assert f"bad.wav: {message}" in done.stderr.decode()
    assert done.stdout.decode().startswith(str(tmp_path / "good.wav"))


def test_other_chunks_and_extensible_headers(program, model, tmp_path):
    soundfile.write(tmp_path / "a.wav", sound(), 16000, format="WAVEX", subtype="PCM_16")
    plain = header(40, 32000) + (32767 * sound()[:, 0]).astype("<i2").tobytes()
    (tmp_path / "b.wav").write_bytes(plain[:12] + b"LIST" + struct.pack("<I", 3) + b"abc\0" + plain[12:] + b"id3 \x00")
    for name in ("a.wav", "b.wav"):
        lines = told(run(program, model, tmp_path / name))
        same(lines[str(tmp_path / name)], OnnxModel(model), read_samples(tmp_path / name, 16000))


def test_what_is_no_model_of_ours_is_refused(program, tmp_path):
    import onnx

    (tmp_path / "text.onnx").write_text("hello")
    graph = '<ir_version: 8, opset_import: ["": 18]> g (float[N] x) => (float[N] y) {y = Add(x, x)}'
    onnx.save(onnx.parser.parse_model(graph), tmp_path / "bare.onnx")
    for name, message in (
        ("text.onnx", b"text.onnx"),
        ("bare.onnx", b"is no model of specenhance"),
        ("none.onnx", b"none.onnx"),
    ):
        done = run(program, tmp_path / name, tmp_path / "a.wav")
        assert done.returncode == 1
        assert message in done.stderr
    assert b"usage" in run(program).stderr
