"""save_pretrained, from_pretrained and push_to_hub: the same model again, from files that hold no pickle."""

import ast
import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import ModelCard
from torch import Tensor, nn

from specenhance import FrontendModel, KaldiFbank, TrainableMel, with_frontend
from specenhance._names import shown

LABELS = ["yes", "no", "up"]


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def make_backbone(name: str = "test_resnet", **kwargs: Any) -> nn.Module:
    return timm.create_model(name, **{"in_chans": 1, "num_classes": 3, **kwargs})


SPEC, WAVEFORM = noise(2, 1, 64, 32), 0.1 * noise(2, 8000)
MODELS = {
    "spectrogram": (lambda: with_frontend(make_backbone(), "tfe4"), SPEC),
    "waveform": (lambda: with_frontend(make_backbone(), "tfe2", features=KaldiFbank(64, num_mel_bins=32)), WAVEFORM),
    "trained features": (lambda: with_frontend(make_backbone(), "tfa", features=TrainableMel(frames=64)), WAVEFORM),
    "arguments": (
        lambda: with_frontend(make_backbone(), "tfe2", kernel_size=5, channels=(1, 8, 1), layout="freq_time"),
        SPEC,
    ),
    "three channels": (lambda: with_frontend(make_backbone(in_chans=3), "tfe1", in_chans=3), noise(2, 3, 64, 32)),
    "a size": (lambda: with_frontend(make_backbone("test_vit_relpos", img_size=(64, 32)), "tfe1"), SPEC),
    "a tag's size": (lambda: with_frontend(make_backbone("tf_efficientnetv2_b0.in1k"), "identity", fit="resize"), SPEC),
    "layers": (lambda: with_frontend(make_backbone("test_vit", embed_dim=24, depth=1), "tfe1"), SPEC),
    "a front end before another": (
        lambda: with_frontend(with_frontend(make_backbone(), "tfe2", fit="resize"), "tfa", layout="freq_time"),
        SPEC,
    ),
    "feature maps": (lambda: with_frontend(make_backbone(features_only=True), "tfe1"), SPEC),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_saved_is_what_is_loaded(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, given = MODELS[name]
    torch.manual_seed(0)
    model: Any = make()
    model.save_pretrained(tmp_path / "keywords")
    torch.manual_seed(1)
    loaded: Any = FrontendModel.from_pretrained(tmp_path / "keywords")
    assert type(loaded) is FrontendModel
    assert not loaded.training
    torch.testing.assert_close(loaded(given), model.eval()(given), rtol=0, atol=0)
    assert (loaded.layout, loaded.fit) == (model.layout, model.fit)
    loaded.save_pretrained(tmp_path / "again")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "keywords" / file).read_bytes()
    assert {path.name for path in (tmp_path / "keywords").iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }
    assert capsys.readouterr().out == ""


def test_parameters_that_are_one_tensor_stay_one(tmp_path: Path) -> None:
    model: Any = with_frontend(make_backbone(), "tfe2", fit="resize").eval()
    first, second = model.frontend.blocks
    first.freq.conv2 = first.time.conv2  # the module
    second.freq.conv1.weight = second.time.conv1.weight  # a parameter alone
    model.save_pretrained(tmp_path / "tied")
    loaded: Any = FrontendModel.from_pretrained(tmp_path / "tied")
    assert torch.equal(loaded(SPEC), model(SPEC))
    assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in model.parameters())
    first, second = loaded.frontend.blocks
    for one, other in (
        (first.freq.conv2.weight, first.time.conv2.weight),
        (first.freq.conv2.bias, first.time.conv2.bias),
        (second.freq.conv1.weight, second.time.conv1.weight),
    ):
        assert one is other
    assert second.freq.conv1.bias is not second.time.conv1.bias
    loaded.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "config.json").read_bytes() == (tmp_path / "tied" / "config.json").read_bytes()
    config = json.loads((tmp_path / "tied" / "config.json").read_text())
    for names in (["frontend.none.weight", "backbone.fc.weight"], ["backbone.fc.bias", "backbone.fc.weight"]):
        (tmp_path / "tied" / "config.json").write_text(json.dumps(config | {"tied": [names]}))
        with pytest.raises(ValueError, match=r"config.json: tied parameters \[.*\], which are not all in the model"):
            FrontendModel.from_pretrained(tmp_path / "tied")


