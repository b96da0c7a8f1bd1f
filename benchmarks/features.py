"""How much sound a second does each feature module transform?

KaldiFbank, LogMel and TrainableMel, batched, beside ``torchaudio.compliance.kaldi.fbank`` clip by clip in a Python loop.

    python benchmarks/features.py --batch 48 --seconds 5 --threads 2
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchaudio
from side_by_side import machine, ratio, save, show, spread, take_turns
from torch import Tensor

from specenhance.features import KaldiFbank, LogMel, TrainableMel

SAMPLE_RATE = 16000
REFERENCE = "torchaudio fbank, clip by clip"


def torchaudio_fbank(clips: Tensor) -> Tensor:
    """Map clips (B, samples) to AST's log energies (B, T, F) with torchaudio, one clip after the other."""
    return torch.stack(
        [
            torchaudio.compliance.kaldi.fbank(
                (clip - clip.mean())[None],
                htk_compat=True,
                sample_frequency=SAMPLE_RATE,
                use_energy=False,
                window_type="hanning",
                num_mel_bins=128,
                dither=0.0,
                frame_shift=10,
            )
            for clip in clips
        ]
    )


def measure(rounds: int = 10, batch: int = 48, seconds: float = 5.0, device: str = "cpu") -> dict[str, Any]:
    """Give the rows of the table, and the ratios by which the suite is checked."""
    generator = torch.Generator().manual_seed(0)
    clips = (0.1 * torch.randn(batch, int(seconds * SAMPLE_RATE), generator=generator)).to(device)
    modules: dict[str, Callable[[Tensor], Tensor]] = {
        REFERENCE: torchaudio_fbank,
        "KaldiFbank": KaldiFbank().to(device),
        "LogMel": LogMel().to(device),
        "TrainableMel": TrainableMel().to(device),
        "TrainableMel, trainable_stft": TrainableMel(trainable_stft=True).to(device),
    }

    def call(features: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def made() -> None:
            with torch.no_grad():
                features(clips)
            if clips.is_cuda:
                torch.cuda.synchronize(clips.device)

        return made

    times = take_turns({name: call(features) for name, features in modules.items()}, rounds)
    rows = [
        {
            "features": name,
            "ms": spread(measured).text(1e3, 1),
            "hours of sound a second": f"{batch * seconds / 3600 / spread(measured).median:.3f}",
            "times faster than clip by clip": ratio(times, REFERENCE, name).text(),
        }
        for name, measured in times.items()
    ]
    return {"rows": rows, "ratios": {"features: clip by clip / KaldiFbank": ratio(times, REFERENCE, "KaldiFbank")}}


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=48, help="clips")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a clip")
    parser.add_argument("--threads", type=int, default=2, help="torch's CPU threads")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    report = measure(arguments.rounds, arguments.batch, arguments.seconds, arguments.device)
    show(f"{arguments.batch} clips of {arguments.seconds} s on {arguments.device}", report["rows"])
    save(arguments.json, {"machine": machine(), **report})


if __name__ == "__main__":
    main()
