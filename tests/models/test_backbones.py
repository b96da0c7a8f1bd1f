"""Every family (module) of timm's models behind a front end, one small model of each; what they take is docs/backbones.md.

``make test-backbones`` runs all families and writes that page; ``make test`` runs FAST and compares.
"""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import timm
import torch
from torch import Tensor, nn

from specenhance import create_frontend, with_frontend
from specenhance._files import write_text
from specenhance.training.build import build_model, check_backbone
from specenhance.training.recipe import recipe_for

PAGE = Path(__file__).parents[2] / "docs" / "backbones.md"

# The model of fewest parameters in each family, by timm 1.0.31.
SMALLEST = {
    "beit": "beit_base_patch16_224",
    "byoanet": "halonet_h1",
    "byobnet": "test_byobnet",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32",
    "convnext": "test_convnext",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224",
    "densenet": "densenet121",
    "dla": "dla46x_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "test_efficientnet",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_tiny_patch16_dinov3_qkvb",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gemma4_vit": "gemma4_vit_167m",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128s",
    "lowformer": "lowformer_b0",
    "mambaout": "test_mambaout",
    "maxxvit": "test_coatnet",
    "metaformer": "poolformerv2_s12",
    "mlp_mixer": "gmlp_ti16_224",
    "mobilenetv3": "mobilenetv3_small_050",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_parfac_gap",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small",
    "nfnet": "test_nfnet",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_002",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1",
    "res2net": "res2next50",
    "resnest": "resnest14d",
    "resnet": "test_resnet",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window8_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "tresnet": "tresnet_m",
    "twins": "twins_svt_small",
    "vgg": "vgg11",
    "visformer": "visformer_tiny",
    "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41p",
    "xcit": "xcit_nano_12_p8_224",
}
# The smallest is still a giant: fewer layers of it.
FEWER_LAYERS: dict[str, dict[str, Any]] = {
    "deepseek_vit": {"depth": 2},
    "gemma4_vit": {"depth": 2},
    "qwen3_vit": {"depth": 2},
}
CHANNELS = {"csatv2": 3}  # and 1 elsewhere

# Of each kind of size, and of stem, pooling and classifier.
FAST = (
    "byobnet", "convnext", "csatv2", "dla", "efficientformer", "efficientnet", "maxxvit", "mobilenetv3", "pit", "resnet",
    "vision_transformer", "vision_transformer_relpos",
)  # fmt: skip

STEPS = (1, 2, 4, 8, 14, 16, 32, 64, 128, 256)
SIZES = ((128, 97), (161, 161), (100, 330))  # (T, F), before they are rounded up to a step


class Takes(NamedTuple):
    """What a backbone takes: T and F in multiples of ``step``, or only its own size, and others when made for them."""

    own: tuple[int, int]
    step: int | None  # None: only ``own``
    made: int | None  # multiples that img_size= may be, where step is None
    refused: tuple[int, int] | None  # a size that it does not take as it comes


