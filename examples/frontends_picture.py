"""Draw what each front end makes of one sound, and of the same sound 12 dB softer in noise.

python examples/frontends_picture.py SOUND.flac docs/images/frontends.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from specenhance import KaldiFbank, create_frontend
from specenhance.analysis.plots import save_figure
from specenhance.data import read_audio
from specenhance.frontends.base import apply_frontend, needs_energies

NAMES = {
    "identity": "identity",
    "clipnorm": "clipnorm",
    "binnorm": "binnorm",
    "rfn": "rfn",
    "pcen": "pcen*",
    "delta, 1": "delta, second channel",
    "delta, 2": "delta, third channel",
    "coord, 1": "coord, second channel",
    "freqnorm": "freqnorm*",
    "tfe4": "tfe4*",
    "tfe4s": "tfe4s*",
    "tfa": "tfa*",
    "coordattn": "coordattn*",
    "cbam": "cbam*",
    "eca": "eca*",
}
FRAMES, COLUMNS = 98, 3


def sounds(path: Path) -> Tensor:
    """Read a sound, and make it 12 dB softer in white noise at 20 dB: ``(2, samples)``."""
    clean = read_audio(path)[:16000]
    clean = torch.nn.functional.pad(clean, (0, 16000 - len(clean)))
    softer = clean * 10 ** (-12 / 20)
    noise = torch.randn(len(clean), generator=torch.Generator().manual_seed(0))
    noise *= softer.square().mean().sqrt() * 10 ** (-20 / 20)
    return torch.stack([clean, softer + noise])


def draw(waveforms: Tensor) -> Figure:
    """Draw a panel for each front end: left the clean sound, right the other one. Both have one scale of colours."""
    features = KaldiFbank(frames=FRAMES)
    spec = features(waveforms)
    figure = Figure(figsize=(7.2, 8), layout="constrained")
    panels = figure.subplots(-(-len(NAMES) // COLUMNS), COLUMNS).flat
    for axes, (name, title) in zip(panels, NAMES.items(), strict=True):
        kind, _, channel = name.partition(", ")
        torch.manual_seed(0)
        frontend = create_frontend(kind)
        if needs_energies(frontend):
            frontend.set_normalisation(features.mean, features.std)
        with torch.no_grad():
            made = apply_frontend(frontend.eval(), spec, None)[:, int(channel or 0)]
        both = torch.cat([made[0], torch.full((3, made.shape[2]), torch.nan), made[1]])
        image = axes.imshow(both.T, origin="lower", aspect="auto", cmap="magma", interpolation="none")
        figure.colorbar(image, ax=axes)
        axes.set(title=title, xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    save_figure(draw(sounds(Path(sys.argv[1]))), Path(sys.argv[2]))
