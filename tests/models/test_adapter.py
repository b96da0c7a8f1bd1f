"""with_frontend: what goes in and comes out, and that timm's own tools work on the result and mean the same."""

import copy
import inspect
import io
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.data import resolve_model_data_config
from timm.layers import set_scriptable
from timm.models import (
    create_feature_extractor,
    get_graph_node_names,
    get_model_input_config,
    group_modules,
    group_parameters,
    load_checkpoint,
    model_parameters,
    reparameterize_model,
)
from timm.models._features import FeatureGetterNet
from timm.optim import create_optimizer_v2, param_groups_layer_decay
from timm.utils import AttentionExtract, ModelEmaV3, freeze
from timm.utils.clip_grad import dispatch_clip_grad
from timm.utils.model import unfreeze, unwrap_model
from torch import Tensor, nn
from torch.nn.utils import prune

from specenhance import FrontendModel, KaldiFbank, TrainableMel, create_frontend, with_frontend

# A backbone of each kind, small; the second word gives arguments of timm.create_model.
BACKBONES: dict[str, dict[str, Any]] = {
    "test_efficientnet": {},
    "test_resnet": {},
    "test_convnext": {},
    "test_vit": {},
    "mobilenetv3_small_050": {},
    "swin_tiny_patch4_window7_224": {"img_size": (64, 32), "embed_dim": 24, "depths": (1, 1), "num_heads": (1, 2)},
    "deit_tiny_distilled_patch16_224": {"img_size": (64, 32), "embed_dim": 24, "depth": 2, "num_heads": 2},
}
# These have no group_matcher, or one whose patterns leave no parameter over.
UNUSUAL_GROUPS: dict[str, dict[str, Any]] = {
    "pit_ti_224": {},
    "qwen3_vit_88m": {"img_size": (64, 32), "embed_dim": 24, "depth": 2, "num_heads": 2},
}
T, F = 64, 32


def make_backbone(name: str = "test_efficientnet", in_chans: int = 1, num_classes: int = 5, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    arguments = {**BACKBONES, **UNUSUAL_GROUPS}.get(name, {}) | kwargs
    return timm.create_model(name, in_chans=in_chans, num_classes=num_classes, **arguments).eval()


def make_model(
    name: str = "test_efficientnet", frontend: str = "tfe2", *, layout: str = "time_freq", fit: str = "error", **kw: Any
) -> Any:
    return with_frontend(make_backbone(name, **kw), frontend, layout=layout, fit=fit).eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Spy(nn.Module):
    def __init__(self, in_chans: int = 1) -> None:
        super().__init__()
        self.in_chans = in_chans

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return x.mean((2, 3))


# What goes in and comes out


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("in_chans", [1, 3])
def test_identity_equals_the_backbone_bit_for_bit(name: str, in_chans: int) -> None:
    backbone = make_backbone(name, in_chans)
    model = with_frontend(backbone, "identity", in_chans=in_chans).eval()
    spec = noise(2, in_chans, T, F)
    assert torch.equal(model(spec), backbone(spec))
    assert torch.equal(model.forward_features(spec), backbone.forward_features(spec))
    trained = []
    for module in (copy.deepcopy(backbone), model):
        torch.manual_seed(0)  # for what drops at random
        trained.append(module.train()(spec))
    torch.testing.assert_close(*trained, rtol=0, atol=0)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("frontend", ["tfa", "tfe1", "tfe4"])
def test_the_backbone_gets_the_enhanced_spectrogram(name: str, frontend: str) -> None:
    model, spec = make_model(name, frontend), noise(2, 1, T, F)
    assert isinstance(model, FrontendModel)
    assert torch.equal(model(spec), model.backbone(model.frontend(spec)))
    torch.testing.assert_close(model.enhance(spec), spec * model.frontend.mask(spec))
    assert torch.equal(model.spectrogram(spec), spec)


def test_a_front_end_is_a_name_with_arguments_or_a_module() -> None:
    frontend = create_frontend("tfe2", kernel_size=3)
    assert with_frontend(Spy(), frontend).frontend is frontend
    assert with_frontend(Spy(), "tfe2", kernel_size=3).frontend.kernel_size == 3
    assert with_frontend(Spy(2), "tfe1", in_chans=2).frontend.in_chans == 2
    assert torch.equal(with_frontend(Spy(), nn.Tanh())(noise(2, 1, 5, 4)), noise(2, 1, 5, 4).tanh().mean((2, 3)))


@pytest.mark.parametrize("backbone_chans", [2, 3])
@pytest.mark.parametrize("layout", ["time_freq", "freq_time"])
def test_one_channel_is_widened_as_a_view(backbone_chans: int, layout: str) -> None:
    spy, spec = Spy(backbone_chans), noise(2, 1, 6, 4)
    with_frontend(spy, "identity", layout=layout)(spec)
    assert spy.seen.shape == (2, backbone_chans, *((6, 4) if layout == "time_freq" else (4, 6)))
    assert spy.seen.data_ptr() == spec.data_ptr()
    assert spy.seen.stride()[1] == 0
    assert spy.seen.untyped_storage().nbytes() == spec.untyped_storage().nbytes()


def test_what_is_widened_is_the_enhanced_spectrogram() -> None:
    spy, spec = Spy(3), noise(2, 1, 6, 4).requires_grad_()
    model = with_frontend(spy, "tfe2")
    model(spec).sum().backward()
    assert torch.equal(spy.seen, model.enhance(spec).repeat(1, 3, 1, 1))
    assert spy.seen.stride()[1] == 0
    assert spec.grad is not None
    assert spec.grad.any()


@pytest.mark.parametrize(
    ("name", "in_chans", "kwargs"),
    [(name, chans, kwargs) for name, kwargs in BACKBONES.items() for chans in (1, 3)] + [("test_mambaout", 3, {})],
)
def test_the_channels_that_a_timm_backbone_reads_are_known(name: str, in_chans: int, kwargs: dict[str, Any]) -> None:
    model = with_frontend(make_backbone(name, in_chans, **kwargs), "tfe1")
    assert model(noise(1, 1, T, F)).shape == (1, 5)


def test_a_wide_spectrogram_is_not_narrowed_or_widened() -> None:
    model = with_frontend(Spy(3), "identity", in_chans=2)
    with pytest.raises(
        ValueError, match=r"takes 3 channel\(s\), got .* \(2, 2, 6, 4\); make the backbone with in_chans=2"
    ):
        model(noise(2, 2, 6, 4))
    wide = with_frontend(Spy(3), "tfa", in_chans=3)
    assert wide(noise(2, 3, 6, 4)).shape == (2, 3)
    with pytest.raises(ValueError, match=r"expected a spectrogram of 3 channel\(s\), got 1 .*in_chans=1"):
        wide(noise(2, 1, 6, 4))


@pytest.mark.parametrize("frontend", ["identity", "tfe2"])
@pytest.mark.parametrize("in_chans", [1, 3])
def test_three_axes_are_one_channel(frontend: str, in_chans: int) -> None:
    model, spec = make_model("test_resnet", frontend, in_chans=in_chans), noise(2, T, F)
    assert torch.equal(model(spec), model(spec[:, None]))
    assert model.enhance(spec).shape == model.spectrogram(spec).shape == (2, 1, T, F)
    assert torch.equal(model.forward_features(spec), model.forward_features(spec[:, None]))


def test_freq_time_turns_the_axes_for_the_backbone_alone() -> None:
    spy, spec = Spy(), noise(2, 1, 6, 4)
    model = with_frontend(spy, "tfe2", layout="freq_time")
    model(spec)
    assert model.enhance(spec).shape == (2, 1, 6, 4)
    assert torch.equal(spy.seen, model.frontend(spec).transpose(2, 3))
    for call in ("forward_features", "forward_intermediates"):
        turned = make_model("test_resnet", "identity", layout="freq_time")
        straight = with_frontend(turned.backbone, "identity")
        found, expected = getattr(turned, call)(noise(2, 1, T, F)), getattr(straight, call)(noise(2, 1, T, F).mT)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "features", [lambda: TrainableMel(frames=T, num_mel_bins=F), lambda: KaldiFbank(frames=T, num_mel_bins=F)]
)
def test_from_waveform_to_logits(features) -> None:
    model = with_frontend(make_backbone(), "tfe4", features=features())
    waveform = 0.1 * noise(3, 8000)
    assert model.spectrogram(waveform).shape == (3, 1, T, F)
    assert torch.equal(model.spectrogram(waveform), model.features(waveform))
    logits = model(waveform)
    assert logits.shape == (3, 5)
    without = with_frontend(model.backbone, model.frontend)
    torch.testing.assert_close(logits, without(model.features(waveform)))
    torch.testing.assert_close(model.forward_features(waveform), without.forward_features(model.features(waveform)))
    assert {name.split(".")[0] for name in model.state_dict()} <= {"features", "frontend", "backbone"}


