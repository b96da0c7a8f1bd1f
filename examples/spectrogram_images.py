"""Draw each clip of a data set as a grey image of its spectrogram, for tools that train on folders of images.

    python examples/spectrogram_images.py IMAGES                    # built-in sounds
    python examples/spectrogram_images.py IMAGES my_sounds          # my_sounds/LABEL/*.wav

It writes ``IMAGES/train/LABEL/0.png`` and so on, also for the splits validation and test. A row of an image is a time frame. A
column is a mel bin. Black is silence (the floor of the logarithm), and white is about the energy of a full-scale tone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from specenhance import KaldiFbank
from specenhance.data import AudioFolder, SyntheticSounds
from specenhance.features.base import LOG_FLOOR

LOUDEST = 10.0  # log energy


def main() -> None:
    """Write the images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("root", nargs="?", help="folder of sounds; the default is the built-in data set")
    parser.add_argument("--frames", type=int, default=96, help="frames of 10 ms; clips are cut or padded to them")
    parser.add_argument("--clips-per-class", type=int, default=50, help="of the built-in sounds, for training")
    options = parser.parse_args()
    features = KaldiFbank(frames=options.frames, mean=0.0, std=0.5)  # (x - 0) / (2 * 0.5): the energies themselves
    floor = float(np.log(LOG_FLOOR))
    try:
        for split in ("train", "validation", "test"):
            clips = options.clips_per_class if split == "train" else -(-options.clips_per_class // 5)
            data = AudioFolder(options.root, split=split) if options.root else SyntheticSounds(split, clips)
            for i, (waveform, label) in enumerate(data):
                with torch.no_grad():
                    energies = features(waveform[None])[0, 0].numpy()
                grey = (np.clip((energies - floor) / (LOUDEST - floor), 0, 1) * 255).round().astype(np.uint8)
                folder = options.images / split / data.classes[label]
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(grey).save(folder / f"{i}.png")
            print(f"{options.images / split}: {len(data)} images of {grey.shape[0]} frames and {grey.shape[1]} bins")
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
