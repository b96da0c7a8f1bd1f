"""SincNet: against its literal formula and speechbrain's filters, and what learns."""

import math

import pytest
import torch
from torch import Tensor

from specenhance.features import SincNet


def noise(seconds: float = 0.25) -> Tensor:
    return 0.1 * torch.randn(2, int(16000 * seconds), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def moved(features: SincNet) -> SincNet:
    """Move all parameters by something, as training does."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in features.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return features


def edges(features: SincNet) -> tuple[Tensor, Tensor]:
    low = features.first_low.double() * features.low.detach().double().exp()
    high = (low + features.first_band.double() * features.band.detach().double().exp()).clamp(max=8000)
    return low, high


def test_it_is_the_literal_formula() -> None:
    features, clips, K = moved(SincNet(num_mel_bins=12)), noise(), 401
    n = torch.arange(-200, 201, dtype=torch.float64)
    rows = []
    for low, high in zip(*(e / 16000 for e in edges(features)), strict=True):
        band = (2 * high * torch.sinc(2 * high * n) - 2 * low * torch.sinc(2 * low * n)) / (2 * (high - low))
        filter = band * (0.54 + 0.46 * torch.cos(2 * math.pi * n / K))
        passed = clips.unfold(1, K, 1) @ filter
        rows.append(passed.square().unfold(1, K, 160).mean(dim=2))
    torch.testing.assert_close(features(clips)[:, 0], torch.stack(rows, dim=2).log(), rtol=0, atol=1e-8)


@pytest.mark.filterwarnings("ignore")
def test_its_filters_are_speechbrains() -> None:
    theirs_of = pytest.importorskip("speechbrain.nnet.CNN").SincConv
    features = SincNet(num_mel_bins=40)
    theirs = theirs_of(out_channels=40, kernel_size=401, in_channels=1, padding="valid")
    theirs.device = "cpu"
    # Its window is a little stretched: 200 steps over half the length. Ours is the paper's eq. (7).
    torch.testing.assert_close(features.filters().float()[:, None], theirs._get_sinc_filters(), rtol=0, atol=3e-3)
    n = torch.arange(-200, 0, dtype=torch.float32)
    theirs.window_ = 0.54 + 0.46 * torch.cos(2 * math.pi * n / 401)
    moved(features)
    low, high = edges(features)
    with torch.no_grad():
        theirs.low_hz_.copy_((low - 50).float()[:, None])
        theirs.band_hz_.copy_((high - low - 50).float()[:, None])
    apart = (high - low) > 50  # speechbrain's bands are at least that wide
    assert apart.sum() > 30
    found = theirs._get_sinc_filters()
    torch.testing.assert_close(features.filters().float()[:, None][apart], found[apart], rtol=0, atol=1e-5)
    clips = noise().float()
    passed = theirs(clips)
    power = passed.square().transpose(1, 2).unfold(2, 401, 160).mean(dim=3)
    torch.testing.assert_close(
        features(clips)[:, 0, :, apart], power.log().transpose(1, 2)[..., apart], rtol=0, atol=1e-3
    )


def test_both_edges_learn_and_stay_in_range() -> None:
    features, clips = SincNet(num_mel_bins=40), noise().float()
    features(clips).square().mean().backward()
    for parameter in features.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert (parameter.grad != 0).float().mean() > 0.9
    with torch.no_grad():
        for parameter in features.parameters():
            parameter.copy_(torch.tensor([-20.0, 20.0]).repeat(20))
    assert features.filters().isfinite().all()
    assert features(clips).isfinite().all()
