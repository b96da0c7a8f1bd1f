"""Features: against torchaudio, nnAudio and a literal float64 formula; lengths, padding, dtypes, gradients, errors."""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from specenhance.features import (
    LOG_FLOOR,
    NORMALISATION,
    KaldiFbank,
    LogMel,
    TrainableMel,
    create_features,
    kaldi_mel_banks,
    list_features,
)

RAW = {"mean": 0.0, "std": 0.5}  # (x - mean) / (2 * std) is then x
MEL = ["kaldi", "logmel", "trainable_mel"]
ALL = [*MEL, "leaf", "sincnet"]
LEARNED = {"trainable_mel": ["mel_basis"], "leaf": ["centre", "length", "width"], "sincnet": ["low", "band"]}
DATA = Path(__file__).parents[3] / "shared" / "data"
AST = {
    "htk_compat": True,
    "sample_frequency": 16000,
    "use_energy": False,
    "window_type": "hanning",
    "num_mel_bins": 128,
    "dither": 0.0,
    "frame_shift": 10,
}


def torchaudio_fbank(clips: Tensor, **settings: object) -> Tensor:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    return torch.stack([kaldi.fbank((clip - clip.mean())[None], **AST | settings) for clip in clips])


def literal_fbank(clips: Tensor) -> Tensor:
    """Write AST's fbank out in float64, one step of Kaldi's after the other."""
    clips = clips.double()
    rows = []
    for clip in clips:
        clip = clip - clip.mean()
        count = 1 + (len(clip) - 400) // 160
        frames = torch.stack([clip[160 * t : 160 * t + 400] for t in range(count)])
        frames = frames - frames.mean(dim=1, keepdim=True)
        previous = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
        window = 0.5 - 0.5 * torch.cos(2 * torch.pi * torch.arange(400, dtype=torch.float64) / 399)
        padded = torch.zeros(count, 512, dtype=torch.float64)
        padded[:, :400] = (frames - 0.97 * previous) * window
        power = torch.fft.fft(padded)[:, :257].abs() ** 2
        rows.append(
            torch.log((power @ kaldi_mel_banks(128, 512, 16000)[0].double().T).clamp(min=1.1920928955078125e-07))
        )
    return torch.stack(rows)


def made_sound(seconds: float = 5.0) -> Tensor:
    """Make clips (6, samples): noise, chirp, harmonics with an offset, clicks, bursts between digital silence, silence."""
    generator = torch.Generator().manual_seed(0)
    t = torch.arange(int(16000 * seconds)) / 16000
    noise = torch.randn(len(t), generator=generator)
    return torch.stack(
        [
            0.1 * noise,
            0.5 * torch.sin(2 * torch.pi * (100 * t + 700 * t**2)) + 1e-3 * noise,
            sum(torch.sin(2 * torch.pi * 220 * n * t) / (4 * n) for n in range(1, 20)) + 0.3 + 1e-4 * noise,
            (torch.arange(len(t)) % 4000 == 0).float() + 1e-3 * noise,
            0.2 * noise * (torch.sin(2 * torch.pi * 2 * t) > 0),
            torch.zeros(len(t)),
        ]
    )


