"""The main paths, whatever releases are installed: import, with_frontend, the fbank, a short training.

torchaudio may be unusable beside the newest torch; nothing here needs it. ``make test-newest`` runs this on the newest
releases, ``make test`` on the pinned ones.
"""

import json
import math

import pytest
import timm
import torch

import specenhance
from specenhance.training import load_model, recipe_for
from specenhance.training.run import train


def test_with_frontend_trains():
    torch.manual_seed(0)
    backbone = timm.create_model("mobilenetv3_small_050", in_chans=1, num_classes=4)
    model = specenhance.with_frontend(backbone, "tfe4")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    spec, target = torch.randn(8, 1, 64, 64), torch.arange(8) % 4
    losses = []
    for _ in range(12):
        loss = torch.nn.functional.cross_entropy(model(spec), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(parameter.grad is not None for parameter in model.frontend.parameters())


def test_with_frontend_compiles_whole():
    model = specenhance.with_frontend(timm.create_model("test_resnet", in_chans=1), "tfe2").eval()
    spec = torch.randn(2, 1, 48, 32)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(spec), model(spec), atol=1e-5)


def test_the_fbank_is_kaldis():
    # One frame of a sine, written out: mean, pre-emphasis, window, transform, filters, logarithm.
    wave = torch.sin(2 * math.pi * 1000 * torch.arange(400, dtype=torch.float64) / 16000) + 0.1
    x = wave - wave.mean()
    x = x - 0.97 * torch.cat([x[:1], x[:-1]])
    window = 0.5 - 0.5 * torch.cos(2 * math.pi * torch.arange(400, dtype=torch.float64) / 399)
    power = torch.fft.rfft(torch.nn.functional.pad(x * window, (0, 112))).abs() ** 2
    mel = 1127 * torch.log1p(torch.arange(256, dtype=torch.float64) * 31.25 / 700)
    low, high = (1127 * math.log1p(hertz / 700) for hertz in (20, 8000))
    width = (high - low) / 129
    centres = low + width * (1 + torch.arange(128, dtype=torch.float64)[:, None])
    banks = (1 - (mel - centres).abs() / width).clamp(min=0)
    expected = (banks @ power[:256]).clamp(min=2.0**-23).log()
    found = specenhance.KaldiFbank(mean=0.0, std=0.5)(wave[None])[0, 0, 0]
    assert torch.allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("features", ["kaldi", "trainable_mel"])
def test_a_short_training_runs_to_its_result(tones, tmp_path, features):
    recipe = recipe_for(
        "folder", root=tones, features=features, backbone="test_resnet", frames=24, bins=32, epochs=2, batch_size=8
    )
    train(recipe, tmp_path / "run", device="cpu")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test_accuracy"] >= 0
    assert load_model(tmp_path / "run")(torch.zeros(1, 4000)).shape == (1, 3)