def test_gradients_reach_the_filters_of_the_features() -> None:
    model = with_frontend(make_backbone(), "tfe4", features=TrainableMel(frames=T, num_mel_bins=F)).train()
    optimiser = create_optimizer_v2(model, "adam", lr=1e-3)
    waveform, labels = 0.1 * noise(4, 8000), torch.tensor([0, 1, 2, 3])
    before = {name: value.clone() for name, value in model.named_parameters()}
    loss = nn.functional.cross_entropy(model(waveform), labels)
    loss.backward()
    for name in ("features.mel_basis", "frontend.blocks.0.time.conv1.weight", "backbone.conv_stem.weight"):
        gradient = model.get_parameter(name).grad
        assert gradient is not None
        assert gradient.isfinite().all()
        assert gradient.any()
    optimiser.step()
    assert not torch.equal(model.features.mel_basis, before["features.mel_basis"])
    assert nn.functional.cross_entropy(model(waveform), labels) < loss


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: with_frontend(Spy(), "tfe"), ValueError, "unknown front end 'tfe': did you mean"),
        (
            lambda: with_frontend(Spy(), "tfe2", layout="tf"),
            ValueError,
            "layout='tf': expected one of time_freq, freq_",
        ),
        (lambda: with_frontend(Spy(), "tfe2", fit="pad"), ValueError, "fit='pad': expected one of error, resize"),
        (lambda: with_frontend("resnet18", "tfe2"), TypeError, r"backbone: .*timm.create_model\(...\) .* got str"),
        (lambda: with_frontend(Spy(), 4), TypeError, "frontend: expected a name or a module, got int"),
        (lambda: with_frontend(Spy(), "tfe2", kernel=3), TypeError, "'kernel'; it takes in_chans, n, kernel_size"),
        (lambda: with_frontend(Spy(), nn.Tanh(), n=3), TypeError, r"\['n'\] go to a front end given by name"),
        (lambda: with_frontend(Spy(), "tfe2")(torch.zeros(6, 4)), ValueError, "2 axes"),
        (lambda: with_frontend(Spy(), "tfe2")(torch.zeros(2, 6, 4).int()), TypeError, "got torch.int32"),
        (lambda: with_frontend(Spy(), "tfe2")(torch.zeros(2, 0, 4)), ValueError, "at least one"),
    ],
)
def test_what_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# timm's model interface


