"""timm.create_model("tfe4.BACKBONE"): what timm makes, lists, loads and resolves by such a name."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from timm.data import resolve_data_config
from timm.models import model_parameters, resolve_model_input_args
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from specenhance import FrontendModel, list_frontends, register_frontend, with_frontend
from specenhance.frontends.registry import FRONTENDS
from specenhance.models import timm_names
from specenhance.models.timm_names import register_timm_models


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FRONTENDS, "_entries", dict(FRONTENDS._entries))


class Own(nn.Identity):
    def __init__(self, in_chans: int) -> None:
        super().__init__()


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("frontend", "weights"), [("identity", 8_735_825), ("tfe1", 8_735_897), ("tfe2", 8_772_983), ("tfe4", 8_824_247)]
)
def test_the_published_parameter_counts(frontend: str, weights: int) -> None:
    model = timm.create_model(f"{frontend}.tf_efficientnetv2_b2", in_chans=1, num_classes=35)
    assert isinstance(model, FrontendModel)
    assert sum(parameter.numel() for parameter in model.parameters()) == weights


@pytest.mark.parametrize("in_chans", [1, 3])
def test_it_is_the_model_that_with_frontend_makes(in_chans: int) -> None:
    kwargs = {"in_chans": in_chans, "num_classes": 5, "drop_rate": 0.2}
    torch.manual_seed(0)
    found = timm.create_model("tfe4.test_resnet", fit="resize", layout="freq_time", **kwargs).eval()
    torch.manual_seed(0)
    backbone = timm.create_model("test_resnet", **kwargs)
    expected = with_frontend(backbone, "tfe4", in_chans=in_chans, fit="resize", layout="freq_time").eval()
    spec = noise(2, in_chans, 64, 32)
    assert torch.equal(found(spec), expected(spec))
    assert (found.fit, found.layout, found.backbone.drop_rate) == ("resize", "freq_time", 0.2)


def test_timm_knows_every_front_end_before_every_backbone() -> None:
    assert set(list_frontends()) <= set(timm.list_models(module="timm_names"))
    for name in ("tfe4.tf_efficientnetv2_b2", "tfa.vit_tiny_patch16_224.augreg_in21k", "identity.resnet18"):
        assert timm.is_model(name)
        assert name in timm.list_models(f"{name}*", include_tags=True)
        backbone = name.partition(".")[2]
        cfg, own = timm.get_pretrained_cfg(name).to_dict(), timm.get_pretrained_cfg(backbone).to_dict()
        names = {"architecture", "tag"}
        assert {k: v for k, v in cfg.items() if k not in names} == {k: v for k, v in own.items() if k not in names}
    assert "tfe2.resnet18.a1_in1k" in timm.list_pretrained("tfe2.*")
    plain = {name for name in timm.list_models() if timm.model_entrypoint(name).__module__ != timm_names.__name__}
    assert {f"tfe4.{name}" for name in plain} <= set(timm.list_models("tfe4.*", include_tags=True))


def backbone_weights(folder: Path) -> tuple[nn.Module, str]:
    torch.manual_seed(1)
    backbone = timm.create_model("test_resnet")
    safetensors.torch.save_file(backbone.state_dict(), folder / "weights.safetensors")
    return backbone, str(folder / "weights.safetensors")


@pytest.mark.parametrize("name", ["tfe4.test_resnet", "tfe4.test_resnet.r160_in1k"])
def test_pretrained_weights_are_the_backbones(name: str, tmp_path: Path) -> None:
    source, file = backbone_weights(tmp_path)
    model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": file}, num_classes=5, in_chans=1)
    assert model.backbone.pretrained_cfg["tag"] in (None, "r160_in1k")
    found, expected = model.backbone.state_dict(), source.state_dict()
    assert found.keys() == expected.keys()
    differ = {key for key in found if not torch.equal(found[key], expected[key])}
    assert differ == {"conv1.0.weight", "fc.weight", "fc.bias"}  # of the channels and the classes
    assert torch.allclose(found["conv1.0.weight"], expected["conv1.0.weight"].sum(1, keepdim=True), atol=1e-5)


def test_a_configuration_in_place_of_the_tag(tmp_path: Path) -> None:
    source, file = backbone_weights(tmp_path)
    cfg = timm.get_pretrained_cfg("tfe2.test_resnet.r160_in1k")
    cfg.file = file
    for given in (cfg, cfg.to_dict()):
        model = timm.create_model("tfe2", pretrained=True, pretrained_cfg=given)
        assert torch.equal(model.backbone.fc.weight, source.get_parameter("fc.weight"))
        for cfg, names in (
            (model.pretrained_cfg, ("tfe2", "test_resnet.r160_in1k")),
            (model.backbone.pretrained_cfg, ("test_resnet", "r160_in1k")),
        ):
            assert (cfg["architecture"], cfg["tag"]) == names
            again = timm.create_model("tfe2.test_resnet", pretrained_cfg=cfg)
            assert again.pretrained_cfg == model.pretrained_cfg


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("tfe4.test_resnet.r160_in1k", {"layout": "freq_time", "fit": "resize"}),
        ("tfa.test_vit_relpos", {"img_size": (64, 32)}),
        ("identity.test_efficientnet", {"global_pool": "max"}),
    ],
)
def test_timm_stores_a_model_and_makes_it_again(
    name: str, kwargs: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = timm.create_model(name, in_chans=1, num_classes=5, **kwargs).eval()
    model.reset_classifier(7)
    config = {"label_names": list("abcdefg")}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    timm.models.save_for_hf(model, tmp_path, config, safe_serialization=True, data_config={"mean": 0.0, "std": 1.0})
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert isinstance(loaded, FrontendModel)
    assert (loaded.layout, loaded.fit) == (model.layout, model.fit)
    spec = noise(2, 1, 64, 32)
    torch.testing.assert_close(loaded(spec), model(spec), rtol=0, atol=0)
    assert loaded.pretrained_cfg["label_names"] == config["label_names"]
    assert "state_dict" not in loaded.pretrained_cfg
    assert timm.models.get_model_args(loaded) == timm.models.get_model_args(model)
    other = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=3).eval()
    assert other(spec).shape == (2, 3)
    torch.testing.assert_close(other.forward_features(spec), model.forward_features(spec), rtol=0, atol=0)
    with caplog.at_level(logging.WARNING, "specenhance"):
        wide = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, in_chans=3).eval()
    assert wide(noise(2, 3, 64, 32)).shape == (2, 7)
    assert torch.equal(wide.get_classifier().weight, model.get_classifier().weight)
    (warned,) = [r.message for r in caplog.records if r.name.startswith("specenhance")]
    assert "starts anew: its weights are for in_chans=1, not 3" in warned


def test_what_timms_scripts_do_with_a_model(tmp_path: Path) -> None:
    """The calls of timm's train.py and validate.py that concern the model, in their order."""
    args: dict[str, Any] = {"input_size": (1, 64, 32), "in_chans": None, "img_size": None}
    factory = resolve_model_input_args("tfe4.test_vit", args, num_classes=5, drop_rate=0.1, global_pool=None)
    model = timm.create_model(**factory, pretrained=False, scriptable=False, checkpoint_path="", drop_path_rate=None)
    assert model.num_classes == 5
    model.set_grad_checkpointing(enable=True)
    assert resolve_data_config(args, model=model)["input_size"] == (1, 64, 32)
    assert resolve_data_config(model.pretrained_cfg) == resolve_data_config(model.backbone.pretrained_cfg)
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.7)
    ema = ModelEmaV3(model)
    model.train()
    spec = noise(2, 1, 64, 32)
    nn.functional.cross_entropy(model(spec), torch.tensor([0, 1])).backward()
    nn.utils.clip_grad_norm_(model_parameters(model, exclude_head=True), 1.0)
    optimizer.step()
    ema.update(model)

    checkpoint = tmp_path / "checkpoint.pth.tar"
    torch.save({"arch": "tfe4.test_vit", "state_dict": model.state_dict()}, checkpoint)
    validated = timm.create_model(**factory, checkpoint_path=str(checkpoint))
    assert torch.equal(validated.eval()(spec), model.eval()(spec))