def rounded(size: tuple[int, int], step: int) -> tuple[int, int]:
    return tuple(-(-n // step) * step for n in size)  # type: ignore[return-value]


def make(family: str, **kwargs: Any) -> Any:
    kwargs = {"in_chans": CHANNELS.get(family, 1), "num_classes": 5, **FEWER_LAYERS.get(family, {}), **kwargs}
    torch.manual_seed(0)
    return timm.create_model(SMALLEST[family], **kwargs).eval()


def make_meta(family: str, **kwargs: Any) -> Any:
    """Without memory or arithmetic: shapes alone."""
    with torch.device("meta"):
        return make(family, **kwargs)


@torch.no_grad()
def runs(make: Callable[[], Any], size: tuple[int, int]) -> bool:
    try:
        backbone = make()
        return backbone(torch.empty(2, backbone.in_chans, *size, device="meta")).shape == (2, 5)
    except (AssertionError, RuntimeError, TypeError, ValueError):
        return False


def finest(runs: Callable[[tuple[int, int]], bool]) -> int | None:
    return next((step for step in STEPS if all(runs(rounded(size, step)) for size in SIZES)), None)


def takes(family: str) -> Takes:
    backbone = make_meta(family)
    step = finest(lambda size: runs(lambda: backbone, size))
    made = finest(lambda size: runs(lambda: make_meta(family, img_size=size), size)) if step is None else None
    refused = next((size for size in SIZES if not runs(lambda: backbone, size)), None)
    return Takes(timm.models.get_model_input_config(backbone)["input_size"][-2:], step, made, refused)


def row(family: str, takes: Takes) -> str:
    def multiples(step: int | None, none: str) -> str:
        return none if step is None else "any" if step == 1 else f"multiples of {step}"

    own = " x ".join(map(str, takes.own))
    made = "" if takes.step is not None else multiples(takes.made, 'no: `fit="resize"`')
    chans = f"; {CHANNELS[family]} channels" if family in CHANNELS else ""
    return f"| `{family}` | `{SMALLEST[family]}` | {own} | {multiples(takes.step, 'its own')}{chans} | {made} |"


# timm's methods of a model that a model with a front end does not have: they would pass the front end by.
REFUSED = {
    "as_sequential", "build_local_block", "forward_cls", "forward_postaux", "forward_preaux", "forward_tokens",
    "forward_train", "fuse", "get_random_mask", "stages",
}  # fmt: skip

HEADER = """# What each family of timm's models takes

One small model of each of timm {version}'s {families} modules ran behind `tfe4`, forward and backward, on spectrograms (T, F).
Written by `make test-backbones`, which tried {sizes}, rounded up to the multiples named here.

- **Made for**: the size to which `with_frontend(..., fit="resize")` interpolates the enhanced spectrogram. With it every model
  here takes every spectrogram. In a recipe it is `fit = "resize"`, on the command line `--set fit=resize`. `specenhance train`
  finds before it reads a clip that a model does not take the recipe's `frames` x `bins`, and says which settings help.
- **Takes**: T and F of the spectrograms that the model takes as they are. Another is refused with an error that names the cure.
- **Another `img_size=`**: a model that takes only its own size can be made for another in these multiples, square or not,
  `timm.create_model(..., img_size=(T, F))`. Most of those for any size cut it into patches and do not read what lies behind the
  last whole one: make them for multiples of their patch.
- `csatv2` reads three channels: make it with `in_chans=3`, and a one-channel spectrogram is widened. With another number of
  channels `with_frontend` refuses it.

| family | model tried | made for | takes | another `img_size=` |
|---|---|---|---|---|
"""


def page(rows: dict[str, str]) -> str:
    sizes = ", ".join(f"{T} x {F}" for T, F in SIZES)
    header = HEADER.format(version=timm.__version__, families=len(rows), sizes=sizes)
    return header + "\n".join(rows[family] for family in sorted(rows)) + "\n"


@pytest.fixture(scope="module")
def report(request: pytest.FixtureRequest) -> Iterator[Callable[[str, str], None]]:
    """Compare a row with the page; once every family has given its own, write the page anew."""
    rows: dict[str, str] = {}
    chosen = {item.callspec.params["family"] for item in request.session.items if "family" in item.fixturenames}

    def report(family: str, row: str) -> None:
        rows[family] = row
        if chosen < SMALLEST.keys():
            assert row in PAGE.read_text(encoding="utf-8"), f"{PAGE.name} is out of date: make test-backbones"

    yield report
    if rows.keys() == SMALLEST.keys():
        write_text(PAGE, page(rows))


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def live_frontend() -> Any:
    """A TFE(4) no path of which is off: what enters every ReLU is near 1."""
    torch.manual_seed(0)
    frontend: Any = create_frontend("tfe4")
    for block in frontend.blocks:
        for path in (block.time, block.freq):
            nn.init.ones_(path.conv1.bias)
            path.conv1.weight.data.mul_(0.01)
    return frontend


def test_every_family_of_timm_is_here() -> None:
    families = {family for family in timm.list_modules() if hasattr(timm.models, family)}
    assert families == SMALLEST.keys()
    assert set(FAST) <= families


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[] if name in FAST else pytest.mark.backbones) for name in SMALLEST]
)
def test_family(family: str, report: Callable[[str, str], None]) -> None:
    found = takes(family)
    step = found.step or found.made
    size = rounded((128, 96), step) if step else (128, 96)
    backbone = make(family, **({"img_size": size} if found.step is None and step else {}))
    fit = "error" if step else "resize"
    model, spec = with_frontend(backbone, live_frontend(), fit=fit).eval(), noise(2, 1, *size)

    with torch.no_grad():
        check_identity(model, spec, found.own)
        check_halves_and_state(model, spec)
    check_gradients(model.train(), spec)
    model.eval().reset_classifier(7)
    with torch.no_grad():
        assert model(spec).shape == (2, 7)
    if found.refused:
        with pytest.raises(ValueError, match=r"refused a spectrogram of \(T, F\) = .*fit='resize'"):
            with_frontend(make(family), "tfe4")(noise(2, 1, *found.refused))
    check_resize_and_feature_maps(family)
    check_recipe(family)
    check_methods(family)
    report(family, row(family, found))