@pytest.mark.parametrize("name", BACKBONES)
def test_features_and_head_are_the_two_halves_of_the_model(name: str) -> None:
    model, spec = make_model(name, "tfe2"), noise(2, 1, T, F)
    features = model.forward_features(spec)
    assert torch.equal(features, model.backbone.forward_features(model.enhance(spec)))
    assert torch.equal(model.forward_head(features), model(spec))
    expected = model.backbone.forward_head(features, pre_logits=True)
    torch.testing.assert_close(model.forward_head(features, pre_logits=True), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", BACKBONES)
def test_intermediates_are_the_backbones(name: str) -> None:
    model, spec = make_model(name, "tfe2"), noise(2, 1, T, F)
    enhanced = model.enhance(spec)
    for arguments in ({}, {"indices": 1, "intermediates_only": True}, {"indices": [0], "output_fmt": "NCHW"}):
        found = model.forward_intermediates(spec, **arguments)
        expected = model.backbone.forward_intermediates(enhanced, **arguments)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", BACKBONES)
def test_what_describes_the_backbone(name: str) -> None:
    model = make_model(name)
    backbone = model.backbone
    assert model.num_classes == backbone.num_classes == 5
    assert model.num_features == backbone.num_features
    assert model.head_hidden_size == backbone.head_hidden_size
    assert model.get_classifier() is backbone.get_classifier() or model.get_classifier() == backbone.get_classifier()


@pytest.mark.parametrize("name", BACKBONES)
def test_the_classifier_can_be_replaced(name: str) -> None:
    model, spec = make_model(name), noise(2, 1, T, F)
    features = model.forward_features(spec)
    model.reset_classifier(7)
    assert model.num_classes == model.backbone.num_classes == 7
    assert model(spec).shape == (2, 7)
    assert torch.equal(model.forward_features(spec), features)
    model.reset_classifier(0)
    assert model(spec).shape == (2, model.head_hidden_size)


def test_the_classifiers_pooling_can_be_replaced() -> None:
    model = make_model("test_resnet")
    model.reset_classifier(0, global_pool="")
    assert model(noise(2, 1, T, F)).shape == (2, model.num_features, T // 32, F // 32)


@pytest.mark.parametrize("name", BACKBONES)
def test_module_names_in_feature_info_and_pretrained_cfg_are_this_models(name: str) -> None:
    model = make_model(name)
    backbone = model.backbone
    kept = copy.deepcopy((backbone.feature_info, backbone.pretrained_cfg))
    assert len(model.feature_info) == len(backbone.feature_info) > 0
    for ours, theirs in zip(model.feature_info, backbone.feature_info, strict=True):
        assert ours["module"] == f"backbone.{theirs['module']}"
        assert {**ours, "module": None} == {**theirs, "module": None}
        if name != "test_vit" and "deit" not in name:  # whose own names are of modules that a block has not
            assert model.get_submodule(ours["module"]) is backbone.get_submodule(theirs["module"])
    cfg, theirs = model.pretrained_cfg, backbone.pretrained_cfg
    classifiers = [cfg["classifier"]] if isinstance(cfg["classifier"], str) else cfg["classifier"]
    found = model.get_classifier()
    assert [model.get_submodule(n) for n in classifiers] == list(found if isinstance(found, tuple) else [found])
    assert type(cfg["classifier"]) is type(theirs["classifier"])
    assert isinstance(model.get_submodule(cfg["first_conv"]), nn.Conv2d)
    changed = {"classifier", "first_conv"}
    assert {k: v for k, v in cfg.items() if k not in changed} == {k: v for k, v in theirs.items() if k not in changed}
    assert model.default_cfg == cfg
    assert resolve_model_data_config(model) == resolve_model_data_config(backbone)
    cfg["input_size"] = None
    assert (backbone.feature_info, backbone.pretrained_cfg) == kept, "the backbone's own were written to"


def test_a_backbone_that_lacks_what_timms_have_is_taken_and_says_so() -> None:
    model = with_frontend(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "tfe1")
    assert model(noise(2, 1, 9, 8)).shape == (2, 4)
    assert model.no_weight_decay() == set()
    assert not hasattr(model, "num_classes")
    assert not hasattr(model, "pretrained_cfg")
    with pytest.raises(AttributeError, match="forward_features"):
        model.forward_features(noise(2, 1, 9, 8))


# What timm and its users ask of a model, beyond the calls above


def test_what_timm_asks_is_answered_by_the_backbone() -> None:
    swin, vit = make_model("swin_tiny_patch4_window7_224"), make_model("test_vit")
    assert swin.output_fmt == "NHWC" == swin.backbone.output_fmt
    assert swin.forward_features(noise(1, 1, T, F)).shape[-1] == swin.num_features
    assert (vit.num_prefix_tokens, vit.global_pool) == (vit.backbone.num_prefix_tokens, vit.backbone.global_pool)
    assert vit.cls_token is vit.backbone.cls_token
    assert vit.blocks is vit.backbone.blocks
    assert vit.patch_embed.grid_size == (10, 10)
    distilled = make_model("deit_tiny_distilled_patch16_224")
    assert distilled.dist_token is distilled.backbone.dist_token


def test_a_model_has_the_methods_that_its_backbone_has() -> None:
    methods = ("set_input_size", "set_distilled_training", "get_intermediate_layers", "prune_intermediate_layers")
    for name in (*BACKBONES, "pit_ti_224"):
        model = make_model(name)
        for method in (*methods, "forward_features", "forward_intermediates", "reset_classifier", "output_fmt", "fc"):
            assert hasattr(model, method) == hasattr(model.backbone, method), (name, method)
        assert inspect.signature(model.reset_classifier) == inspect.signature(model.backbone.reset_classifier)
        assert inspect.signature(model.forward_features) == inspect.signature(model.backbone.forward_features)


def test_distilled_training_can_be_switched() -> None:
    model, spec = make_model("deit_tiny_distilled_patch16_224").train(), noise(2, 1, T, F)
    assert isinstance(model(spec), Tensor)
    model.set_distilled_training(True)
    assert model.distilled_training is True
    assert [logits.shape for logits in model(spec)] == [(2, 5), (2, 5)]
    with pytest.raises(AttributeError, match=r"a ResNet, has no set_distilled_training: .* other families"):
        make_model("test_resnet").set_distilled_training(True)


@pytest.mark.parametrize("layout", ["time_freq", "freq_time"])
def test_intermediate_layers_see_the_front_end(layout: str) -> None:
    model, spec = make_model("test_vit", "tfe2", layout=layout, img_size=(T, T)), noise(2, 1, T, T)
    enhanced = model.enhance(spec) if layout == "time_freq" else model.enhance(spec).mT
    found = model.get_intermediate_layers(spec, n=2, reshape=True, norm=True)
    expected = model.backbone.get_intermediate_layers(enhanced, n=2, reshape=True, norm=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_pruning_to_an_intermediate_layer() -> None:
    model, spec = make_model("test_vit"), noise(2, 1, T, F)
    expected = model.forward_intermediates(spec, indices=[1], intermediates_only=True)
    assert model.prune_intermediate_layers(indices=[1], prune_head=True) == [1]
    assert len(model.blocks) == 2
    torch.testing.assert_close(model.forward_intermediates(spec, indices=[1], intermediates_only=True), expected)


def test_a_method_that_would_not_see_the_front_end_is_refused() -> None:
    class Backbone(Spy):
        def encode(self, x: Tensor) -> Tensor:
            return x.mean(3)

    model = with_frontend(Backbone(), "tfe1")
    assert not hasattr(model, "encode")
    with pytest.raises(AttributeError, match=r"no method encode; .*model.backbone.encode, does not see the front end"):
        model.encode(noise(1, 1, T, F))
    with pytest.raises(AttributeError, match=r"no method as_sequential; the backbone's own"):
        make_model("test_efficientnet").as_sequential()


def test_what_is_set_on_the_model_reaches_the_backbone() -> None:
    model = make_model("test_resnet")
    model.grad_checkpointing = True
    model.num_classes = 9
    assert (model.backbone.grad_checkpointing, model.backbone.num_classes) == (True, 9)
    assert not {"grad_checkpointing", "num_classes"} & vars(model).keys()
    model.note = "mine"
    assert vars(model)["note"] == "mine"
    assert not hasattr(model.backbone, "note")
    for value in (nn.Linear(2, 3), None):
        with pytest.raises(AttributeError, match=r"fc is a part of the backbone; set it there, model.backbone.fc = "):
            model.fc = value
    cfg = model.pretrained_cfg | {"mean": (0.5,), "label_names": ["a"]}
    for name in ("pretrained_cfg", "default_cfg"):
        setattr(model, name, cfg)
        assert getattr(model, name) == cfg
        assert getattr(model.backbone, name) == cfg | {"first_conv": "conv1.0", "classifier": "fc"}
        cfg = cfg | {"mean": (0.25,)}


def test_what_timm_keeps_beside_a_model_follows_it() -> None:
    model = make_model("test_vit")
    model.set_input_size(img_size=(T, F))
    expected = {"input_size": (1, T, F), "first_conv": "backbone.patch_embed.proj", "fixed_input_size": False}
    assert get_model_input_config(model) == expected
    assert get_model_input_config(model.backbone)["first_conv"] == "patch_embed.proj"


def test_a_backbone_in_a_wrapper_is_not_taken_for_the_whole_model() -> None:
    model = with_frontend(nn.DataParallel(make_backbone("test_resnet")), "tfe1")
    assert unwrap_model(model) is model
    assert unwrap_model(nn.DataParallel(model)) is model


@pytest.mark.parametrize("name", ["fastvit_t8", "repvit_m1"])
def test_branches_are_fused_for_inference(name: str) -> None:
    model, spec = make_model(name), noise(1, 1, T, T)
    fused = reparameterize_model(model)
    assert type(fused) is FrontendModel
    assert len(list(fused.parameters())) < len(list(model.parameters()))
    torch.testing.assert_close(fused(spec), model(spec), rtol=1e-3, atol=1e-4)


# Optimisers


def names_by_id(model: nn.Module) -> dict[int, str]:
    return {id(parameter): name for name, parameter in model.named_parameters()}


def without_decay(model: nn.Module) -> set[str]:
    names = names_by_id(model)
    optimiser = create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.1)
    groups = {group["weight_decay"]: {names[id(p)] for p in group["params"]} for group in optimiser.param_groups}
    assert set(groups) == {0.0, 0.1}
    assert set(names.values()) == groups[0.0] | groups[0.1]
    return groups[0.0]


@pytest.mark.parametrize("name", BACKBONES)
def test_weight_decay_spares_what_it_spares_in_the_backbone(name: str) -> None:
    model = make_model(name)
    own = getattr(model.backbone, "no_weight_decay", set)()
    assert model.no_weight_decay() == {f"backbone.{n}" for n in own}
    spared = without_decay(model)
    assert {n for n in spared if n.startswith("backbone.")} == {f"backbone.{n}" for n in without_decay(model.backbone)}
    frontend = {n for n in spared if n.startswith("frontend.")}
    assert frontend == {f"frontend.{n}" for n, _ in model.frontend.named_parameters() if n.endswith("bias")}


def test_weight_decay_spares_a_vits_embeddings() -> None:
    assert {"backbone.pos_embed", "backbone.cls_token"} <= make_model("test_vit").no_weight_decay()


def test_front_ends_and_features_may_ask_for_no_weight_decay() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1, 1, 1))

        def forward(self, spec: Tensor) -> Tensor:
            return self.scale * spec

        def no_weight_decay(self) -> set[str]:
            return {"scale"}

    model = with_frontend(make_backbone(), Scale(), features=Scale())
    assert model.no_weight_decay() == {"frontend.scale", "features.scale"}
    assert {"frontend.scale", "features.scale"} <= without_decay(model)


