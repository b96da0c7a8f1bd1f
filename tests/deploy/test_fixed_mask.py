"""A mask that is the same for every clip becomes a constant of the exported file; one that is not is refused."""

import logging
import re

import numpy as np
import onnx
import pytest
import timm
import torch
from typer.testing import CliRunner

from specenhance import KaldiFbank, with_frontend
from specenhance.cli import app
from specenhance.data import SyntheticSounds, collate
from specenhance.deploy import fixed_mask
from specenhance.deploy.export import export
from specenhance.deploy.fixed_mask import CONDITIONS, MOST_CHANGE, FixedMask, MaskClips, fix_mask
from specenhance.deploy.int8_candidates import SCOPES
from specenhance.deploy.program import SpectrogramModel, WaveformModel, record
from specenhance.deploy.runtime import OnnxModel
from specenhance.deploy.web.onnxruntime_web import FILES
from specenhance.deploy.web.page import write_page
from specenhance.training.exporting import export_run
from specenhance.training.store import load_stored

CLIPS = MaskClips(SyntheticSounds("train"), SyntheticSounds("test"), clips=20)


def model_of(frontend, **settings):
    torch.manual_seed(0)
    backbone = timm.create_model("test_resnet", in_chans=1, num_classes=10)
    model = with_frontend(
        backbone, frontend, features=KaldiFbank(frames=24, num_mel_bins=32, mean=-4, std=2), **settings
    )
    model.classes = CLIPS.mean.classes
    return model.eval()


def lively(model):
    """Give the chain weights that let it answer to the sound."""
    with torch.no_grad():
        for name, weight in model.frontend.named_parameters():
            if name.endswith("weight"):
                weight.mul_(20)
    return model


def clip_of(data, i):
    return collate([data[i]]).waveform


