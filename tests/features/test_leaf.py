"""LEAF: against its literal formula at the full rate, against speechbrain's, and what learns."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from specenhance import create_frontend
from specenhance.features import Leaf

DATA = Path(__file__).parents[3] / "shared" / "data"


def literal_leaf(clips: Tensor, centre: Tensor, length: Tensor, width: Tensor, K: int = 401, hop: int = 160) -> Tensor:
    """Write LEAF's energies (B, T, F) out in float64: every filter whole, and its power at every sample."""
    n = torch.arange(-(K // 2), K // 2 + 1, dtype=torch.float64)
    rows = []
    for c, s, w in zip(centre, length, width, strict=True):
        filter = torch.exp(1j * c * n - n**2 / (2 * s**2)) / (math.sqrt(2 * math.pi) * s)
        signal = clips.unfold(1, K, 1).to(torch.complex128) @ filter.conj()  # (B, samples - K + 1)
        power = signal.real**2 + signal.imag**2
        rows.append(power.unfold(1, K, hop) @ torch.exp(-0.5 * (n / (w * (K // 2))) ** 2))
    return torch.stack(rows, dim=2)


def noise(seconds: float = 0.5) -> Tensor:
    return 0.1 * torch.randn(2, int(16000 * seconds), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def moved(features: Leaf) -> Leaf:
    """Move all parameters by something, as training does."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in features.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return features


@pytest.mark.parametrize("bins", [40, 128])
@pytest.mark.parametrize("trained", [False, True])
def test_the_efficient_form_is_near_the_full_rate(bins: int, trained: bool) -> None:
    features = Leaf(num_mel_bins=bins)
    if trained:
        moved(features)
    clips = noise()
    exact = literal_leaf(clips, *(x.detach() for x in features.filters())).log()
    difference = (features(clips)[:, 0] - exact).abs()
    assert difference.mean() < (0.01 if bins == 40 else 0.06), difference.mean()
    assert difference.max() < (0.15 if bins == 40 else 1.0), difference.max()


def test_near_the_full_rate_on_real_speech() -> None:
    soundfile = pytest.importorskip("soundfile")
    files = sorted((DATA / "arabic_speech_commands").rglob("*.flac"))[::2000]
    if not files:
        pytest.skip(f"no recordings in {DATA}")
    features = Leaf(num_mel_bins=40)
    for file in files:
        clip = torch.from_numpy(soundfile.read(file, dtype="float64")[0])[None, 4000:12000]
        exact = literal_leaf(clip, *(x.detach() for x in features.filters())).clamp(min=1.1920928955078125e-07).log()
        assert (features(clip)[:, 0] - exact).abs().mean() < 0.02


def test_at_step_one_it_is_the_formula_to_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    from specenhance.features import leaf

    monkeypatch.setattr(leaf, "STEPS", 160)
    monkeypatch.setattr(leaf, "CUT", 1000)
    features = moved(Leaf(num_mel_bins=8))
    assert {group[:2] for group in features.groups} == {(1, 200)}
    clips = noise(0.1)
    exact = literal_leaf(clips, *(x.detach() for x in features.filters())).log()
    torch.testing.assert_close(features(clips)[:, 0], exact, rtol=0, atol=1e-10)


SPEECHBRAIN = """
from speechbrain.lobes.features import Leaf
leaf = Leaf(40, in_channels=1, learnable_pcen=False)
with torch.no_grad():
    leaf.complex_conv.kernel.copy_(torch.stack([centre, length], dim=1))
    leaf.pooling.weights.copy_(width[None, None, :, None])
    leaf.pooling._bias.zero_()
    leaf.compression.root.fill_(2.0)  # 1 / root
    power = leaf._squared_modulus_activation(leaf.complex_conv(clips[:, None]))
    found = [leaf.pooling(power).transpose(1, 2), leaf(clips)]
"""


def test_leaf_and_pcen_are_speechbrains_leaf(speechbrain) -> None:
    """Ours are LEAF's energies, then the front end PCEN; theirs with the same parameters, its added constant at 0."""
    features = moved(Leaf(num_mel_bins=40))
    pcen = create_frontend("pcen", bins=40, s=0.04, alpha=0.96, delta=2.0, root=0.5, eps=1e-12)
    centre, length, width = (x.detach() for x in features.filters())
    clips = noise(1.0).float()
    # The middle of our frame t is sample 160 t + 400, of theirs 160 t. So theirs hears the clip 80 samples later.
    energies, whole = speechbrain(SPEECHBRAIN, centre=centre, length=length, width=width, clips=clips[:, 80:])
    with torch.no_grad():
        difference = (features(clips)[:, 0] - energies[:, 2:97].log()).abs()
        torch.testing.assert_close(pcen(energies[:, None].log())[:, 0], whole, rtol=1e-4, atol=1e-4)
    assert difference.mean() < 0.01


def test_the_first_filters_are_those_of_the_authors_mel_scale() -> None:
    """As ``mel_filter_params`` of EfficientLEAF's code."""
    low, high = (1127 * math.log1p(hertz / 700) for hertz in (60.0, 8000.0))
    edges = 700 * torch.expm1(torch.linspace(low, high, 42, dtype=torch.float64) / 1127)
    centre, length, width = Leaf(num_mel_bins=40).filters()
    torch.testing.assert_close(centre, edges[1:-1] * 2 * math.pi / 16000, rtol=1e-6, atol=0)
    expected = (8000 / (edges[2:] - edges[:-2])).clamp(max=401 * math.sqrt(2 * math.log(2)) / math.pi)
    torch.testing.assert_close(length, expected, rtol=1e-6, atol=0)
    assert (width == 0.4).all()


def test_all_of_it_learns_and_stays_in_range() -> None:
    features = Leaf(num_mel_bins=40)
    clips = noise().float()
    features(clips).square().mean().backward()
    for parameter in features.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert (parameter.grad != 0).float().mean() > 0.9
    with torch.no_grad():
        for parameter in features.parameters():
            parameter.copy_(torch.tensor([-1e3, 1e3]).repeat(20))
    centre, length, width = features.filters()
    assert centre.min() >= 0
    assert centre.max() <= math.pi
    assert (length > 0).all()
    assert 0.3 < width.min() < width.max() <= 0.5
    assert features(clips).isfinite().all()


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_other_sample_rates(rate: int) -> None:
    features = Leaf(sample_rate=rate, num_mel_bins=24)
    K = features.window_length // 2 + 1
    clips = 0.1 * torch.randn(1, rate // 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = literal_leaf(clips, *(x.detach() for x in features.filters()), K=K, hop=features.hop_length).log()
    assert (features(clips)[:, 0] - exact).abs().mean() < 0.02


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_mel_bins": 0}, "num_mel_bins"),
        ({"low_frequency": 9000.0}, "9000.0 to 8000.0 Hz"),
        ({"frame_shift": 0.0}, "every 0"),
        ({"frame_length": 0.0}, "frame of 1 samples"),
    ],
)
def test_settings_that_are_refused(kwargs: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Leaf(**kwargs)