def layer_scales(model: nn.Module) -> dict[str, float]:
    names = names_by_id(model)
    groups = param_groups_layer_decay(model, layer_decay=0.5)
    return {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}


@pytest.mark.parametrize("name", [*BACKBONES, *UNUSUAL_GROUPS])
@pytest.mark.parametrize("num_classes", [5, 0])
def test_layer_wise_rates_are_the_backbones_and_the_front_ends_is_full(name: str, num_classes: int) -> None:
    backbone = make_backbone(name, num_classes=num_classes)
    model = with_frontend(backbone, "tfe2", features=TrainableMel(frames=T, num_mel_bins=F))
    alone, together = layer_scales(backbone), layer_scales(model)
    assert min(alone.values()) < 0.5
    assert {n.removeprefix("backbone."): s for n, s in together.items() if n.startswith("backbone.")} == alone
    before = {n: scale for n, scale in together.items() if not n.startswith("backbone.")}
    assert "features.mel_basis" in before
    assert set(before.values()) == {1.0}
    optimiser = create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.1, layer_decay=0.5)
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(list(model.parameters()))


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("coarse", [False, True])
def test_groups_are_the_backbones_for_parameters_and_modules(name: str, coarse: bool) -> None:
    model = make_model(name)
    for group in (group_parameters, group_modules):
        alone = group(model.backbone, model.backbone.group_matcher(coarse=coarse), reverse=True)
        together = group(model, model.group_matcher(coarse=coarse), reverse=True)
        assert len(set(alone.values())) > 1
        assert {n.removeprefix("backbone."): i for n, i in together.items() if n.startswith("backbone.")} == alone
        assert {i for n, i in together.items() if n.startswith("frontend.")} == {max(alone.values())}