def check_identity(model: Any, spec: Tensor, own: tuple[int, int]) -> None:
    given = spec.expand(-1, model.in_chans, -1, -1)
    if model.fit == "resize":
        given = nn.functional.interpolate(given, own, mode="bilinear", antialias=True)
    bare = with_frontend(model.backbone, "identity", fit=model.fit)
    assert torch.equal(bare(spec), model.backbone(given))


def check_halves_and_state(model: Any, spec: Tensor) -> None:
    logits = model(spec)
    assert logits.shape == (2, 5)
    assert torch.equal(model.forward_head(model.forward_features(spec)), logits)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.add_(0.1)
    assert not torch.equal(model(spec), logits)
    model.load_state_dict(state)
    assert torch.equal(model(spec), logits)


def check_gradients(model: Any, spec: Tensor) -> None:
    heads = model.get_classifier()  # a pair where a model was distilled
    for head in heads if isinstance(heads, tuple) else (heads,):
        for parameter in head.parameters():
            nn.init.normal_(parameter)  # some start at 0 and pass no gradient
    (model(spec) * noise(2, 5)).sum().backward()
    for name, parameter in model.frontend.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def check_resize_and_feature_maps(family: str) -> None:
    spec = torch.empty(2, 1, 100, 60, device="meta")
    assert with_frontend(make_meta(family), "identity", fit="resize")(spec).shape == (2, 5)
    try:
        backbone = make_meta(family, features_only=True)
    except (AssertionError, AttributeError, RuntimeError, TypeError):
        return  # timm has none of this family
    maps = with_frontend(backbone, "identity", fit="resize")(spec)
    assert len(maps) == len(backbone.feature_info.channels())


def check_recipe(family: str) -> None:
    """At 98 frames x 128 bins a recipe's model works, or is refused before any clip is read, with cures that work."""
    if family in CHANNELS or family in FEWER_LAYERS:
        return  # a recipe has no word for it
    recipe = recipe_for("synthetic", backbone=SMALLEST[family], frames=98, bins=128)
    said = refusal(recipe)
    assert not said or ("98 frames x 128 bins" in said and "--set fit=resize" in said)
    sizes = said.partition("a size that it takes: ")[2].replace("--set ", "").split()
    cures = [{"fit": "resize"}, *([dict(setting.split("=") for setting in sizes)] if sizes or not said else [])]
    for cure in cures:
        changed = recipe.replace(**cure)
        assert not refusal(changed)
        with torch.device("meta"), torch.no_grad():
            model = build_model(changed, 5).eval()
            assert model.classify(torch.empty(2, 1, changed.frames, changed.bins)).shape == (2, 5)


def refusal(recipe: Any) -> str:
    try:
        check_backbone(recipe)
    except ValueError as error:
        return str(error)
    return ""


def check_methods(family: str) -> None:
    """Each public method of timm's is the model's, the backbone's by name, or knowingly refused."""
    backbone = make_meta(family)
    model = with_frontend(backbone, "identity")
    for name in dir(backbone):
        if name.startswith("_") or hasattr(nn.Module, name) or not inspect.isroutine(getattr(backbone, name)):
            continue
        assert hasattr(model, name) != (name in REFUSED), f"{family}: timm has a method {name}"
