"""examples/microphone.py on a device that plays a file: blocks as PortAudio gives them, on a thread, in one array."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from specenhance.audio import resampled
from specenhance.audio.listen import events, listen
from specenhance.deploy.runtime import OnnxModel

SCRIPT = Path(__file__).parents[1] / "examples" / "microphone.py"

# As the package sounddevice behaves, with a file in the place of a device.
DEVICE = """
import os, sys, threading
import numpy as np
import soundfile

SOUND, RATE = soundfile.read(os.environ["HEARD"], dtype="float32", always_2d=True)

class PortAudioError(Exception):
    pass

class CallbackFlags:
    def __init__(self, lost):
        self.input_overflow = lost
    def __bool__(self):
        return self.input_overflow
    def __str__(self):
        return "input overflow"

def check_input_settings(device=None, channels=None, dtype=None, samplerate=None):
    query_devices(device, "input")
    if samplerate != RATE:
        raise PortAudioError("Invalid sample rate")

def query_devices(device=None, kind=None):
    if device not in (None, 2, "mic"):
        raise ValueError(f"No input device matching {device!r}")
    return {"name": "mic", "default_samplerate": float(RATE)} if kind else "> 2 mic, File (1 in, 0 out)"

class InputStream:
    def __init__(self, device, channels, dtype, samplerate, callback):
        assert (channels, dtype, samplerate) == (1, "float32", RATE)
        self.callback = callback

    def __enter__(self):
        self.thread = threading.Thread(target=self.play, daemon=True)
        self.thread.start()

    def __exit__(self, *_):
        assert "torch" not in sys.modules
        print("closed, and no torch", file=sys.stderr)

    def play(self):
        own = np.zeros((512, 1), np.float32)  # used again for each block
        for at in range(0, len(SOUND), 512):
            part = SOUND[at : at + 512, :1]
            own[: len(part)] = part
            self.callback(own[: len(part)], len(part), None, CallbackFlags(at == 512))
        if "UNPLUGGED" not in os.environ:
            while True:
                self.callback(np.zeros((512, 1), np.float32), 512, None, CallbackFlags(False))
                threading.Event().wait(0.01)
"""


@pytest.fixture
def microphone(tmp_path):
    def microphone(sound, *words, **environment):
        (tmp_path / "sounddevice.py").write_text(DEVICE)
        path = os.pathsep.join([str(tmp_path), str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path, "HEARD": str(sound)} | environment
        command = [sys.executable, str(SCRIPT), *map(str, words)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    return microphone


def loud(folder, rate):
    """Two seconds of a tone that changes."""
    time = np.arange(2 * rate) / rate
    sound = 0.5 * np.sin(2 * np.pi * np.where(time < 1, 300, 2700) * time)
    soundfile.write(folder / "heard.wav", sound, rate, subtype="FLOAT")
    return folder / "heard.wav"


@pytest.mark.parametrize("rate", [16000, 44100])
def test_it_hears_what_a_file_holds(microphone, exported, tmp_path, rate):
    sound = loud(tmp_path, rate)
    done = microphone(sound, exported, "--seconds", 2, "--threshold", 0.1, "--margin", 0, "--device", 2)
    assert done.returncode == 0, done.stderr
    assert f"listening at {rate} Hz" in done.stderr
    assert "input overflow" in done.stderr
    assert "closed, and no torch" in done.stderr
    model = OnnxModel(exported, threads=1)
    waveform = soundfile.read(sound, dtype="float32")[0]
    blocks = resampled([waveform[at : at + 512] for at in range(0, len(waveform), 512)], rate, model.sample_rate)
    heard = listen(model, blocks, model.clip_samples, model.clip_samples // 8)
    expected = [
        f"{event.start:.2f} to {event.end:.2f} s: {model.classes[event.label]} {event.probability:.1%}"
        for event in events(heard, threshold=0.1, margin=0)
    ]
    assert expected
    assert done.stdout.splitlines() == expected


def test_what_goes_wrong_is_said(microphone, exported, tmp_path):
    sound = loud(tmp_path, 16000)
    assert "expected a model" in microphone(sound).stderr
    assert "no such model" in microphone(sound, tmp_path / "nothing.onnx").stderr
    assert "No input device matching 'radio'" in microphone(sound, exported, "--device", "radio").stderr
    assert "threshold = 2.0: expected a probability" in microphone(sound, exported, "--threshold", 2).stderr
    unplugged = microphone(sound, exported, UNPLUGGED="1")
    assert re.search(r"no sound for 5 s; is the device still there\?", unplugged.stderr)
    assert unplugged.returncode == 1


def test_devices_are_listed(microphone, tmp_path):
    assert microphone(loud(tmp_path, 16000), "--list").stdout == "> 2 mic, File (1 in, 0 out)\n"


def test_without_portaudio_it_says_what_to_install(tmp_path):
    for line, cure in (
        ("import nothing_like_it", "pip install"),
        ("raise OSError('PortAudio library not found')", "apt-get install"),
    ):
        (tmp_path / "sounddevice.py").write_text(line)
        path = os.pathsep.join([str(tmp_path), str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, str(SCRIPT), "--list"]
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 1
        assert cure in done.stderr
        assert "Traceback" not in done.stderr