MATCHERS = {
    "anchors in alternatives": {"stem": r"^stem|^embed", "blocks": r"^(?:layers|^blocks)\.(\d+)"},
    "no anchors": {"stem": r"(?:stem|embed)", "blocks": [(r"layers\.(\d+)", None), (r"norm", (99999,))]},
    "classes of characters": {"stem": r"^[^lnhb.]+", "blocks": [(r"^[^.]+\.(\d+)\.", None), (r"^norm", (0,))]},
    "looking ahead": {"stem": r"^(?!layers|head|norm)", "blocks": r"^layers\.(\d+)", "none": None},
    "nothing left over": {"stem": r"^stem|^embed", "rest": [(r"^layers\.(\d+)", None), (r"^(?:norm|head)", (9,))]},
    "a function": lambda name: int(name.split(".")[1]) if name.startswith("layers.") else (0 if "stem" in name else 9),
    "a function of several numbers": lambda name: (1, int(name.split(".")[1])) if "layers" in name else (0,),
}


@pytest.mark.parametrize("matcher", MATCHERS.values(), ids=MATCHERS)
def test_any_kind_of_group_matcher_keeps_its_meaning(matcher: Any) -> None:
    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Parameter(torch.zeros(1))
            self.stem = nn.Conv2d(1, 2, 1)
            self.layers = nn.ModuleList(nn.Conv2d(2, 2, 1) for _ in range(12))
            self.norm = nn.BatchNorm2d(2)
            self.head = nn.Linear(2, 3)

        def group_matcher(self, coarse: bool = False) -> Any:
            return matcher

    model = with_frontend(Backbone(), "tfe1")
    alone = group_parameters(model.backbone, matcher, reverse=True)
    together = group_parameters(model, model.group_matcher(), reverse=True)
    assert max(alone.values()) > 2
    assert {n.removeprefix("backbone."): i for n, i in together.items() if n.startswith("backbone.")} == alone
    assert {i for n, i in together.items() if n.startswith("frontend.")} == {max(alone.values())}


def test_adaptive_gradient_clipping_leaves_the_head_out() -> None:
    model = make_model("test_resnet").train()
    model(noise(2, 1, T, F)).sum().backward()
    kept = {n: p.grad.clone() for n, p in model.named_parameters()}
    dispatch_clip_grad(model_parameters(model, exclude_head=True), value=1e-6, mode="agc")
    untouched = {n for n, p in model.named_parameters() if torch.equal(p.grad, kept[n])}
    assert {"backbone.fc.weight", "backbone.fc.bias"} <= untouched
    assert "backbone.conv1.0.weight" not in untouched


# Memory and size


def test_gradient_checkpointing_computes_twice_and_gives_the_same_gradients() -> None:
    model, spec = make_model("test_vit"), noise(2, 1, T, F)
    calls = []
    model.backbone.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        assert model.backbone.grad_checkpointing is enable
        calls.clear()
        model.zero_grad()
        model(spec).square().sum().backward()
        assert len(calls) == 1 + enable
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    torch.testing.assert_close(*gradients)
    model.set_grad_checkpointing()
    assert model.backbone.grad_checkpointing is True


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("test_vit_relpos", {"img_size": 64}),
        ("vit_tiny_patch16_224", {"img_size": (64, 64), "embed_dim": 24, "depth": 1, "num_heads": 2}),
        ("swin_tiny_patch4_window7_224", {"img_size": (64, 64)}),
    ],
)
@pytest.mark.parametrize("layout", ["time_freq", "freq_time"])
def test_another_size_is_refused_with_the_cure_and_the_cure_works(name: str, kwargs: dict, layout: str) -> None:
    model = make_model(name, "tfe1", layout=layout, **kwargs)
    spec = noise(2, 1, 96, 32)
    size = (96, 32) if layout == "time_freq" else (32, 96)
    axes = "(T, F)" if layout == "time_freq" else "(F, T)"
    message = (
        rf"fixed input size, \(64, 64\), and refused .* of {re.escape(f'{axes} = {size}')} .*"
        rf"{re.escape(f'timm.create_model(..., img_size={size}) or call model.set_input_size(img_size={size})')}"
    )
    for call in (model, model.forward_features, model.forward_intermediates):
        with pytest.raises(ValueError, match=message):
            call(spec)
    made = make_model(name, "tfe1", layout=layout, **kwargs | {"img_size": size})
    assert made(spec).shape == (2, 5)
    model.set_input_size(img_size=size)
    assert model(spec).shape == (2, 5)
    assert model.forward_features(spec).shape == made.forward_features(spec).shape
    with pytest.raises(ValueError, match=re.escape(f"fixed input size, {size}")):
        model(noise(2, 1, 64, 64))


def test_set_input_size_passes_on_what_timm_takes() -> None:
    model = make_model("swin_tiny_patch4_window7_224")
    model.set_input_size((64, 64), window_size=4)
    assert model.backbone.layers[0].blocks[0].window_size == (4, 4)
    assert model(noise(2, 1, 64, 64)).shape == (2, 5)


