"""examples/speech_embedding.py: the two files of openwakeword as one, clip by clip as they are run one after the other."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch

from specenhance.distillation.embedding import EmbeddingTable
from specenhance.distillation.onnx import OnnxTeacher

SCRIPT = Path(__file__).parents[1] / "examples" / "speech_embedding.py"


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    draw = np.random.default_rng(0)
    for name, length in (("no/a.wav", 16000), ("yes/a.wav", 12000), ("yes/b.wav", 18000)):
        (folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(folder / name, 0.1 * draw.standard_normal(length).astype(np.float32), 16000, subtype="FLOAT")
    return folder


def test_one_file_gives_what_both_give(shared, sounds, tmp_path):
    models = shared / "speech_embedding"
    out, table = tmp_path / "one.onnx", tmp_path / "values.npz"
    subprocess.run([sys.executable, SCRIPT, models, out, "--values", sounds, table], check=True)
    mel, embed = (
        onnxruntime.InferenceSession(models / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("melspectrogram", "embedding_model")
    )
    teacher = OnnxTeacher(out, ["no", "yes"], sample_rate=16000)
    assert teacher.needs_head
    waveforms, expected = [], []
    for name in ("no/a.wav", "yes/a.wav", "yes/b.wav"):
        sound = soundfile.read(sounds / name, dtype="float32")[0]
        sound = np.pad(sound, (0, max(0, 16000 - len(sound))))[:16000]
        spec = mel.run(None, {mel.get_inputs()[0].name: sound[None] * 32767})[0].reshape(-1, 32) / 10 + 2
        windows = np.stack([spec[8 * i : 8 * i + 76] for i in range(3)])[..., None]
        expected.append(embed.run(None, {embed.get_inputs()[0].name: windows})[0].ravel())
        waveforms.append(sound)
    found = teacher(torch.from_numpy(np.stack(waveforms)))
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-3, atol=1e-3)
    stored = EmbeddingTable(table).values([sounds / "no/a.wav", sounds / "yes/a.wav", sounds / "yes/b.wav"])
    np.testing.assert_allclose(stored, np.stack(expected), rtol=2e-3, atol=0.05)
