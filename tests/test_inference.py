"""A model used on sounds: one or many, arrays, tensors and files, of any lengths."""

import numpy as np
import pytest
import soundfile
import timm
import torch

from specenhance import KaldiFbank, with_frontend
from specenhance.inference import chosen_device, embed, enhance, predict, predict_proba

RATE = 16000


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    backbone = timm.create_model("test_resnet", in_chans=1, num_classes=3)
    return with_frontend(backbone, "tfe1", features=KaldiFbank(frames=48, num_mel_bins=32)).eval()


@pytest.fixture(scope="module")
def sounds():
    rng = np.random.default_rng(0)
    return [0.1 * rng.standard_normal(n).astype(np.float32) for n in (2000, 8000, 5000, 16000)]


@pytest.mark.parametrize("function", [predict_proba, embed, enhance])
def test_a_list_gives_what_its_sounds_give_alone(function, model, sounds):
    together = function(model, sounds, batch_size=3)
    for sound, row in zip(sounds, together, strict=True):
        torch.testing.assert_close(function(model, sound), row, rtol=1e-4, atol=1e-5)


def test_probabilities_are_the_softmax_of_the_models_logits(model, sounds):
    expected = model(torch.from_numpy(sounds[1])[None])[0].softmax(0)
    for sound in (sounds[1], torch.from_numpy(sounds[1]), torch.from_numpy(sounds[1]).double()):
        torch.testing.assert_close(predict_proba(model, sound), expected.detach(), rtol=1e-4, atol=1e-5)
    label = int(expected.argmax())
    assert predict(model, sounds[1])[0][0] == label
    assert [likely[0][0] for likely in predict(model, sounds[:2], top=2)][1] == label


def test_embeddings_are_what_the_classifier_reads(model, sounds):
    features = embed(model, sounds)
    assert features.shape == (4, model.num_features)
    logits = model.backbone.fc(features)
    torch.testing.assert_close(logits.softmax(1), predict_proba(model, sounds), rtol=1e-4, atol=1e-5)


def test_an_enhanced_spectrogram_is_the_front_ends(model, sounds):
    expected = model.frontend(model.spectrogram(torch.from_numpy(sounds[1])[None]))[0]
    torch.testing.assert_close(enhance(model, sounds[1]), expected.detach())


def test_files_are_read_and_long_ones_are_heard_to_their_end(model, sounds, tmp_path):
    soundfile.write(tmp_path / "a.wav", sounds[2], RATE, subtype="FLOAT")
    torch.testing.assert_close(
        predict_proba(model, tmp_path / "a.wav"), predict_proba(model, sounds[2]), rtol=1e-4, atol=1e-5
    )
    rng = np.random.default_rng(1)
    parts = [0.01 * rng.standard_normal(RATE), 0.3 * np.sign(np.sin(np.arange(RATE) / 5))]
    long = np.concatenate(parts).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", long, RATE, subtype="FLOAT")
    mixed = predict_proba(model, [tmp_path / "long.wav", str(tmp_path / "a.wav"), sounds[0]])
    assert mixed.shape == (3, 3)
    assert not torch.allclose(mixed[0], predict_proba(model, long), atol=1e-4)  # of which only the start is looked at
    torch.testing.assert_close(mixed[2], predict_proba(model, sounds[0]), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_used_is_said(model, sounds):
    bare = with_frontend(model.backbone, model.frontend)
    for function in (predict, predict_proba, embed, enhance):
        with pytest.raises(ValueError, match=r"takes spectrograms; for sounds give it features"):
            function(bare, sounds[0])
    with pytest.raises(ValueError, match="batch_size = 0: expected 1 or more"):
        predict_proba(model, sounds, batch_size=0)
    with pytest.raises(FileNotFoundError, match=r"none\.wav"):
        predict_proba(model, "none.wav")


@pytest.mark.parametrize(
    ("cuda", "mps", "auto"), [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_is_the_gpu_that_is_there(cuda, mps, auto, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert [chosen_device(asked) for asked in ("auto", "cpu", "cuda", "mps")] == [auto, "cpu", "cuda", "mps"]