def test_the_card_of_a_front_end_before_another_names_both(tmp_path: Path) -> None:
    with_frontend(with_frontend(make_backbone(), "tfe2"), "tfa").save_pretrained(
        tmp_path, config={"label_names": LABELS}
    )
    assert "# tfa before tfe2 before test_resnet" in (tmp_path / "README.md").read_text()
    assert FrontendModel.from_pretrained(tmp_path).pretrained_cfg["label_names"] == LABELS


def test_a_new_classifier_and_a_new_size_are_kept(tmp_path: Path) -> None:
    model: Any = with_frontend(make_backbone("test_vit"), "tfe2", fit="resize")
    model.reset_classifier(7, global_pool="avg")
    model.set_input_size(img_size=(64, 32))
    model.save_pretrained(tmp_path)
    loaded = FrontendModel.from_pretrained(tmp_path)
    assert loaded(noise(1, 1, 99, 40)).shape == (1, 7)
    assert torch.equal(loaded(noise(1, 1, 99, 40)), model.eval()(noise(1, 1, 99, 40)))


def test_weights_in_another_memory_format_are_saved(tmp_path: Path) -> None:
    model: Any = with_frontend(make_backbone(), "tfe1").to(memory_format=torch.channels_last)
    assert not model.backbone.conv1[3].weight.is_contiguous()
    model.save_pretrained(tmp_path)
    assert torch.equal(FrontendModel.from_pretrained(tmp_path).backbone.conv1[3].weight, model.backbone.conv1[3].weight)


def test_the_card_says_what_the_model_is_and_its_code_loads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_frontend(make_backbone(), "tfe4", features=KaldiFbank(frames=64, num_mel_bins=32))
    model.save_pretrained(tmp_path / "keywords", config={"label_names": LABELS})
    card = ModelCard.load(tmp_path / "keywords" / "README.md")
    assert card.data.library_name == "specenhance"
    assert card.data.pipeline_tag == "audio-classification"
    assert "timm" in card.data.tags
    for said in (
        "tfe4",
        "88,422",
        "test_resnet",
        "yes, no, up",
        "(batch, samples)` at 16000 Hz",
        "`kaldi`",
        "`frames=64`",
    ):
        assert said in card.text
    assert "{" not in card.text
    code = card.text.partition("```python\n")[2].partition("```")[0]
    names = {"waveform": WAVEFORM}
    monkeypatch.chdir(tmp_path)
    exec(code, names)
    assert torch.equal(names["logits"], model.eval()(WAVEFORM))
    assert names["model"].pretrained_cfg["label_names"] == LABELS


def test_the_class_names_stay_and_a_card_that_is_there_too(tmp_path: Path) -> None:
    with_frontend(make_backbone(), "tfe1").save_pretrained(tmp_path, config={"label_names": LABELS})
    (tmp_path / "README.md").write_text("mine")
    loaded = FrontendModel.from_pretrained(tmp_path)
    loaded.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["label_names"] == LABELS
    assert (tmp_path / "README.md").read_text() == "mine"
    loaded.reset_classifier(2)
    loaded.save_pretrained(tmp_path)
    assert "label_names" not in json.loads((tmp_path / "config.json").read_text())


def test_the_card_shows_names_and_nothing_else(tmp_path: Path) -> None:
    names = ["$5_to_$10", "a|b `c` <b>d</b>\n# e", "\x1b[31mred"][: len(LABELS)]
    names += LABELS[len(names) :]
    folder = tmp_path / 'my "models" \\ \u202e'
    with_frontend(make_backbone(), "tfe1").save_pretrained(folder, config={"label_names": names})
    assert json.loads((folder / "config.json").read_text())["label_names"] == names
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert not set("\x1b\u202e") & set(card)
    tokens = pytest.importorskip("markdown_it").MarkdownIt().parse(card.split("---\n", 2)[2])
    assert [token.type for token in tokens].count("heading_open") == 2
    (listed,) = [token for token in tokens if token.type == "inline" and "of the classes" in token.content]
    assert {child.type for child in listed.children} <= {
        "text",
        "text_special",
        "strong_open",
        "strong_close",
        "code_inline",
    }
    text = "".join(child.content for child in listed.children)
    assert text.endswith(f"of the classes {', '.join(map(shown, names))}")
    (code,) = [token.content for token in tokens if token.type == "fence"]
    call = next(node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call))
    assert call.args[0].value == folder.name  # exact, as a string of Python's