def real_clips(folder: str, count: int) -> Tensor:
    soundfile = pytest.importorskip("soundfile")
    files = sorted((DATA / folder).rglob("*.flac"))
    if not files:
        pytest.skip(f"no recordings in {DATA / folder}")
    clips = [torch.from_numpy(soundfile.read(file, dtype="float32")[0]) for file in files[:: len(files) // count]]
    longest = max(map(len, clips))
    return torch.stack([clip for clip in clips if len(clip) == longest])


def make(name: str, **kwargs: object) -> torch.nn.Module:
    if name == "logmel":
        pytest.importorskip("torchaudio")
    return create_features(name, **kwargs)


# KaldiFbank is Kaldi's


@pytest.mark.parametrize(("bins", "n_fft", "rate"), [(128, 512, 16000), (23, 256, 8000), (64, 2048, 44100)])
def test_mel_banks_equal_torchaudios_bit_for_bit(bins: int, n_fft: int, rate: int) -> None:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    theirs, _ = kaldi.get_mel_banks(bins, n_fft, float(rate), 20.0, 0.0, 100.0, -500.0, 1.0)
    ours, frequencies = kaldi_mel_banks(bins, n_fft, rate)
    assert torch.equal(ours[:, :-1], theirs)
    assert torch.equal(ours[:, -1], torch.zeros(bins))
    assert len(frequencies) == bins


def test_kaldi_equals_torchaudio_on_made_sound() -> None:
    clips = made_sound()
    difference = (KaldiFbank(**RAW)(clips)[:, 0] - torchaudio_fbank(clips)).abs()
    assert difference.max() < 2e-3
    assert difference.mean() < 1e-5


@pytest.mark.parametrize(("folder", "count"), [("esc50_fold4", 40), ("arabic_speech_commands", 100)])
def test_kaldi_equals_torchaudio_on_real_clips(folder: str, count: int) -> None:
    clips = real_clips(folder, count)
    difference = (KaldiFbank(**RAW)(clips)[:, 0] - torchaudio_fbank(clips)).abs()
    assert difference.max() < 2e-3
    assert difference.mean() < 1e-5
    # In float64 the rounding is gone; in float32 it is as large as torchaudio's own.
    exact = literal_fbank(clips[:20])
    assert (KaldiFbank(**RAW)(clips[:20].double())[:, 0] - exact).abs().max() < 1e-8
    assert (KaldiFbank(**RAW)(clips[:20])[:, 0] - exact).abs().mean() < 1e-5


def test_kaldi_equals_the_literal_formula_in_float64() -> None:
    clips = made_sound(1.0).double()
    torch.testing.assert_close(KaldiFbank(**RAW)(clips)[:, 0], literal_fbank(clips), rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("rate", "bins", "length", "shift"), [(44100, 64, 25, 10), (22050, 40, 32, 12.5), (8000, 23, 20, 5)]
)
def test_kaldi_equals_torchaudio_at_other_settings(rate: int, bins: int, length: float, shift: float) -> None:
    clips = made_sound(1.0)
    ours = KaldiFbank(sample_rate=rate, num_mel_bins=bins, frame_length=length / 1e3, frame_shift=shift / 1e3, **RAW)
    theirs = torchaudio_fbank(
        clips, sample_frequency=rate, num_mel_bins=bins, frame_length=float(length), frame_shift=float(shift)
    )
    torch.testing.assert_close(ours(clips)[:, 0], theirs, rtol=0, atol=2e-3)
    assert ours.hop_seconds == pytest.approx(shift / 1e3, rel=0.01)


def test_defaults_are_those_of_the_recipes() -> None:
    kaldi = KaldiFbank(frames=512)
    assert (kaldi.mean, kaldi.std) == NORMALISATION["audioset"] == (-4.2677393, 4.5689974)
    assert NORMALISATION["esc50"] == (-6.6268077, 5.358466)
    assert NORMALISATION["speech_commands"] == (-6.845978, 5.5654526)
    assert (kaldi.frames, kaldi.sample_rate, kaldi.hop_seconds, len(kaldi.frequencies)) == (512, 16000, 0.01, 128)
    assert kaldi(torch.randn(2, 80000)).shape == (2, 1, 512, 128)
    assert KaldiFbank()(torch.randn(2, 80000)).shape == (2, 1, 498, 128)


# LogMel and TrainableMel


@pytest.mark.parametrize(("rate", "n_fft", "bins"), [(16000, 512, 128), (8000, 256, 40)])
def test_logmel_equals_torchaudios_transform(rate: int, n_fft: int, bins: int) -> None:
    transforms = pytest.importorskip("torchaudio.transforms")
    theirs = transforms.MelSpectrogram(
        rate, n_fft, hop_length=rate // 100, n_mels=bins, center=False, mel_scale="slaney"
    )
    clips = made_sound(1.0)
    ours = LogMel(sample_rate=rate, n_fft=n_fft, num_mel_bins=bins)
    expected = theirs(clips).clamp(min=LOG_FLOOR).log().transpose(1, 2)
    torch.testing.assert_close(ours(clips)[:, 0], expected, rtol=0, atol=1e-4)
    assert (ours.mel.sum(dim=0) > 0).all(), "a filter that catches no bin"


@pytest.mark.parametrize("trainable_stft", [False, True])
def test_trainable_mel_equals_nnaudios(trainable_stft: bool) -> None:
    from nnAudio.features.mel import MelSpectrogram

    theirs = MelSpectrogram(sr=16000, n_fft=512, hop_length=160, n_mels=128, center=False, norm=None, verbose=False)
    noise = made_sound(1.0)[:1]
    ours = TrainableMel(trainable_stft=trainable_stft)
    torch.testing.assert_close(ours(noise)[:, 0], theirs(noise).log().transpose(1, 2), rtol=0, atol=2e-3)


@pytest.mark.parametrize("trainable_stft", [False, True])
def test_trainable_mel_learns(trainable_stft: bool) -> None:
    features = TrainableMel(trainable_stft=trainable_stft)
    names = {name for name, _ in features.named_parameters()}
    assert names == ({"mel_basis", "wcos", "wsin"} if trainable_stft else {"mel_basis"})
    clips = made_sound(0.5)[:4]
    before = features(clips)
    before.square().mean().backward()
    for parameter in features.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()
    # The fastest of the recipes' rates must not turn filters off.
    optimiser = torch.optim.Adam(features.parameters(), lr=5e-4)
    for _ in range(5):
        optimiser.zero_grad()
        loss = features(clips).square().mean()
        loss.backward()
        optimiser.step()
    assert loss < before.square().mean()
    assert (features.mel_basis.sum(dim=1) > 0).all()


@pytest.mark.parametrize("trainable_stft", [False, True])
def test_trainable_mel_survives_silence_and_negative_filters(trainable_stft: bool) -> None:
    features = TrainableMel(trainable_stft=trainable_stft)
    with torch.no_grad():
        features.mel_basis[5:10] *= -1
    clips = torch.cat([made_sound(0.2)[:1], torch.zeros(1, 3200)]).requires_grad_()
    result = features(clips)
    assert result.isfinite().all()
    assert (result[:, :, :, 5:10] == result.min()).all()
    result.sum().backward()
    assert clips.grad is not None
    assert clips.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in features.parameters())


# What all of them share


@pytest.mark.parametrize("name", ALL)
def test_padding_is_zero_before_the_normalisation_and_cutting_is_at_the_end(name: str) -> None:
    clips = made_sound(0.5)
    raw = make(name, **RAW)(clips)
    T = raw.shape[2]
    padded = make(name, frames=T + 7, mean=-3.0, std=2.0)(clips)
    torch.testing.assert_close(padded[:, :, :T], (raw + 3) / 4)
    assert (padded[:, :, T:] == 0.75).all()
    torch.testing.assert_close(make(name, frames=9, **RAW)(clips), raw[:, :, :9])


@pytest.mark.parametrize("name", MEL)
def test_a_filter_has_its_peak_at_its_frequency(name: str) -> None:
    features = make(name)
    filters = features.mel_basis.T if name == "trainable_mel" else features.mel
    found = filters.sum(dim=0) > 0  # the narrowest of Kaldi's 128 fall between two bins of the FFT
    assert found.sum() > 120
    peaks = filters.argmax(dim=0) * 16000 / 512
    torch.testing.assert_close(peaks[found], torch.tensor(features.frequencies)[found], rtol=0, atol=16000 / 512)


@pytest.mark.parametrize("name", ALL)
def test_a_tone_shows_at_its_frequency(name: str) -> None:
    features = make(name, num_mel_bins=40, **RAW)
    assert list(features.frequencies) == sorted(features.frequencies)
    for band in (10, 20, 39):
        tone = torch.sin(2 * torch.pi * features.frequencies[band] * torch.arange(8000) / 16000)
        assert features(tone[None])[0, 0].mean(dim=0).argmax() == band


@pytest.mark.parametrize("name", ALL)
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_a_clip_gives_the_same_alone_and_padded_in_a_batch_in_any_order(name: str, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 3000), min_size=1, max_size=5), label="lengths")
    samples = data.draw(st.integers(max(lengths), 3200), label="samples")
    frames = data.draw(st.integers(1, 25), label="frames")
    offset = data.draw(st.sampled_from([0.0, 0.5]), label="offset")
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99), label="seed"))
    features = make(name, frames=frames, mean=-4.0, std=3.0)
    clips = torch.zeros(len(lengths), samples, dtype=torch.float64)
    for row, length in zip(clips, lengths, strict=True):
        row[:length] = offset + 0.1 * torch.randn(length, generator=generator, dtype=torch.float64)
    together = features(clips, torch.tensor(lengths))
    assert together.shape == (len(lengths), 1, frames, 128)
    for row, length, found in zip(clips, lengths, together, strict=True):
        torch.testing.assert_close(found, features(row[None, :length])[0], rtol=0, atol=1e-8)
    order = torch.randperm(len(lengths), generator=generator)
    torch.testing.assert_close(features(clips[order], torch.tensor(lengths)[order]), together[order], rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ALL)
