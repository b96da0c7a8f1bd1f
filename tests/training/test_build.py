"""From a recipe to data, loaders and models."""

import pytest
import torch
from torch import nn

from specenhance.data import collate
from specenhance.features import KaldiFbank
from specenhance.training.batches import loader
from specenhance.training.build import build_model, build_split, check_backbone, measure_normalisation
from specenhance.training.recipe import recipe_for


def test_each_data_set_is_opened_by_its_name(quick, shared):
    assert build_split(quick, "test").classes == ["high", "low", "middle"]
    assert len(build_split(recipe_for("synthetic"), "validation")) == 1000
    esc50 = recipe_for("esc50", root=shared / "esc50_fold4", fold=2)
    assert len(build_split(esc50, "train")) + len(build_split(esc50, "test")) == 400
    assert build_split(esc50, "validation").paths == build_split(esc50, "test").paths
    speech = recipe_for("speech_commands", root=shared / "arabic_speech_commands")
    assert [len(build_split(speech, split)) for split in ("train", "validation", "test")] == [6300, 1050, 1050]
    with pytest.raises(ValueError, match="split='dev'"):
        build_split(quick, "dev")


def test_the_seed_of_a_recipe_makes_the_built_in_set():
    first, second = (build_split(recipe_for("synthetic", seed=seed), "train")[0][0] for seed in (0, 1))
    assert not torch.equal(first, second)


def test_a_training_loader_draws_its_order_from_seed_and_epoch_alone(quick):
    def order(seed: int, epoch: int) -> list[float]:
        batches = loader(build_split(quick, "train"), quick.replace(seed=seed), train=True)
        batches.batch_sampler.set_epoch(epoch)
        return [float(x) for batch in batches for x in batch.waveform.sum(1)]

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)
    assert sorted(order(0, 1)) == sorted(order(1, 2))


@pytest.mark.parametrize(
    ("batch_size", "expected"), [(10, [10, 10, 4]), (100, [24]), (8, [8, 8, 8]), (23, [24]), (11, [11, 11, 2])]
)
def test_a_short_last_batch_is_kept_but_for_a_single_clip_which_joins_the_one_before(quick, batch_size, expected):
    data = build_split(quick, "train")  # 24 clips
    batches = loader(data, quick.replace(batch_size=batch_size), train=True)
    assert [len(batch.label) for batch in batches] == expected
    assert len(batches) == len(expected)


def test_every_clip_counts_once_in_evaluation(quick):
    data = build_split(quick, "train")
    sizes = [len(batch.label) for batch in loader(data, quick.replace(batch_size=23), train=False)]
    assert sizes == [23, 1]


def test_batch_norm_needs_two_clips(quick):
    data = build_split(quick, "train").subset([0])
    with pytest.raises(ValueError, match=r"1 training clip\(s\) on 1 device\(s\): expected 2 or more for each"):
        loader(data, quick, train=True)


def test_the_normalisation_is_that_of_the_values_the_model_meets(quick):
    data = build_split(quick, "train")
    measured = measure_normalisation(quick, loader(data, quick, train=False))
    batch = collate(list(data))
    values = KaldiFbank(frames=24, num_mel_bins=32, mean=0.0, std=0.5)(batch.waveform, batch.length)
    assert measured.mean == pytest.approx(values.mean().item(), abs=1e-5)
    assert measured.std == pytest.approx(values.std(correction=0).item(), abs=1e-5)
    with pytest.raises(ValueError, match="every training spectrogram is flat"):
        measure_normalisation(quick.replace(frames=23), [batch._replace(waveform=torch.zeros_like(batch.waveform))])


def test_the_model_is_the_recipes(quick):
    model = build_model(quick.replace(mean=-4.0, std=2.0, features="trainable_mel"), 3)
    assert (model.features.frames, model.features.mean, model.features.std) == (24, -4.0, 2.0)
    assert model(torch.randn(2, 4000)).shape == (2, 3)
    assert model.frontend.channels == (1, 32, 1)
    assert type(model.backbone).__name__ == "ResNet"


def test_a_backbone_of_fixed_size_is_made_for_the_recipes_size(quick):
    model = build_model(quick.replace(backbone="test_vit", frames=48, bins=32), 3)
    assert model(torch.randn(2, 4000)).shape == (2, 3)