def test_what_is_given_on_loading_overrides(tmp_path: Path) -> None:
    with_frontend(make_backbone(), "tfe1").save_pretrained(tmp_path)
    assert FrontendModel.from_pretrained(tmp_path, fit="resize").fit == "resize"


def test_pushing_uploads_the_three_files(monkeypatch: pytest.MonkeyPatch) -> None:
    class Api:
        def __init__(self, token: Any = None) -> None: ...

        def create_repo(self, repo_id: str, **_: Any) -> Any:
            return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

        def upload_folder(self, repo_id: str, folder_path: Path, **_: Any) -> str:
            files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
            assert files.keys() == {"config.json", "model.safetensors", "README.md"}
            assert b'from_pretrained("me/keywords")' in files["README.md"]
            assert b"yes, no, up" in files["README.md"]
            return f"{repo_id} uploaded"

    monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", Api)
    model = with_frontend(make_backbone(), "tfe1")
    assert model.push_to_hub("me/keywords", config={"label_names": LABELS}) == "me/keywords uploaded"


class Own(nn.Identity):
    pass


@pytest.mark.parametrize(
    ("make", "config", "message"),
    [
        (lambda: with_frontend(make_backbone(), Own()), {}, "front end Own: only one made by its name"),
        (
            lambda: with_frontend(nn.Conv2d(1, 1, 1), "tfe1"),
            {},
            "backbone Conv2d: only one that timm.create_model made",
        ),
        (
            lambda: with_frontend(make_backbone(), "tfe1", features=Own()),
            {},
            "features Own: only those with a name can",
        ),
        (lambda: with_frontend(make_backbone(), "tfe1"), {"label_names": ["a"]}, "label_names: 1 names for 3 classes"),
        (
            lambda: with_frontend(make_backbone(act_layer=nn.SiLU), "tfe1"),
            {},
            "cannot be written as JSON",
        ),
    ],
)
def test_what_cannot_be_saved_leaves_no_file(make: Any, config: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        make().save_pretrained(tmp_path / "model", config=config)
    assert not (tmp_path / "model").exists()


def test_saving_draws_no_random_number(tmp_path: Path) -> None:
    model = with_frontend(make_backbone(), "tfe4")
    before = torch.get_rng_state()
    model.save_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("part", ["backbone", "frontend"])
def test_a_part_that_was_changed_is_not_saved_as_what_it_was(part: str, tmp_path: Path) -> None:
    model: Any = with_frontend(make_backbone(), "tfe1")
    if part == "backbone":
        model.backbone.fc = nn.Sequential(nn.Linear(model.num_features, 8), nn.Linear(8, 3))
    else:
        model.frontend.gain = nn.Parameter(torch.ones(1))
    with pytest.raises(
        ValueError, match=rf"{part} \w+ was changed after it was made: .* e.g. (fc.0.bias|gain); save its"
    ):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_configuration_brings_in_no_other_weights(tmp_path: Path) -> None:
    with_frontend(make_backbone(), "tfe1").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["backbone"] |= {"pretrained": True, "checkpoint_path": str(tmp_path / "pickled.pth")}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "pickled.pth").write_bytes(b"no checkpoint")
    assert FrontendModel.from_pretrained(tmp_path).num_classes == 3
    config["backbone"]["model_name"] = "hf-hub:someone/something"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"'hf-hub:someone/something' is none of timm .*'s models"):
        FrontendModel.from_pretrained(tmp_path)


def test_a_folder_that_holds_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"it has no config.json that save_pretrained of specenhance wrote"):
        FrontendModel.from_pretrained(tmp_path)
    with_frontend(make_backbone(), "tfe1").save_pretrained(tmp_path)
    other = json.loads((tmp_path / "config.json").read_text())
    other["frontend"]["name"] = "tfe2"
    (tmp_path / "config.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match=r"model.safetensors does not fit the config.json beside it"):
        FrontendModel.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model.safetensors is not there"):
        FrontendModel.from_pretrained(tmp_path)


def test_weights_that_changed_on_the_way_are_found(tmp_path: Path) -> None:
    with_frontend(make_backbone(), "tfe1").save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged, .* copy or download it again"):
        FrontendModel.from_pretrained(tmp_path)
