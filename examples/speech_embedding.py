"""Google's speech embedding of each clip of a folder, for ``specenhance train --teacher embedding:FILE.npz``.

    python examples/speech_embedding.py SOUNDS keywords.npz --models MODELS

MODELS is a folder with ``melspectrogram.onnx`` and ``embedding_model.onnx``. The PyPI package openwakeword 0.5.1 has them in
``openwakeword/resources/models`` (Apache-2.0). A clip is a second of sound at 16 kHz. It has three windows of 76 frames,
with 96 values each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile

RATE, WINDOW, HOP, WINDOWS = 16000, 76, 8, 3


def main() -> None:
    """Write the values of all clips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sounds", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", type=Path, required=True)
    options = parser.parse_args()
    mel, embed = (
        onnxruntime.InferenceSession(options.models / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("melspectrogram", "embedding_model")
    )
    names, values = [], []
    for path in sorted(options.sounds.rglob("*.*")):
        if path.suffix not in (".wav", ".flac"):
            continue
        sound, rate = soundfile.read(path, dtype="float32")
        if rate != RATE or sound.ndim != 1:
            raise SystemExit(f"{path}: {rate} Hz, {sound.shape}: expected 16 kHz and one channel")
        sound = np.pad(sound, (0, max(0, RATE - len(sound))))[:RATE] * 32767
        (spec,) = mel.run(None, {mel.get_inputs()[0].name: sound[None]})
        spec = spec.reshape(-1, 32) / 10 + 2  # as the embedding was trained
        windows = np.stack([spec[HOP * i : HOP * i + WINDOW] for i in range(WINDOWS)])[..., None]
        (found,) = embed.run(None, {embed.get_inputs()[0].name: windows})
        names.append(path.relative_to(options.sounds).as_posix())
        values.append(found.ravel())
    np.savez_compressed(options.out, names=names, values=np.array(values, dtype=np.float16))
    print(f"{options.out}: {len(names):,} clips, {len(values[0])} values each")


if __name__ == "__main__":
    main()
