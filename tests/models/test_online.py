"""Whether the Hugging Face Hub can be had: one question, one line, and nothing asked for what is in the cache."""

import logging
from pathlib import Path

import pytest
from huggingface_hub import constants

from specenhance import FrontendModel, timm_teacher
from specenhance.models.online import require_hub


@pytest.fixture
def nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> pytest.LogCaptureFixture:
    """A hub at an address where nobody answers, an empty cache, and what is logged."""
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"http://127.0.0.1:9{template}")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    caplog.set_level(logging.WARNING)
    return caplog


def test_a_hub_that_does_not_answer_is_one_line_and_no_second_try(nobody: pytest.LogCaptureFixture) -> None:
    message = r"{} is not in the cache, and http://127.0.0.1:9 does not answer: .+".format
    with pytest.raises(ConnectionError, match=message("user/name")) as refused:
        require_hub("user/name", "config.json")
    assert "\n" not in str(refused.value)
    with pytest.raises(
        ValueError,
        match=rf"weights of 'test_resnet' could not be fetched \({message('timm/test_resnet.r160_in1k')}\); .*--no-pretrained",
    ):
        timm_teacher("test_resnet", 5)
    with pytest.raises(ConnectionError, match=message("user/name")):
        FrontendModel.from_pretrained("user/name")
    assert not nobody.records
    with pytest.raises(FileNotFoundError, match=r"^\./keywords: no such folder, and no name of the hub's, USER/NAME"):
        FrontendModel.from_pretrained("./keywords")


def test_what_is_in_the_cache_is_not_asked_for(nobody: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--user--name" / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (snapshot / "weights.bin").touch()
    (tmp_path / "models--user--name" / "refs").mkdir()
    (tmp_path / "models--user--name" / "refs" / "main").write_text("0")
    require_hub("user/name", "model.safetensors", "weights.bin", cache_dir=tmp_path)
    with pytest.raises(ConnectionError):
        require_hub("user/name", "model.safetensors", cache_dir=tmp_path)


def test_weights_that_nobody_has_published_are_not_looked_for(nobody: pytest.LogCaptureFixture) -> None:
    with pytest.raises(
        ValueError, match="timm knows no published weights of 'vit_small_patch16_18x2_224'; train from scratch"
    ):
        timm_teacher("vit_small_patch16_18x2_224", 5)
