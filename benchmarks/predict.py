"""How fast is predict --out? A folder of 1,000 one-second clips, and a one-hour recording, against a clip-by-clip loop.

Every candidate is a whole process, from its start to its last line, with the same ONNX file (mobilenetv3_small_050 with
TFE(4), random weights). The loops read a clip or a window, classify it, and take the next: with onnxruntime's own number of
threads, and with one. "times as fast as it plays" is seconds of sound over seconds of the clock. "CPU seconds" are of all
cores; other work hardly changes them, and half of predict's are what it takes on two free cores. The memory is the sum
over all processes of what is resident, at its peak; the recording's first tenth shows whether it grows with the length.

    python benchmarks/predict.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from command import Argument, Benchmark, main
from side_by_side import ratio, spread, take_turns

from specenhance.training import recipe_for, save_model, save_recipe
from specenhance.training.build import build_model
from specenhance.training.exporting import export_run

RATE, CLASSES = 16000, 35

LOOPS = {
    "clips": """
import sys
from pathlib import Path
from specenhance.audio import read_samples
from specenhance.deploy.runtime import OnnxModel
model = OnnxModel(sys.argv[1], threads=int(sys.argv[3]))
for path in sorted(Path(sys.argv[2]).iterdir()):
    model.predict(read_samples(path, model.sample_rate), top=1)
""",
    "recording": """
import sys
from specenhance.audio import read_blocks
from specenhance.audio.listen import windows
from specenhance.deploy.runtime import OnnxModel
model = OnnxModel(sys.argv[1], threads=int(sys.argv[3]))
for _, samples in windows(read_blocks(sys.argv[2], model.sample_rate), model.clip_samples, model.clip_samples):
    model.predict(samples, top=1)
""",
}
LOOP, LOOP_1 = "loop, onnxruntime's threads", "loop, 1 thread"


def write_model(folder: Path) -> Path:
    """Export a small model with random weights."""
    recipe = recipe_for("speech_commands", root=folder, frontend="tfe4", backbone="mobilenetv3_small_050")
    recipe = recipe.replace(mean=-6.0, std=5.0)
    torch.manual_seed(0)
    save_recipe(recipe, folder / "recipe.toml")
    save_model(build_model(recipe, CLASSES), [f"word {i}" for i in range(CLASSES)], folder)
    return export_run(folder, folder / "model.onnx")


def write_sounds(folder: Path, clips: int, seconds: int) -> dict[str, Path]:
    """Write a folder of clips, a recording, and its first tenth."""
    rng = np.random.default_rng(0)
    (folder / "clips").mkdir()
    for i in range(clips):
        soundfile.write(folder / "clips" / f"{i:04}.wav", 0.1 * rng.standard_normal(RATE), RATE)
    for name, length in (("recording.wav", seconds), ("tenth.wav", seconds // 10)):
        with soundfile.SoundFile(folder / name, "w", RATE, 1) as file:
            for _ in range(length):
                file.write(0.1 * rng.standard_normal(RATE))
    return {
        name: folder / path
        for name, path in (("clips", "clips"), ("recording", "recording.wav"), ("tenth", "tenth.wav"))
    }


def predict(model: Path, sounds: Path, out: Path, jobs: int) -> list[str]:
    """Give the words of the command."""
    words = ["-m", "specenhance", "predict", model, sounds, "--out", out, "--jobs", jobs]
    return [sys.executable, *map(str, words)]


def run(words: list[str]) -> float:
    """Run a process to its end; give the peak of what it and its children have resident, in MB."""
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}  # as a user's shell has it
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    peak = [0.0]

    def watch() -> None:
        while process.poll() is None:
            peak[0] = max(peak[0], _resident(process.pid))
            time.sleep(0.05)

    watching = threading.Thread(target=watch)
    watching.start()
    _, error = process.communicate()
    watching.join()
    if process.returncode:
        raise RuntimeError(error.decode())
    return peak[0]


def _resident(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has ended
        return 0.0
    own = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0)
    return own / 1024 + sum(_resident(int(child)) for child in children)


def measure(clips: int = 1000, seconds: int = 3600, rounds: int = 3) -> dict[str, Any]:
    """Give the rows of the table, and the ratios to the loops."""
    rows, ratios = [], {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        model = write_model(folder)
        sounds = write_sounds(folder, clips, seconds)
        for what, length in (("clips", clips), ("recording", seconds)):
            memory: dict[str, float] = {}
            cpu: dict[str, list[float]] = {}

            def process(
                name: str,
                words: list[str],
                memory: dict[str, float] = memory,
                cpu: dict[str, list[float]] = cpu,
            ) -> Callable[[], Any]:
                def once() -> None:
                    before = os.times()
                    memory[name] = max(memory.get(name, 0.0), run(words))
                    after = os.times()
                    used = after.children_user + after.children_system - before.children_user - before.children_system
                    cpu.setdefault(name, []).append(used)

                return once

            loop = [sys.executable, "-c", LOOPS[what], str(model), str(sounds[what])]
            candidates = {
                LOOP: process(LOOP, [*loop, "0"]),
                LOOP_1: process(LOOP_1, [*loop, "1"]),
            }
            ours = {f"predict --out --jobs {jobs}": jobs for jobs in (1, 2)}
            for name, jobs in ours.items():
                candidates[name] = process(name, predict(model, sounds[what], folder / "table.csv", jobs))
            times = take_turns(candidates, rounds)
            for name, values in times.items():
                row = {
                    "of": f"{clips:,} clips of a second" if what == "clips" else f"a recording of {seconds:,} s",
                    "way": name,
                    "seconds": spread(values),
                    "times as fast as it plays": spread([length / value for value in values]),
                    "CPU seconds": spread(cpu[name]),
                    "peak MB": memory[name],
                }
                if name in ours:
                    for other in (LOOP, LOOP_1):
                        row[f"faster than {other}"] = ratio(times, other, name)
                        ratios[f"predict, {what}: {other} / {name}"] = ratio(times, other, name)
                rows.append(row)
        short = run(predict(model, sounds["tenth"], folder / "table.csv", 1))
        rows.append({"of": f"its first {seconds // 10:,} s", "way": "predict --out --jobs 1", "peak MB": short})
    return {"rows": rows, "ratios": ratios}


BENCHMARK = Benchmark(
    "Prediction over folders and long recordings",
    __doc__,
    measure,
    {"seconds": ".1f", "CPU seconds": ".1f", "times as fast as it plays": ".0f", "peak MB": ".0f"},
    arguments=[
        Argument("--clips", type=int, default=1000, help="number of clips"),
        Argument("--seconds", type=int, default=3600, help="length of the recording"),
    ],
    form=".2f",
)

if __name__ == "__main__":
    main(BENCHMARK)
