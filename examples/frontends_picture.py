"""Draw what each front end makes of one sound, and of the same sound 12 dB softer in noise.

python examples/frontends_picture.py SOUND.flac docs/images/frontends.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from specenhance import KaldiFbank, create_frontend
from specenhance.analysis.plots import save_figure
from specenhance.conditions import create_condition
from specenhance.data import read_audio
from specenhance.frontends.base import apply_frontend, needs_energies

# front ends, and which channel of the result is drawn
PANELS = [
    *((name, 0) for name in ("identity", "clipnorm", "binnorm", "rfn", "pcen")),
    *(("delta", 1), ("delta", 2), ("coord", 1)),
    *((name, 0) for name in ("freqnorm", "tfe4", "tfe4s", "tfa", "coordattn", "cbam", "eca")),
]
RATE, FRAMES, COLUMNS = 16000, 98, 3


def sounds(path: Path) -> Tensor:
    """Read a sound, and make it 12 dB softer in white noise at 20 dB: ``(2, samples)``."""
    clean = read_audio(path, RATE)[:RATE]
    clean = torch.nn.functional.pad(clean, (0, RATE - len(clean)))
    harder = clean.numpy()
    for name in ("gain:-12", "noise:20"):
        harder = create_condition(name)(harder, RATE, np.random.default_rng(0))
    return torch.stack([clean, torch.tensor(np.asarray(harder, np.float32))])


def draw(waveforms: Tensor) -> Figure:
    """Draw a panel for each front end: left the clean sound, right the other one. Both have one scale of colours."""
    features = KaldiFbank(frames=FRAMES)
    spec = features(waveforms)
    figure = Figure(figsize=(7.2, 8), layout="constrained")
    panels = figure.subplots(-(-len(PANELS) // COLUMNS), COLUMNS).flat
    for axes, (name, channel) in zip(panels, PANELS, strict=True):
        torch.manual_seed(0)
        frontend = create_frontend(name)
        if needs_energies(frontend):
            frontend.set_normalisation(features.mean, features.std)
        with torch.no_grad():
            made = apply_frontend(frontend.eval(), spec, None)[:, channel]
        both = torch.cat([made[0], torch.full((3, made.shape[2]), torch.nan), made[1]])
        image = axes.imshow(both.T, origin="lower", aspect="auto", cmap="magma", interpolation="none")
        figure.colorbar(image, ax=axes)
        star = "*" if any(p.requires_grad for p in frontend.parameters()) else ""
        title = f"{name}{star}, channel {channel + 1}" if channel else f"{name}{star}"
        axes.set(title=title, xticks=[], yticks=[])
    return figure


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sound", type=Path, help="a sound; its first second is drawn")
    parser.add_argument("out", type=Path, help="the picture, .png, .pdf or .svg")
    options = parser.parse_args()
    try:
        save_figure(draw(sounds(options.sound)), options.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