def test_what_timm_keeps_of_the_feature_levels_follows_the_input_size() -> None:
    backbone = timm.create_model(
        "swin_tiny_patch4_window7_224", in_chans=1, img_size=(64, 96), patch_size=2, window_size=4, embed_dim=16,
        depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1),
    )  # fmt: skip
    model = with_frontend(backbone, "tfe1").eval()
    features = FeatureGetterNet(model, out_indices=(0, 1, 2, 3)).eval()
    for size, patch_size in (((64, 96), 2), ((96, 128), 4), ((64, 96), 2)):
        model.set_input_size(img_size=size, patch_size=patch_size)
        reductions = [patch_size * 2**i for i in range(4)]
        assert features.feature_info.reduction() == reductions
        assert [level["reduction"] for level in model.feature_info] == reductions
        with torch.no_grad():
            maps = features(torch.randn(1, 1, *size))
        assert [tuple(each.shape[-2:]) for each in maps] == [tuple(s // r for s in size) for r in reductions]


def test_a_fixed_size_that_cannot_be_changed_says_how_to_make_the_model() -> None:
    kwargs = {"embed_dim": 24, "depth": 1, "num_heads": 2}
    model = make_model("cait_xxs24_224", "tfe1", img_size=64, **kwargs)
    with pytest.raises(
        ValueError, match=r"fixed input size, \(64, 64\).*create_model\(..., img_size=\(96, 32\)\), or"
    ) as e:
        model(noise(2, 1, 96, 32))
    assert "set_input_size" not in str(e.value)
    assert make_model("cait_xxs24_224", "tfe1", img_size=(96, 32), **kwargs)(noise(2, 1, 96, 32)).shape == (2, 5)
    for name in ("cait_xxs24_224", "test_resnet"):
        with pytest.raises(AttributeError, match=r"cannot change its input size; .*img_size=\(T, F\)"):
            make_model(name, **(kwargs if name != "test_resnet" else {})).set_input_size((96, 32))


def test_a_size_between_the_steps_of_a_backbone_is_refused_with_the_cure() -> None:
    message = r"refused .* of \(T, F\) = \(100, 100\) \(.*divisible by patch size.*own is \(160, 160\).*fit='resize'"
    with pytest.raises(ValueError, match=message):
        make_model("test_vit")(noise(2, 1, 100, 100))


def test_other_errors_of_the_backbone_are_not_taken_for_a_wrong_size() -> None:
    model = make_model("test_vit_relpos", img_size=64)
    model.backbone.norm = nn.LayerNorm(3)
    with pytest.raises(RuntimeError, match="normalized_shape"):
        model(noise(2, 1, 64, 64))


@pytest.mark.parametrize("layout", ["time_freq", "freq_time"])
@pytest.mark.parametrize("name", ["test_resnet", "swin_tiny_patch4_window7_224"])
def test_resizing_brings_the_enhanced_spectrogram_to_the_backbones_size(name: str, layout: str) -> None:
    backbone = make_backbone(name)
    model = with_frontend(backbone, "tfe2", layout=layout, fit="resize").eval()
    spec, size = noise(2, 1, 200, 40), (160, 160) if name == "test_resnet" else (64, 32)
    assert model.enhance(spec).shape == spec.shape
    enhanced = model.enhance(spec) if layout == "time_freq" else model.enhance(spec).mT
    resized = nn.functional.interpolate(enhanced, size, mode="bilinear", antialias=True)
    assert torch.equal(model(spec), backbone(resized))
    assert torch.equal(model.forward_features(spec), backbone.forward_features(resized))
    its_own = noise(2, 1, *(size if layout == "time_freq" else size[::-1]))
    assert torch.equal(model(its_own), with_frontend(backbone, model.frontend, layout=layout)(its_own))


def test_resizing_follows_the_backbones_size_and_drops_no_frame() -> None:
    model = with_frontend(make_backbone("test_vit"), "identity", fit="resize").eval()
    model.set_input_size(img_size=(64, 32))
    spec = noise(1, 1, 640, 32).requires_grad_()
    assert model.forward_features(spec).shape == model.forward_features(noise(1, 1, 64, 32)).shape
    model(spec).sum().backward()
    assert spec.grad.ne(0).any(-1).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_resizing_in_half_precision(dtype: torch.dtype) -> None:
    model = with_frontend(make_backbone("test_resnet"), "tfe1", fit="resize").to(dtype).eval()
    assert model(noise(2, 1, 96, 64).to(dtype)).dtype == dtype


def test_resizing_needs_a_backbone_that_says_its_size() -> None:
    with pytest.raises(ValueError, match=r"fit='resize': Spy does not say what size .*use fit='error'"):
        with_frontend(Spy(), "tfe2", fit="resize")


@pytest.mark.parametrize("features_only", [False, True])
def test_a_backbone_that_cannot_read_one_channel_is_refused_when_wrapped(features_only: bool) -> None:
    with pytest.warns(UserWarning, match="3-channel"):
        backbone = make_backbone("csatv2", features_only=features_only)
    with pytest.raises(
        ValueError, match=r"^(CSATv2|Feature\w+) turns .* cannot read in_chans=1; make it with in_chans=3"
    ):
        with_frontend(backbone, "tfe1")


# Feature maps


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "mobilenetv3_small_050"])
@pytest.mark.parametrize("feature_cls", [None, "hook"])
def test_the_feature_maps_of_a_backbone_made_for_them(name: str, feature_cls: str | None) -> None:
    if (name, feature_cls) == ("test_vit", "hook"):
        pytest.skip("timm takes a ViT's feature maps in one way alone")
    kwargs = {"feature_cls": feature_cls} if feature_cls else {}
    backbone = make_backbone(name, features_only=True, **kwargs)
    model, spec = with_frontend(backbone, "tfe2").eval(), noise(2, 1, T, F)
    maps = model(spec)
    assert isinstance(maps, list)
    torch.testing.assert_close(maps, backbone(model.enhance(spec)), rtol=0, atol=0)
    assert [level.shape[1] for level in maps] == model.feature_info.channels()
    sum(level.sum() for level in maps).backward()
    assert model.frontend.blocks[0].time.conv1.weight.grad is not None
    assert model.pretrained_cfg["architecture"] == name
    assert with_frontend(backbone, "tfe2", fit="resize")(noise(1, 1, 33, 22))[0].shape[2:] != maps[0].shape[2:]


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.num_classes,
        lambda model: model.num_features,
        lambda model: model.head_hidden_size,
        lambda model: model.get_classifier(),
        lambda model: model.reset_classifier(3),
        lambda model: model.forward_features(noise(1, 1, T, F)),
        lambda model: model.forward_head(noise(1, 1, T, F)),
        lambda model: model.forward_intermediates(noise(1, 1, T, F)),
    ],
)
def test_what_a_backbone_made_for_feature_maps_lacks(call: Any) -> None:
    model = with_frontend(make_backbone("test_resnet", features_only=True), "tfe2")
    with pytest.raises(
        AttributeError, match=r"a FeatureListNet, has no \w+: timm's models have it, unless .*features_only"
    ):
        call(model)


