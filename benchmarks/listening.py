"""What does ``listen`` hear of the test clips of a run in one long stream, and what does it hear that is not there?

The clips follow each other in random order, with pauses of 1.5 to 3 s between: silence, noise of a level, or other recordings.

    python benchmarks/listening.py RUN/model.onnx RUN --background background --pauses FOLDER
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from specenhance.audio import read_samples
from specenhance.audio.listen import Event, events, listen
from specenhance.deploy.runtime import OnnxModel
from specenhance.training.build import build_split
from specenhance.training.recipe import load_recipe

Placed = tuple[float, float, int]  # seconds from, seconds to, label

# Hop as a part of the window, and what `events` is given: each window alone, the defaults, and a third window.
SETTINGS = {
    "every half window, alone": (2, {"threshold": 0.5, "margin": 0.0, "level": -math.inf, "agree": 1}),
    "defaults": (8, {}),
    "defaults, --agree 3": (8, {"agree": 3}),
}


class Score(NamedTuple):
    """Clips that were heard, events beside a clip that name another class, and events where there is no clip."""

    heard: int
    wrong: int
    false: int


def score(found: Iterable[Event], clips: list[Placed], background: int | None, longest: float = 3.0) -> Score:
    """Compare events with the clips that they should be; one that goes on for longer than any clip is false."""
    heard, wrong, false = set(), 0, 0
    for event in found:
        if event.label == background:
            continue
        near = [i for i, (start, end, _) in enumerate(clips) if min(end, event.end) - max(start, event.start) > 0.25]
        right = {i for i in near if clips[i][2] == event.label}
        if not near or event.end - event.start > longest:
            false += 1
        elif right:
            heard |= right
        else:
            wrong += 1
    return Score(len(heard), wrong, false)


def stream(
    clips: list[tuple[np.ndarray, int]], pause: Callable[[int], np.ndarray], rate: int
) -> tuple[np.ndarray, list[Placed]]:
    """Put clips after each other, a pause of so many samples before each; say where they lie."""
    rng = np.random.default_rng(0)
    parts: list[np.ndarray] = []
    placed: list[Placed] = []
    at = 0
    for i in rng.permutation(len(clips)):
        waveform, label = clips[i]
        between = pause(int(rate * rng.uniform(1.5, 3)))
        at += len(between)
        placed.append((at / rate, (at + len(waveform)) / rate, label))
        parts += [between, waveform]
        at += len(waveform)
    return np.concatenate(parts).astype(np.float32), placed


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="an exported ONNX file")
    parser.add_argument("run", type=Path, help="the run folder that names the test clips")
    parser.add_argument("--background", help="the class that is no event")
    parser.add_argument("--pauses", type=Path, help="a folder of recordings for a third stream")
    options = parser.parse_args()
    model = OnnxModel(options.model, threads=1)
    background = model.classes.index(options.background) if options.background else None
    data = build_split(load_recipe(options.run / "recipe.toml"), "test")
    clips = [(data[i][0].numpy(), data[i][1]) for i in range(len(data)) if data[i][1] != background]
    alone = sum(int(model.probabilities(waveform).argmax()) == label for waveform, label in clips)
    print(f"{len(clips)} clips, {alone} right when each is alone; heard, wrong, false:")
    rng = np.random.default_rng(1)
    kinds: dict[str, tuple[Callable[[int], np.ndarray], float]] = {
        "silence": (np.zeros, 0.0),
        "noise of -60 dBFS over all": (np.zeros, 0.001),
    }
    if options.pauses:
        sounds = sorted(path for path in options.pauses.rglob("*") if path.is_file())
        recordings = iter([sounds[i] for i in rng.permutation(len(sounds))] * 10)
        kinds["recordings"] = (lambda length: read_samples(next(recordings), model.sample_rate)[:length], 0.0)
    for kind, (pause, noise) in kinds.items():
        sound, placed = stream(clips, pause, model.sample_rate)
        sound += (noise * rng.standard_normal(len(sound))).astype(np.float32)
        blocks = np.array_split(sound, 500)
        for name, (part, settings) in SETTINGS.items():
            found = events(listen(model, blocks, model.clip_samples, model.clip_samples // part), **settings)
            print(f"  {kind}; {name}: {', '.join(map(str, score(found, placed, background)))}", flush=True)


if __name__ == "__main__":
    main()
