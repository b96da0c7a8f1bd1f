"""How long does a user wait for the first word? Whole processes, from their start.

`python -c pass` is what Python itself takes. A wrong argument is one that does not exist, a wrong name one that no front end
has. `predict` gets a WAV file of a second and an ONNX file (mobilenetv3_small_050 with TFE(4), random weights). Of `train` the
time to its first line is taken, which says where the run folder is; what comes after it loads PyTorch, whose import is a row.

    python benchmarks/startup.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from command import Benchmark, main
from predict import RATE, write_model
from side_by_side import ratio, spread, take_turns

BARE, TRAIN = "python -c pass", "train: the first line"
WRONG_NAME = "a wrong name"  # mostly the import of PyTorch


def ends_with(code: int, *words: str) -> Callable[[], None]:
    """Give a call that runs Python with some words and sees that it ends with an exit code."""

    def made() -> None:
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
        if done.returncode != code:
            raise RuntimeError(f"{words} ended with {done.returncode}, not {code}: {done.stderr}")

    return made


def first_line(words: Sequence[str], starts: str) -> Callable[[], None]:
    """Give a call that starts Python with some words, waits for its first line, and kills it."""

    def made() -> None:
        with subprocess.Popen([sys.executable, "-u", *words], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            process.kill()
        if not line.startswith(starts):
            raise RuntimeError(f"{words} printed {line!r} first, not {starts!r}")

    return made


def measure(rounds: int = 7) -> dict[str, Any]:
    """Give the rows of the table, and the ratios by which the suite is checked."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        model, sound = write_model(folder), folder / "sound.wav"
        soundfile.write(sound, 0.1 * np.random.default_rng(0).standard_normal(RATE), RATE)
        ours = ("-m", "specenhance")
        training = (*ours, "train", "--data", "synthetic", "--out", str(folder / "run"))
        candidates = {
            BARE: ends_with(0, "-c", "pass"),
            "import torch": ends_with(0, "-c", "import torch"),
            "import specenhance": ends_with(0, "-c", "import specenhance"),
            "--help": ends_with(0, *ours, "--help"),
            "a wrong argument": ends_with(2, *ours, "train", "--dat", "esc50"),
            WRONG_NAME: ends_with(1, *ours, "train", "--data", "synthetic", "--frontend", "tfx"),
            "predict --model": ends_with(0, *ours, "predict", "--model", str(model), str(sound)),
            TRAIN: first_line(training, "training in"),
        }
        times = take_turns(candidates, rounds)
    rows = [
        {"process": name, "seconds": spread(values), "times python -c pass": ratio(times, name, BARE)}
        for name, values in times.items()
    ]
    left = [name for name in candidates if name not in (BARE, "import torch", WRONG_NAME)]
    return {"rows": rows, "ratios": {f"start-up: {BARE} / {name}": ratio(times, BARE, name) for name in left}}


BENCHMARK = Benchmark("Start-up", __doc__, measure, {"seconds": ".2f", "times python -c pass": ".0f"})

if __name__ == "__main__":
    main(BENCHMARK)