def test_an_unknown_attribute_is_not_blamed_on_the_backbone() -> None:
    with pytest.raises(AttributeError, match="'FrontendModel' object has no attribute 'frontends'"):
        make_model().frontends  # noqa: B018


# timm's other tools


def test_exponential_moving_average() -> None:
    model = make_model("test_resnet").train()
    ema = ModelEmaV3(model, decay=0.5)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    ema.update(model)
    for name, parameter in ema.module.named_parameters():
        torch.testing.assert_close(parameter, before[name] + 0.5)
    assert ema(noise(2, 1, T, F)).shape == (2, 5)


def test_freezing_by_name() -> None:
    model = make_model("test_vit")
    freeze(model, ["backbone.blocks", "backbone.patch_embed"])
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {n for n in model.state_dict() if n.startswith(("backbone.blocks.", "backbone.patch_embed."))}
    unfreeze(model, ["backbone.blocks"])
    assert all(p.requires_grad for p in model.backbone.blocks.parameters())


def test_attention_maps_are_extracted() -> None:
    model = make_model("test_vit")
    for block in model.backbone.blocks:
        block.attn.fused_attn = False
    found = AttentionExtract(model, method="hook")(noise(2, 1, T, F))
    assert list(found) == [f"backbone.blocks.{i}.attn.attn_drop" for i in range(len(model.backbone.blocks))]
    for attention in found.values():
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))


# Copies, compilation, precision


@pytest.mark.parametrize("frontend", ["identity", "tfa", "tfe4"])
@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_vit", "swin_tiny_patch4_window7_224"])
def test_torch_fx_records_the_model_as_it_does_the_backbone(name: str, frontend: str) -> None:
    model, spec = make_model(name, frontend, in_chans=3), noise(2, 1, T, F)
    expected = model(spec)
    node = get_graph_node_names(model)[1][-1]
    torch.testing.assert_close(create_feature_extractor(model, [node])(spec)[node], expected)
    if name in ("test_efficientnet", "test_resnet"):  # the others' own checks are beyond a plain trace
        traced = torch.fx.symbolic_trace(model)
        torch.testing.assert_close(traced(spec), expected)
        torch.testing.assert_close(traced(noise(3, 1, T, F)), model(noise(3, 1, T, F)))
        gradients = torch.autograd.grad(traced(spec).square().sum(), list(traced.parameters()))
        assert all(gradient.isfinite().all() for gradient in gradients)


def test_torch_fx_records_what_is_called_and_what_is_resized() -> None:
    model, spec = make_model("test_resnet", "tfe2", fit="resize", layout="freq_time"), noise(2, T, F)
    prune.l1_unstructured(model.frontend.blocks[0].time.conv1, "weight", amount=0.5)
    model.frontend.blocks[1].freq = nn.Sequential(model.frontend.blocks[1].freq)
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(spec), model(spec))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")
def test_what_timms_fx_tools_record_can_be_scripted() -> None:
    with set_scriptable(True):
        model = make_model("test_resnet", "tfe4", in_chans=3)
    node = get_graph_node_names(model)[1][-1]
    scripted = torch.jit.script(create_feature_extractor(model, [node]))
    for spec in (noise(2, 1, T, F), noise(3, 1, T, 2 * F)):
        torch.testing.assert_close(scripted(spec)[node], model(spec))


def test_init_weights_starts_the_front_end_anew_too() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(()))

        def init_weights(self) -> None:
            nn.init.constant_(self.gain, 2.0)

        def forward(self, spec: Tensor) -> Tensor:
            return spec * self.gain

    backbone = timm.create_model("test_vit", in_chans=1, num_classes=4, img_size=(T, F))
    for frontend in ("tfe4", Own()):
        model = with_frontend(copy.deepcopy(backbone), frontend)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(float("nan"))
        model.init_weights()
        assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert float(model.frontend.gain) == 2.0


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("test_efficientnet", {"frontend": "tfe4"}),
        ("test_resnet", {"frontend": "tfa", "in_chans": 3}),
        ("test_vit", {"frontend": "identity", "fit": "resize", "layout": "freq_time"}),
        ("test_resnet", {"frontend": "tfe2", "features_only": True}),
    ],
)
def test_torchscript_by_scripting_gives_the_same(name: str, kwargs: dict[str, Any], tmp_path: Path) -> None:
    with set_scriptable(True):
        model = make_model(name, **kwargs)
    scripted = torch.jit.script(nn.Sequential(model))
    scripted.save(tmp_path / "scripted.pt")
    loaded = torch.jit.load(tmp_path / "scripted.pt")
    for spec in (noise(2, 1, T, F), noise(3, T, 2 * F)):
        for scriptmodule in (scripted, loaded):
            torch.testing.assert_close(scriptmodule(spec), model(spec))
    gradients, expected = (
        (
            torch.autograd.grad(sum(x.sum() for x in m(noise(2, 1, T, F))), list(m.parameters())[:8])
            for m in (scripted, model)
        )
        if kwargs["frontend"] != "identity"
        else ((), ())
    )
    torch.testing.assert_close(gradients, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")
def test_scripting_from_the_waveform_says_what_serves() -> None:
    model = with_frontend(make_backbone(), "tfe1", features=KaldiFbank(frames=T, num_mel_bins=F))
    with pytest.raises(
        NotImplementedError, match=r"from the spectrogram on: .*torch.jit.trace\(model, waveform\) or torch.export"
    ):
        torch.jit.script(model)


def test_forward_derivatives_of_a_whole_model() -> None:
    model = make_model("test_resnet", "tfe4").double()
    spec, tangent = noise(1, 1, T, F).double(), noise(1, 1, T, F, seed=1).double()
    _, found = torch.func.jvp(model, (spec,), (tangent,))
    step = 1e-6
    expected = (model(spec + step * tangent) - model(spec - step * tangent)) / (2 * step)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "swin_tiny_patch4_window7_224"])
