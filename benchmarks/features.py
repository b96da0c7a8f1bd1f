"""How much sound a second does each feature module transform?

Each feature module on a batch of 48 clips of 5 s, beside ``torchaudio.compliance.kaldi.fbank`` clip by clip in
a Python loop.

    python benchmarks/features.py --threads 2 --device cpu
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torchaudio
from command import Benchmark, main
from side_by_side import ratio, spread, take_turns
from torch import Tensor

from specenhance.features import KaldiFbank, Leaf, LogMel, SincNet, TrainableMel

SAMPLE_RATE = 16000
B, SECONDS = 48, 5.0
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


def measure(rounds: int = 10, device: str = "cpu") -> dict[str, Any]:
    """Give the rows of the table, and the ratios by which the suite is checked."""
    generator = torch.Generator().manual_seed(0)
    clips = (0.1 * torch.randn(B, int(SECONDS * SAMPLE_RATE), generator=generator)).to(device)
    modules: dict[str, Callable[[Tensor], Tensor]] = {
        REFERENCE: torchaudio_fbank,
        "KaldiFbank": KaldiFbank().to(device),
        "LogMel": LogMel().to(device),
        "TrainableMel": TrainableMel().to(device),
        "TrainableMel, trainable_stft": TrainableMel(trainable_stft=True).to(device),
        "Leaf": Leaf().to(device),
        "Leaf, 40 bins": Leaf(num_mel_bins=40).to(device),
        "SincNet, 40 bins": SincNet(num_mel_bins=40).to(device),
    }

    def call(features: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def made() -> None:
            with torch.no_grad():
                features(clips)

        return made

    times = take_turns({name: call(features) for name, features in modules.items()}, rounds)
    rows = [
        {
            "features": name,
            "ms": spread(measured).scaled(1e3),
            "hours of sound a second": B * SECONDS / 3600 / spread(measured).median,
            "times faster than clip by clip": ratio(times, REFERENCE, name),
            "times KaldiFbank's time": ratio(times, name, "KaldiFbank"),
        }
        for name, measured in times.items()
    ]
    ratios = {
        "features: clip by clip / KaldiFbank": ratio(times, REFERENCE, "KaldiFbank"),
        "features: KaldiFbank / Leaf": ratio(times, "KaldiFbank", "Leaf"),
    }
    return {"rows": rows, "ratios": ratios}


BENCHMARK = Benchmark(
    "Features",
    __doc__,
    measure,
    {
        "ms": ".1f",
        "hours of sound a second": ".3f",
        "times faster than clip by clip": ".2f",
        "times KaldiFbank's time": ".2f",
    },
)

if __name__ == "__main__":
    main(BENCHMARK)
