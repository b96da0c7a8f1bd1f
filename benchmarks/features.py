"""How much sound a second does each feature module transform?

Each feature module on a batch of 48 clips of 5 s, beside ``torchaudio.compliance.kaldi.fbank`` and kaldi-native-fbank clip by
clip in a Python loop, and speechbrain's Leaf. The floor is what no log-mel of these sizes goes without: one real Fourier
transform of frames that are there already, and one product of a matrix with the filters, a clip at a time. A profile of
KaldiFbank on one thread found 40% of its time in these two; 14% copies and fills frames, 11% subtracts means and the sample
before, 9% squares and adds, 6% takes logarithms, 5% joins the clips: passes over memory that only one kernel could save.

    python benchmarks/features.py --threads 2 --device cpu
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kaldi_native_fbank
import torch
import torchaudio
from command import Benchmark, main
from side_by_side import ratio, spread, take_turns
from torch import Tensor

from specenhance.features import KaldiFbank, Leaf, LogMel, SincNet, TrainableMel

SAMPLE_RATE = 16000
B, SECONDS = 48, 5.0
REFERENCE, NATIVE, FLOOR = (
    "torchaudio fbank, clip by clip",
    "kaldi-native-fbank, 80 bins, clip by clip",
    "floor of a log-mel",
)
NARROW, THEIR_LEAF = "KaldiFbank, 80 bins", "speechbrain's Leaf, 40 bins"


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


def native_fbank(clips: Tensor) -> Tensor:
    """Map clips (B, samples) to log energies (B, T, 80) with kaldi-native-fbank, which refuses 128 bins, clip by clip."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = "hanning"
    options.mel_opts.num_bins = 80
    options.use_energy = False
    options.htk_compat = True
    made = []
    for clip in clips:
        fbank = kaldi_native_fbank.OnlineFbank(options)
        fbank.accept_waveform(SAMPLE_RATE, (clip - clip.mean()).numpy())
        fbank.input_finished()
        made.append(torch.stack([torch.from_numpy(fbank.get_frame(t)) for t in range(fbank.num_frames_ready)]))
    return torch.stack(made)


def floor_of(module: KaldiFbank, clips: Tensor) -> Callable[[Tensor], None]:
    """Give a call of the Fourier transform and the product alone, of frames that are cut and padded beforehand."""
    frames = clips.unfold(-1, module.window_length, module.hop_length)
    frames = torch.nn.functional.pad(frames, (0, module.n_fft - module.window_length)).contiguous()
    mel = module.mel
    power = torch.rand(frames.shape[1], mel.shape[0], device=clips.device)

    def made(_: Tensor) -> None:
        for clip in frames:
            torch.fft.rfft(clip)
            power @ mel

    return made


def their_leaf() -> Callable[[Tensor], Tensor]:
    """Make speechbrain's Leaf, with its defaults at 16 kHz."""
    from speechbrain.lobes.features import Leaf as Theirs

    return Theirs(out_channels=40, in_channels=1, sample_rate=SAMPLE_RATE, window_len=25.0, window_stride=10.0).eval()


def measure(rounds: int = 10, device: str = "cpu") -> dict[str, Any]:
    """Give the rows of the table, and the ratios by which the suite is checked."""
    generator = torch.Generator().manual_seed(0)
    clips = (0.1 * torch.randn(B, int(SECONDS * SAMPLE_RATE), generator=generator)).to(device)
    kaldi = KaldiFbank().to(device)
    modules: dict[str, Callable[[Tensor], Any]] = {
        REFERENCE: torchaudio_fbank,
        "KaldiFbank": kaldi,
        FLOOR: floor_of(kaldi, clips),
        "LogMel": LogMel().to(device),
        "TrainableMel": TrainableMel().to(device),
        "TrainableMel, trainable_stft": TrainableMel(trainable_stft=True).to(device),
        "Leaf": Leaf().to(device),
        "Leaf, 40 bins": Leaf(num_mel_bins=40).to(device),
        "SincNet, 40 bins": SincNet(num_mel_bins=40).to(device),
    }
    if device == "cpu":
        modules |= {NARROW: KaldiFbank(num_mel_bins=80), NATIVE: native_fbank, THEIR_LEAF: their_leaf()}

    def call(features: Callable[[Tensor], Any]) -> Callable[[], None]:
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
        "features: floor / KaldiFbank": ratio(times, FLOOR, "KaldiFbank"),
        "features: KaldiFbank / Leaf": ratio(times, "KaldiFbank", "Leaf"),
    }
    if device == "cpu":
        ratios["features: kaldi-native-fbank / KaldiFbank, 80 bins"] = ratio(times, NATIVE, NARROW)
        ratios["features: speechbrain's Leaf / Leaf, 40 bins"] = ratio(times, THEIR_LEAF, "Leaf, 40 bins")
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