@pytest.mark.parametrize(("model_dtype", "dtype"), [(torch.float32, torch.float64), (torch.bfloat16, torch.float32)])
def test_a_spectrogram_of_another_dtype_is_refused_by_that_name(
    name: str, model_dtype: torch.dtype, dtype: torch.dtype
) -> None:
    model, spec = make_model(name).to(model_dtype), noise(2, 1, T, F).to(dtype)
    message = rf"^the model is {model_dtype} and was given {dtype} .*convert what you give it, x.to\({model_dtype}\)"
    for call in (model, model.forward_features):
        with pytest.raises(TypeError, match=message):
            call(spec)
    assert model(spec.to(model_dtype)).dtype == model_dtype


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "swin_tiny_patch4_window7_224"])
def test_pickle_deepcopy_and_state_dict(name: str, tmp_path: Path) -> None:
    features = TrainableMel(frames=T, num_mel_bins=F)
    model = with_frontend(make_backbone(name), "tfe4", features=features).eval()
    waveform = 0.1 * noise(2, 8000)
    expected = model(waveform)
    state = model.state_dict()
    own = {f"{part}.{n}" for part in ("features", "frontend", "backbone") for n in getattr(model, part).state_dict()}
    assert set(state) == own

    def fresh() -> Any:
        torch.manual_seed(1)
        backbone = timm.create_model(name, in_chans=1, num_classes=5, **BACKBONES[name])
        return with_frontend(backbone, "tfe4", features=TrainableMel(frames=T, num_mel_bins=F)).eval()

    assert not torch.equal(fresh()(waveform), expected)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded, from_file = fresh(), fresh()
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    torch.save({"state_dict": state}, tmp_path / "checkpoint.pth")
    load_checkpoint(from_file, str(tmp_path / "checkpoint.pth"))
    for copied in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), loaded, from_file):
        assert torch.equal(copied(waveform), expected)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied.frontend.blocks[0].time.conv1.weight.zero_()
    assert torch.equal(model(waveform), expected)


# With "eager" what can break is the graph; one goes through the tracing of its gradients as well, and one through Inductor.
@pytest.mark.parametrize(
    ("name", "backend", "kwargs"),
    [
        ("test_efficientnet", "eager", {"frontend": "tfe4"}),
        ("test_vit", "eager", {"frontend": "tfe2", "in_chans": 3}),
        ("swin_tiny_patch4_window7_224", "eager", {"frontend": "identity", "in_chans": 3}),
        ("test_resnet", "aot_eager", {"frontend": "tfe2", "in_chans": 3, "layout": "freq_time"}),
        ("test_resnet", "aot_eager", {"frontend": "tfe2", "fit": "resize"}),
    ],
)
def test_compiles_into_one_graph(name: str, backend: str, kwargs: dict[str, Any]) -> None:
    model, spec = make_model(name, **kwargs), noise(2, 1, T, F)
    parameters = list(model.parameters())
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    try:
        found = compiled(spec)
        torch.testing.assert_close(found, model(spec), rtol=1e-4, atol=1e-5)
        gradients = torch.autograd.grad(found.square().sum(), parameters)
        expected = torch.autograd.grad(model(spec).square().sum(), parameters)
        torch.testing.assert_close(gradients, expected, rtol=1e-3, atol=1e-4)
    finally:
        torch.compiler.reset()


def test_compiles_into_one_graph_from_the_waveform_for_any_batch() -> None:
    model = with_frontend(make_backbone(), "tfe2", features=KaldiFbank(frames=T, num_mel_bins=F)).eval()
    graphs = []

    def count(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph

    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=count)
    try:
        for batch in (2, 3, 5):
            torch.testing.assert_close(compiled(noise(batch, 8000)), model(noise(batch, 8000)), rtol=1e-4, atol=1e-4)
    finally:
        torch.compiler.reset()
    assert len(graphs) == 1


@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="Inductor needs a C++ compiler")
def test_inductor_gives_the_same() -> None:
    torch.manual_seed(0)
    model, spec = with_frontend(nn.Sequential(nn.Flatten(2), nn.Linear(48, 3)), "tfe1"), noise(2, 1, 8, 6)
    compiled = torch.compile(model, fullgraph=True)
    try:
        with torch.no_grad():
            torch.testing.assert_close(compiled(spec), model(spec), rtol=1e-4, atol=1e-5)
    finally:
        torch.compiler.reset()


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "mobilenetv3_small_050"])
def test_autocast_runs_the_backbone_in_bfloat16_and_trains(name: str) -> None:
    model, spec = make_model(name, "tfe4", in_chans=3), noise(2, 1, T, F)
    for block in model.frontend.blocks:
        for path in (block.time, block.freq):
            nn.init.ones_(path.conv1.bias)  # or a chain may be dead behind its ReLU
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(spec)
        assert model.enhance(spec).dtype == torch.float32
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), model(spec), rtol=0.1, atol=0.1)
    logits.float().square().sum().backward()
    for parameter in model.frontend.parameters():
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "swin_tiny_patch4_window7_224"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("in_chans", [1, 3])
def test_models_of_other_precision(name: str, dtype: torch.dtype, in_chans: int) -> None:
    model, spec = make_model(name, "tfe4", in_chans=in_chans), noise(2, 1, T, F)
    expected = model(spec)
    converted = copy.deepcopy(model).to(dtype)
    assert converted.enhance(spec.to(dtype)).dtype == dtype
    logits = converted(spec.to(dtype))
    assert logits.dtype == dtype
    tolerance = {torch.float64: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}[dtype]
    torch.testing.assert_close(logits.float(), expected, rtol=tolerance, atol=tolerance)
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in converted.parameters())


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext"])
@pytest.mark.parametrize("in_chans", [1, 3])
def test_channels_last_gives_the_same(name: str, in_chans: int) -> None:
    model = with_frontend(make_backbone(name, in_chans), "tfa", in_chans=in_chans).eval()
    spec = noise(2, in_chans, T, F)
    expected = model(spec)
    gradients = torch.autograd.grad(expected.square().sum(), list(model.parameters()))
    turned = copy.deepcopy(model).to(memory_format=torch.channels_last)
    last = spec.contiguous(memory_format=torch.channels_last)
    assert turned.enhance(last).is_contiguous(memory_format=torch.channels_last)
    found = turned(last)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found = torch.autograd.grad(found.square().sum(), list(turned.parameters()))
    torch.testing.assert_close(found, gradients, rtol=1e-3, atol=1e-4)
