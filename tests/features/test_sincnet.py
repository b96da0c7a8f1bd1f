"""SincNet: against its literal formula and speechbrain's filters, and what learns."""

import math

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


SPEECHBRAIN = """
from speechbrain.nnet.CNN import SincConv
sinc = SincConv(out_channels=40, kernel_size=401, in_channels=1, padding="valid")
sinc.device = "cpu"
with torch.no_grad():
    found = [sinc._get_sinc_filters()[:, 0]]
    sinc.window_ = window
    sinc.low_hz_.copy_((low - 50).float()[:, None])
    sinc.band_hz_.copy_((high - low - 50).float()[:, None])
    found += [sinc._get_sinc_filters()[:, 0], sinc(clips).transpose(1, 2)]
"""


def test_its_filters_are_speechbrains(speechbrain) -> None:
    features, clips = SincNet(num_mel_bins=40), noise().float()
    first = features.filters().float()
    low, high = edges(moved(features))
    n = torch.arange(-200, 0, dtype=torch.float32)
    window = 0.54 + 0.46 * torch.cos(2 * math.pi * n / 401)
    theirs_first, theirs, passed = speechbrain(SPEECHBRAIN, window=window, low=low, high=high, clips=clips)
    # Its window is a little stretched: 200 steps over half the length. Ours is the paper's eq. (7).
    torch.testing.assert_close(first, theirs_first, rtol=0, atol=3e-3)
    apart = (high - low) > 50  # speechbrain's bands are at least that wide
    assert apart.sum() > 30
    torch.testing.assert_close(features.filters().float()[apart], theirs[apart], rtol=0, atol=1e-5)
    power = passed.square().unfold(2, 401, 160).mean(dim=3).transpose(1, 2)
    torch.testing.assert_close(features(clips)[:, 0, :, apart], power.log()[..., apart], rtol=0, atol=1e-3)


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