def test_what_lies_past_the_lengths_is_ignored_even_nan(name: str) -> None:
    features = make(name, **RAW)
    lengths = torch.tensor([4000, 8000])
    clean = made_sound(0.5)[:2].requires_grad_()
    expected = features(torch.stack([torch.cat([clean[0, :4000], torch.zeros(4000)]), clean[1]]), lengths)
    dirty = clean.detach().clone()
    dirty[0, 4000:] = torch.nan
    dirty.requires_grad_()
    found = features(dirty, lengths)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert dirty.grad is not None
    assert dirty.grad.isfinite().all()
    assert not dirty.grad[0, 4000:].any()
    assert dirty.grad[0, :3800].any()


def test_an_offset_is_taken_off_over_the_real_samples_only() -> None:
    # A frame's own mean goes too, so a wrong mean of the clip shows in float32's rounding alone.
    clips = made_sound(1.0)[2:3] * 1e-2 + 0.5
    padded = torch.cat([clips[:, :4000], torch.zeros(1, 12000)], dim=1)
    found = KaldiFbank(frames=20, **RAW)(padded, torch.tensor([4000]))
    exact = literal_fbank(clips[:, :4000])[:, None, :20].float()
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_silence_has_a_floor_and_a_gradient_of_zero(name: str) -> None:
    silence = torch.zeros(2, 3200, requires_grad=True)
    result = make(name, **RAW)(silence)
    torch.testing.assert_close(result, torch.full_like(result, -15.942385))
    result.sum().backward()
    assert silence.grad is not None
    assert not silence.grad.any()


