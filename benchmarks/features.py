"""How many seconds of sound a second does each feature module transform?

KaldiFbank, LogMel and TrainableMel, batched, beside ``torchaudio.compliance.kaldi.fbank`` clip by clip in a Python loop.
The candidates take turns in one process, so that a busy machine slows all of them alike; a row is the median of the rounds
with its quartiles.

    python benchmarks/features.py --batch 48 --seconds 5 --threads 2
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchaudio
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


def measure(candidates: dict[str, Callable[[Tensor], Tensor]], clips: Tensor, rounds: int) -> dict[str, list[float]]:
    """Time each candidate once a round, seconds; the first two rounds warm up and are left out."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 2):
        # In another order each round: what ran before leaves its mark on caches and on the allocator.
        for name, function in random.Random(turn).sample(list(candidates.items()), len(candidates)):
            synchronise(clips)
            start = time.perf_counter()
            function(clips)
            synchronise(clips)
            if turn >= 2:
                times[name].append(time.perf_counter() - start)
    return times


def synchronise(clips: Tensor) -> None:
    """Wait for the device that the clips are on."""
    if clips.is_cuda:
        torch.cuda.synchronize(clips.device)


def main() -> None:
    """Measure, print the table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=48, help="clips")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a clip")
    parser.add_argument("--threads", type=int, default=2, help="torch's CPU threads")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(0)
    clips = 0.1 * torch.randn(args.batch, int(args.seconds * SAMPLE_RATE), generator=generator)
    clips = clips.to(args.device)
    candidates: dict[str, Callable[[Tensor], Tensor]] = {
        REFERENCE: torchaudio_fbank,
        "KaldiFbank": KaldiFbank().to(args.device),
        "LogMel": LogMel().to(args.device),
        "TrainableMel": TrainableMel().to(args.device),
        "TrainableMel, trainable_stft": TrainableMel(trainable_stft=True).to(args.device),
    }
    with torch.no_grad():
        times = measure(candidates, clips, args.rounds)

    sound = args.batch * args.seconds
    reference = statistics.median(times[REFERENCE])
    rows = []
    for name, measured in times.items():
        low, median, high = statistics.quantiles(measured, n=4, method="inclusive")
        rows.append(
            {
                "name": name,
                "milliseconds": 1e3 * median,
                "quartiles": [1e3 * low, 1e3 * high],
                "sound_per_second": sound / median,
                "ratio": reference / median,
            }
        )
    print(
        f"{args.batch} clips of {args.seconds} s on {args.device}, {args.threads} threads, torch {torch.__version__}, "
        f"{args.rounds} rounds"
    )
    print(f"{'':32} {'ms (quartiles)':>24} {'s of sound / s':>15} {'ratio':>7}")
    for row in rows:
        spread = "{:.1f} ({:.1f} to {:.1f})".format(row["milliseconds"], *row["quartiles"])
        print(f"{row['name']:32} {spread:>24} {row['sound_per_second']:>15,.0f} {row['ratio']:>7.2f}")
    if args.json:
        about = {"torch": torch.__version__, "machine": platform.processor() or platform.machine()}
        settings = {"batch": args.batch, "seconds": args.seconds, "threads": args.threads, "device": args.device}
        args.json.write_text(json.dumps({**about, **settings, "rounds": args.rounds, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