def test_spectrograms_are_interpolated_where_the_recipe_says_so(quick):
    recipe = quick.replace(backbone="test_vit", frames=25, fit="resize")
    check_backbone(recipe)
    model = build_model(recipe, 3)
    assert model.fit == "resize"
    assert model.patch_embed.img_size == (160, 160)
    assert model(torch.randn(2, 4200)).shape == (2, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"backbone": "test_vit", "frames": 25},
            r"'test_vit' does not take spectrograms of 25 frames x 32 bins \(Input height \(25\) should be divisible by patch "
            r"size \(16\).\); --set fit=resize has them .* own size, or give it a size that it takes: --set frames=32$",
        ),
        (
            {"backbone": "test_vit", "frames": 25, "bins": 40},
            r"25 frames x 40 bins .*: --set frames=32 --set bins=48$",
        ),
        (
            {"backbone": "nest_tiny"},
            r"'nest_tiny' does not take .* 24 frames x 32 bins \(Model only handles square inputs\); --set fit=resize ",
        ),
        (
            {"backbone": "halonet_h1"},
            r"'halonet_h1' does not take .* 24 frames x 32 bins; --set fit=resize .* own size$",
        ),
    ],
)
def test_a_size_that_the_backbone_does_not_take_is_refused_with_settings_that_help(quick, changes, message):
    with pytest.raises(ValueError, match=message) as refused:
        check_backbone(quick.replace(**changes))
    assert "\n" not in str(refused.value)


def test_only_a_size_is_refused_by_the_check_of_sizes(quick):
    for changes in ({"backbone": "nonsense"}, {"backbone": "nest_tiny", "frames": 32}, {"frames": 17}):
        check_backbone(quick.replace(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"backbone": "mobilenetv3_smal"},
            "backbone = 'mobilenetv3_smal' is no timm model; did you mean one of .*mobilenetv3_small_050",
        ),
        ({"backbone": "mobilenetv3_smal_050"}, r"did you mean one of \['mobilenetv3_small_050', "),
        ({"backbone": "MobileNetV3_small_050"}, r"did you mean one of \['mobilenetv3_small_050', "),
        (
            {"backbone": "resnet18.a1"},
            "'resnet18.a1': timm has no weights 'a1' of 'resnet18'; it has resnet18.a1_in1k, ",
        ),
        ({"backbone": "xyz"}, "backbone = 'xyz' is no timm model; timm.list_models"),
        ({"frontend": "tfe"}, "unknown front end 'tfe': did you mean 'tfe"),
        ({"features": "mel"}, "unknown features 'mel'"),
    ],
)
def test_an_unknown_name_is_refused(quick, changes, message):
    with pytest.raises(ValueError, match=message):
        build_model(quick.replace(**changes), 3)


def test_weights_that_cannot_be_fetched_are_an_error_with_its_cure(quick, monkeypatch):
    def offline(*args: object, **kwargs: object) -> nn.Module:
        raise OSError("We couldn't connect to the hub")

    monkeypatch.setattr("specenhance.models.online.require_hub", lambda *_, **__: None)  # no test asks the real hub
    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(ValueError, match=r"weights of 'test_resnet' could not be fetched.*--no-pretrained"):
        build_model(quick.replace(pretrained=True), 3)


def test_the_backbone_reads_the_channels_that_the_front_end_makes(quick):
    recipe = quick.replace(mean=-4.0, std=2.0, frontend="clipnorm+delta", backbone="test_resnet")
    model = build_model(recipe, 3)
    assert model.in_chans == 3
    assert model(torch.randn(2, 4000)).shape == (2, 3)
    check_backbone(recipe)
    torch.manual_seed(0)
    first = build_model(quick.replace(frontend="identity"), 3).backbone
    torch.manual_seed(0)
    second = build_model(quick.replace(frontend="tfe4"), 3).backbone  # whose weights are drawn after the backbone's
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"frontend_args.kernel": "9"},
            "front end 'tfe2': got an unexpected keyword argument 'kernel'; it takes in_chans",
        ),
        ({"feature_args.shift": "9"}, "features 'kaldi': got an unexpected keyword argument 'shift'"),
        ({"backbone_args.foo": "9"}, r"backbone_args = {'foo': 9}: .* unexpected keyword argument 'foo'"),
        (
            {"frontend": "clipnorm+tfe2", "frontend_args.tfe3.kernel_size": "9"},
            r"front end 'clipnorm\+tfe2': no link is called tfe3",
        ),
    ],
)
def test_an_argument_that_a_part_does_not_take_is_a_wrong_value(quick, changes, message):
    with pytest.raises(ValueError, match=message):
        build_model(quick.replace(frontend=changes.pop("frontend", "tfe2"), backbone="test_resnet", **changes), 3)