@pytest.mark.parametrize("name", ALL)
def test_gradient_to_the_waveform_is_right(name: str) -> None:
    kwargs = {"n_fft": 32} if name in ("logmel", "trainable_mel") else {}
    features = make(name, sample_rate=1000, num_mel_bins=4, frames=6, mean=-4.0, std=3.0, **kwargs)
    clips = torch.randn(2, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: features(x, torch.tensor([60, 45])), (clips,))


@pytest.mark.parametrize("name", ALL)
def test_more_clips_than_one_chunk(name: str) -> None:
    features = make(name, **RAW)
    clips = made_sound(1.0).repeat(3, 1)
    alone = torch.cat([features(clip[None]) for clip in clips])
    torch.testing.assert_close(features(clips), alone, rtol=0, atol=1e-4)
    assert features(clips[:0]).shape == (0, *alone.shape[1:])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_goes_in_and_out_but_is_not_computed_in(name: str, dtype: torch.dtype) -> None:
    features = make(name)
    clips = made_sound(0.5)[:5]
    expected = features(clips)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(features(clips), expected)
    result = features(clips.to(dtype))
    assert result.dtype == dtype
    torch.testing.assert_close(result, features(clips.to(dtype).float()).to(dtype))
    halved = copy.deepcopy(features).to(dtype)
    constants = dict(features.named_buffers())
    assert all(torch.equal(buffer, constants[name]) for name, buffer in halved.named_buffers())
    # Only the learnable filters lose digits.
    torch.testing.assert_close(halved(clips), expected, rtol=0, atol=0.02 if name == "trainable_mel" else 0)
    assert features.double()(clips.double()).dtype == torch.float64


@pytest.mark.parametrize("name", ALL)
def test_copies_and_checkpoints(name: str) -> None:
    features = make(name, frames=20)
    clips = made_sound(0.2)
    expected = features(clips)
    assert list(features.state_dict()) == LEARNED.get(name, [])
    again = make(name, frames=20)
    again.load_state_dict(features.state_dict())
    for copied in (copy.deepcopy(features), pickle.loads(pickle.dumps(features)), again):
        assert torch.equal(copied(clips), expected)
    # Made without storage, as large models are, and filled afterwards: constants must not be lost.
    with torch.device("meta"):
        empty = make(name, frames=20)
    empty.to_empty(device="cpu").load_state_dict(features.state_dict())
    assert torch.equal(empty(clips), expected)