SCRIPT = """
import sys
import timm

if __name__ == "__main__":
    import beside

    model = timm.create_model(sys.argv[1], in_chans=1, num_classes=int(sys.argv[2]))
    print(type(model).__name__, model.num_classes, sys.argv[0], beside.NAME)
"""


def run_script(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error::UserWarning", "-m", "specenhance.models.timm_names", *arguments]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
    }
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_a_script_of_timms_knows_the_names_when_this_module_runs_it(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "train.py").write_text(SCRIPT)
    (tmp_path / "scripts" / "beside.py").write_text("NAME = 'a module beside the script'")
    done = run_script("scripts/train.py", "tfe4.test_resnet", "7", folder=tmp_path)
    assert done.stdout == "FrontendModel 7 scripts/train.py a module beside the script\n", done.stderr
    missing = run_script("nofile.py", folder=tmp_path)
    assert missing.returncode == 1
    assert re.fullmatch(
        r"usage: python -m specenhance.models.timm_names SCRIPT .*there is no file 'nofile.py'\n", missing.stderr
    )


def test_device_and_dtype_are_the_whole_models() -> None:
    model = timm.create_model("tfe4.test_resnet", device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in model.parameters()} == {("meta", torch.bfloat16)}


def test_feature_maps_by_name() -> None:
    model = timm.create_model("tfe1.test_resnet", in_chans=1, features_only=True, out_indices=(1, 3))
    assert [maps.shape[1] for maps in model(noise(1, 1, 64, 64))] == model.feature_info.channels()


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("tfe4", ValueError, r"'tfe4' alone is no model.*timm.create_model\('tfe4.tf_efficientnetv2_b2'\)"),
        ("tfe4.resnet81", ValueError, r"'resnet81' no timm model to put behind it"),
        ("tfe4.resnet18.nonsense", RuntimeError, r"Invalid pretrained tag \(nonsense\) for resnet18"),
        ("tfe4.csatv2", ValueError, "cannot read in_chans=1; make it with in_chans=3"),
    ],
)
def test_what_is_refused(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        timm.create_model(name, in_chans=1)


def test_a_front_end_that_is_registered_later() -> None:
    assert not timm.is_model("tfe7.test_resnet")
    register_timm_models("tfe7", "tfe4")
    assert len(timm.create_model("tfe7.test_resnet").frontend.blocks) == 7
    assert "tfe7.test_resnet" in timm.list_models("tfe7.*", include_tags=True)
    assert timm_names.__all__ == ["register_timm_models"]


def test_names_that_timm_cannot_have() -> None:
    for name in ("a.b", "resnet18"):
        register_frontend(name)(Own)
    for name, message in (
        ("a.b", "without one"),
        ("resnet18", "name of a timm model already"),
        ("tef", "did you mean"),
    ):
        with pytest.raises(ValueError, match=message):
            register_timm_models(name)
    assert type(timm.create_model("resnet18")).__name__ == "ResNet"


def test_a_front_end_that_makes_channels_reads_one() -> None:
    model = timm.create_model("delta.test_resnet", num_classes=2)
    assert model(noise(2, 1, 64, 32)).shape == (2, 2)