@torch.no_grad()
def test_the_file_has_the_mean_mask_and_no_convolution_in_the_front_end(tmp_path, caplog):
    model = model_of("tfe4")
    with caplog.at_level(logging.INFO, "specenhance"):
        path = export(model, tmp_path / "model.onnx", fixed_mask=CLIPS)
    told = next(message for message in caplog.messages if "is fixed" in message)
    assert told.startswith("the mask of tfe4 is fixed, at its mean over 20 clips. On 20 other clips, each heard ")
    assert re.search(
        r"it changes by at most \d\.\de-\d\d of itself \([a-z]+(:-?\d+)?\), and a probability by at most \d\.\de-\d\d; ",
        told,
    )
    assert told.endswith("80 of 80 keep their labels")

    chosen = range(0, len(CLIPS.mean), -(-len(CLIPS.mean) // 20))
    masks = [model.frontend.factors(model.spectrogram(clip_of(CLIPS.mean, i))) for i in chosen]
    assert len(masks) == 20
    graph = onnx.load(path).graph
    inside = [
        node.op_type
        for node in graph.node
        if any(e.key == SCOPES and "frontend" in e.value for e in node.metadata_props)
    ]
    assert "Conv" not in inside
    assert set(inside) <= {"Mul", "Unsqueeze"}
    for found, factors in zip(fix_mask(model, CLIPS)[0].frontend.buffers(), zip(*masks, strict=True), strict=True):
        np.testing.assert_allclose(found, np.mean([factor.double().numpy() for factor in factors], axis=0), rtol=1e-6)

    change = OnnxModel(path).metadata["fixed_mask"]
    assert 0 < change < MOST_CHANGE
    for i in range(5):
        sound = clip_of(CLIPS.judge, i)
        np.testing.assert_allclose(OnnxModel(path).logits(sound.numpy()), model(sound).numpy(), atol=10 * change)


def test_the_change_is_the_largest_at_any_frame_and_bin_of_any_sound(monkeypatch):
    monkeypatch.setattr(fixed_mask, "MOST_CHANGE", 1)
    model = model_of("tfe2")
    fixed, change = fix_mask(model, CLIPS._replace(clips=3))
    with torch.no_grad():
        e_t, e_f = (factor.double() for factor in fixed.frontend.factors(torch.zeros(1, 1, 24, 32)))
        louder = [  # of the conditions it changes this mask most
            model.frontend.mask(model.spectrogram(clip_of(CLIPS.judge, i) * 10 ** (12 / 20))).double()
            for i in range(0, len(CLIPS.judge), -(-len(CLIPS.judge) // 3))
        ]
    seen = max((one / (e_t[..., None] * e_f[..., None, :]) - 1).abs().max().item() for one in louder)
    assert change == pytest.approx(seen, rel=1e-3)
    assert change > 0.001


def test_a_mask_that_depends_on_the_sound_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(
        ValueError, match=r"^front end tfe4s: its mask depends on the sound\. On clips heard .* by up to .*%"
    ) as told:
        export(lively(model_of("tfe4s")), tmp_path / "model.onnx", fixed_mask=CLIPS)
    assert any(f"heard {condition} it" in str(told.value) for condition in CONDITIONS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("value", "message"), [(float("nan"), "not the spectrogram times its mask"), (-1e9, None)])
def test_a_mask_that_is_no_number_is_refused_and_one_that_is_zero_is_not(value, message):
    model = model_of("tfe2")
    with torch.no_grad():
        model.frontend.blocks[-1].time.conv2.bias.fill_(value)
    if message:
        with pytest.raises(ValueError, match=message):
            fix_mask(model, CLIPS)
    else:
        fixed, change = fix_mask(model, CLIPS)
        assert change < MOST_CHANGE
        assert not fixed.frontend.e_t.any()


class Adds(torch.nn.Module):
    def factors(self, spec):
        return torch.ones_like(spec[..., 0]), torch.ones_like(spec[..., 0, :])

    def forward(self, spec):
        return spec + 1


@pytest.mark.parametrize(
    ("frontend", "message"),
    [
        ("identity", "front end identity: it has no mask to fix"),
        ("clipnorm+freqnorm", r"front end clipnorm\+freqnorm: it has no mask to fix"),
        (Adds(), "front end Adds: its result is not the spectrogram times its mask"),
    ],
)
def test_front_ends_that_have_no_mask_of_this_kind_are_refused(frontend, message):
    with pytest.raises(ValueError, match=message + ".*; export without a fixed mask$"):
        fix_mask(model_of(frontend), CLIPS)


@torch.no_grad()
def test_in_a_chain_only_the_link_with_the_mask_is_replaced():
    model = model_of("clipnorm+tfe4+freqnorm")
    fixed, _ = fix_mask(model, CLIPS)
    assert [type(link).__name__ for link in fixed.frontend.links] == ["ClipNorm", "FixedMask", "FreqNorm"]
    assert [type(link).__name__ for link in model.frontend.links] == ["ClipNorm", "TFE", "FreqNorm"]  # left as it is
    sound = clip_of(CLIPS.judge, 0)
    torch.testing.assert_close(fixed(sound), model(sound), atol=1e-2, rtol=0)


def test_a_page_still_shows_the_mask_and_a_spectrogram_has_a_fixed_number_of_frames():
    fixed, _ = fix_mask(model_of("tfe4"), CLIPS)
    _, sizes = record(WaveformModel(fixed, shows=True).eval(), torch.zeros(2, 4000))
    assert sizes == ("batch", "samples")
    shown = WaveformModel(fixed, shows=True)(torch.zeros(3, 4000))
    assert [tuple(output.shape) for output in shown[2:]] == [(3, 24), (3, 32)]
    _, sizes = record(SpectrogramModel(fixed), torch.zeros(2, 1, 24, 32))
    assert sizes == ("batch", "1", "24", "32")


def test_a_multi_label_model_counts_the_sounds_all_of_whose_classes_stay(caplog):
    model = model_of("tfe4")
    model.thresholds = [0.5] * 10
    with caplog.at_level(logging.INFO, "specenhance"):
        fix_mask(model, CLIPS)
    assert "80 of 80 keep their labels" in caplog.text


def test_the_command_line_takes_the_clips_of_the_run(untrained, tones, tmp_path):
    path = tmp_path / "fixed.onnx"
    done = CliRunner().invoke(app, ["export", str(untrained), "--fixed-mask", "--out", str(path)])
    assert done.exit_code == 0, done.output
    assert "the mask of tfe2 is fixed" in done.output
    assert OnnxModel(path).metadata["fixed_mask"] < MOST_CHANGE
    assert OnnxModel(export_run(untrained, tmp_path / "plain.onnx")).metadata["fixed_mask"] is None
    sound = torch.zeros(1, 4000)
    with torch.no_grad():
        expected = load_stored(untrained).model(sound)
    np.testing.assert_allclose(OnnxModel(path).logits(sound.numpy()), expected.numpy(), atol=1e-2)
    moved = CliRunner().invoke(
        app, ["export", str(untrained), "--fixed-mask", "--out", str(path), "--root", str(tmp_path / "no")]
    )
    assert moved.exit_code == 1
    assert "no" in moved.stderr


def test_a_fixed_mask_is_a_plain_product():
    spec = torch.randn(2, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    e_t, e_f = torch.rand(1, 3, dtype=torch.float64), torch.rand(1, 4, dtype=torch.float64)
    expected = spec.numpy() * e_t.numpy()[:, :, None] * e_f.numpy()[:, None, :]
    np.testing.assert_allclose(FixedMask(e_t, e_f)(spec), expected, rtol=1e-12)


@pytest.mark.parametrize(("change", "said"), [(1e-6, True), (0.0, True), (None, False)])
def test_a_page_says_that_its_mask_is_fixed(tmp_path, change, said):
    (tmp_path / "model.onnx").write_bytes(b"a model")
    about = {
        "classes": ["no"],
        "bins": 8,
        "frontend": "tfe4",
        "backbone": "resnet18",
        "specenhance": "1",
        "fixed_mask": change,
    }
    write_page(tmp_path, tmp_path / "model.onnx", about, dict.fromkeys(FILES, b"a runtime"))
    assert ("tfe4 with a fixed mask + resnet18" in (tmp_path / "index.html").read_text()) is said