# Inductor, the default, for the one that the recipes use; for the others what can break: the graph and its gradient.
@pytest.mark.parametrize(("name", "backend"), [(name, "inductor" if name == "kaldi" else "aot_eager") for name in ALL])
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex operators")
def test_compiles_into_one_graph(name: str, backend: str) -> None:
    features = make(name, frames=30)
    compiled = torch.compile(features, fullgraph=True, backend=backend)
    clips, lengths = made_sound(0.25), torch.tensor([4000, 3000, 2000, 1000, 500, 100])
    try:
        # Another way to transform, whose rounding shows in bins far below their frame's loudest.
        torch.testing.assert_close(compiled(clips, lengths), features(clips, lengths), rtol=0, atol=5e-3)
    finally:
        torch.compiler.reset()


# What must fail, and how it says so


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("waveform", "error", "message"),
    [
        (torch.zeros(16000), ValueError, r"\(16000,\).*waveform\[None\]"),
        (torch.zeros(2, 1, 16000), ValueError, r"\(2, 1, 16000\).*channels"),
        (torch.zeros(2, 16000, dtype=torch.int16), TypeError, r"\(2, 16000\) is torch.int16.*32768"),
        (torch.zeros(2, 16000, dtype=torch.complex64), TypeError, r"\(2, 16000\) is torch.complex64.*\.real"),
        (torch.zeros(2, 399), ValueError, r"399 samples .* frames="),
    ],
)
def test_waveforms_that_are_refused(name: str, waveform: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(name)(waveform)


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        (torch.tensor([1.0, 2.0]), TypeError, "float32.*int64"),
        (torch.tensor([16000]), ValueError, r"\(1,\): expected \(2,\)"),
        (torch.tensor([16000, 16001]), ValueError, "16001: expected 0 to 16000"),
        (torch.tensor([-1, 5]), ValueError, "from -1"),
    ],
)
def test_lengths_that_are_refused(lengths: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        KaldiFbank()(torch.zeros(2, 16000), lengths)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"frames": 0}, "frames=0"),
        ({"std": 0.0}, "std=0.0"),
        ({"num_mel_bins": 3}, "num_mel_bins=3"),
        ({"sample_rate": 16}, "sample_rate=16"),
        ({"frame_shift": 0.0}, "every 0 .*seconds"),
        ({"frame_length": 0.0}, "frame of 0 samples.*seconds"),
        ({"frame_length": 25.0}, "frame of 25.0 seconds.*25 ms are 0.025"),
        ({"frame_shift": 10}, "every 10: expected at most 1"),
    ],
)
def test_settings_that_are_refused(kwargs: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KaldiFbank(**kwargs)


def test_a_sound_shorter_than_a_frame_is_all_padding() -> None:
    result = KaldiFbank(frames=3, mean=-1.0, std=1.0)(torch.randn(2, 399))
    assert torch.equal(result, torch.full((2, 1, 3, 128), 0.5))


def test_features_by_name() -> None:
    assert list_features() == sorted(ALL)
    assert isinstance(create_features("kaldi", frames=128), KaldiFbank)
    with pytest.raises(ValueError, match=r"'mfcc'.*kaldi, leaf, logmel, sincnet, trainable_mel"):
        create_features("mfcc")


@pytest.mark.parametrize("broken", ["missing", "library does not load"])
def test_kaldi_needs_no_torchaudio_and_logmel_says_which(broken: str, tmp_path: Path) -> None:
    if broken != "missing":
        (tmp_path / "torchaudio.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    script = f"""
import sys
for name in ("nnAudio", "lightning", "matplotlib", "scipy") + (("torchaudio",) if {broken == "missing"} else ()):
    sys.modules[name] = None
import torch
from specenhance.features import KaldiFbank, LogMel
assert KaldiFbank()(torch.randn(1, 16000)).shape == (1, 1, 98, 128)
try:
    LogMel()
except ImportError as error:
    print(error)
"""
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for part in ("torch==2.11.*", "torchaudio==2.11.0", "KaldiFbank", "" if broken == "missing" else "libcudart.so.13"):
        assert part in done.stdout
