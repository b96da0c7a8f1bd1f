"""HTS-AT and PaSST as teachers, on small random weights, against transformers' and hear21passt's own code."""

import contextlib
import io
import os
import pickle

import pytest
import torch

from specenhance.distillation.htsat import HtsatTeacher
from specenhance.distillation.passt import PasstTeacher

CLASSES = ["no", "yes"]


@pytest.fixture
def sound():
    return 0.1 * torch.randn(3, 48000, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def clap(tmp_path_factory):
    from transformers import ClapAudioConfig, ClapAudioModelWithProjection, ClapFeatureExtractor

    torch.manual_seed(0)
    config = ClapAudioConfig(
        patch_embeds_hidden_size=8,
        hidden_size=64,
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 2],
        projection_dim=8,
    )
    path = tmp_path_factory.mktemp("clap")
    ClapAudioModelWithProjection(config).save_pretrained(path)
    ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(path)
    return path


def test_an_htsat_gives_what_transformers_gives(clap, sound):
    from transformers import ClapAudioModelWithProjection, ClapFeatureExtractor

    teacher = HtsatTeacher(str(clap), sample_rate=48000).eval()
    model = ClapAudioModelWithProjection.from_pretrained(clap).eval()
    features = ClapFeatureExtractor.from_pretrained(clap)(list(sound.numpy()), sampling_rate=48000, return_tensors="pt")
    with torch.no_grad():
        found, pooled = teacher(sound), model.audio_model(**features).pooler_output
        projected = model(**features).audio_embeds
    assert found.shape == (3, 64)
    assert torch.equal(found, pooled)
    # The values are those before the projection.
    assert torch.allclose(model.audio_projection(found), projected, atol=1e-6)


def test_an_htsat_hears_other_rates_and_cuts_what_is_too_long(clap, sound):
    import soxr

    teacher = HtsatTeacher(str(clap), sample_rate=16000).eval()
    slow = torch.from_numpy(soxr.resample(sound.numpy().T, 48000, 16000).T.copy())
    assert torch.isfinite(teacher(slow)).all()
    long = torch.randn(1, 16000 * 11)
    # Up to the end of the resampling filter.
    assert torch.allclose(teacher(long), teacher(long[:, : 16000 * 10]), atol=0.02)


def test_a_folder_without_a_clap_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be loaded"):
        HtsatTeacher(str(tmp_path), sample_rate=16000)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        HtsatTeacher("./nowhere", sample_rate=16000)


@pytest.fixture(scope="module")
def passt_net():
    pytest.importorskip("hear21passt", reason="hear21passt is not installed")
    from hear21passt.models.passt import PaSST

    torch.manual_seed(0)
    return PaSST(
        img_size=(128, 998), stride=10, embed_dim=128, depth=2, num_heads=2, num_classes=5, distilled=True
    ).eval()  # fmt: skip


@pytest.fixture
def passt_file(passt_net, tmp_path):
    torch.save(passt_net.state_dict(), tmp_path / "passt.pt")
    return tmp_path / "passt.pt"


def test_a_passt_gives_what_its_package_gives(passt_net, passt_file, capsys):
    from hear21passt.models.preprocess import AugmentMelSTFT
    from hear21passt.wrapper import PasstBasicWrapper

    sound = 0.1 * torch.randn(2, 32000, generator=torch.Generator().manual_seed(0))
    teacher = PasstTeacher(str(passt_file), sample_rate=32000).eval()
    with torch.no_grad():
        found = teacher(sound)
    assert capsys.readouterr().out == ""
    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        mel = AugmentMelSTFT(
            n_mels=128, sr=32000, win_length=800, hopsize=320, n_fft=1024, fmin_aug_range=10, fmax_aug_range=2000
        )
        expected = PasstBasicWrapper(mel, passt_net, mode="embed_only").eval()(sound)
    assert torch.equal(found, expected)


def test_a_passt_hears_other_rates_and_cuts_what_is_too_long(passt_file):
    teacher = PasstTeacher(str(passt_file), sample_rate=16000).eval()
    long = torch.randn(1, 16000 * 12)
    with torch.no_grad():
        assert teacher(long[:, :16000]).shape == (1, 128)
        assert torch.allclose(teacher(long), teacher(long[:, : 998 * 160 + 800])[:1], atol=1e-2)


def test_what_is_no_passt_is_refused(tmp_path, passt_file):
    torch.save({"weight": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="not the weights of a PaSST"):
        PasstTeacher(str(tmp_path / "other.pt"), sample_rate=16000)
    with pytest.raises(ValueError, match=r"expected a file of weights, or one of .*passt_s_swa_p16_128_ap476"):
        PasstTeacher("passt_xl", sample_rate=16000)
    with pytest.raises(FileNotFoundError, match=r"nothing\.pt: no such file"):
        PasstTeacher("nothing.pt", sample_rate=16000)


class Bad:
    def __reduce__(self):
        return os.getcwd, ()


def test_a_pickle_with_code_is_refused(tmp_path, passt_file):
    (tmp_path / "bad.pt").write_bytes(pickle.dumps(Bad()))
    with pytest.raises(ValueError, match="cannot be read as weights"):
        PasstTeacher(str(tmp_path / "bad.pt"), sample_rate=16000)
