"""Recipes: each data set's defaults, values from a command line or a TOML file, and what is refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from specenhance._toml import parse_toml
from specenhance.data import list_data
from specenhance.features import NORMALISATION
from specenhance.training import Recipe, load_recipe, recipe_for, save_recipe
from specenhance.training.recipe import AUGMENTATIONS, PAPER, paper_recipe


@pytest.mark.parametrize("data", list_data())
def test_every_data_set_has_a_recipe_that_survives_a_file(data, tmp_path):
    recipe = recipe_for(data, **({} if data == "synthetic" else {"root": str(tmp_path)}))
    save_recipe(recipe, tmp_path / "recipe.toml")
    assert load_recipe(tmp_path / "recipe.toml") == recipe


def test_the_published_data_sets_are_normalised_as_published():
    for data, frames in (("esc50", 512), ("speech_commands", 128)):
        recipe = recipe_for(data, root="x")
        assert (recipe.mean, recipe.std) == NORMALISATION[data]
        assert (recipe.frames, recipe.bins, recipe.sample_rate) == (frames, 128, 16000)


def test_a_file_needs_only_what_differs_from_the_data_sets_default(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(f'data = "esc50"\nroot = "{tmp_path}"\nepochs = 3\nlr = 1\n')
    assert load_recipe(path) == recipe_for("esc50", root=tmp_path, epochs=3, lr=1.0)


def test_a_relative_folder_in_a_file_is_relative_to_the_file(tmp_path, monkeypatch):
    (tmp_path / "deep" / "taught").mkdir(parents=True)
    (tmp_path / "deep" / "r.toml").write_text(
        'data = "folder"\nroot = "../sounds"\ncsv = "a.csv"\nteacher = "taught"\n'
    )
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("deep/r.toml")
    assert (recipe.root, recipe.csv) == (str(tmp_path / "sounds"), str(tmp_path / "deep" / "a.csv"))
    assert recipe.teacher == str(tmp_path / "deep" / "taught")
    assert load_recipe("deep/r.toml", root="other").root == "other"  # of the command line: relative to where it runs
    save_recipe(recipe_for("folder", root="sounds"), "deep/saved.toml")
    assert load_recipe("deep/saved.toml").root == str(tmp_path / "sounds")


def test_tables_of_arguments_survive_a_file_and_a_command_line_changes_single_entries(tmp_path):
    recipe = recipe_for("synthetic", **{"frontend_args.kernel_size": "9", "frontend_args.backend": "torch"})
    assert recipe.frontend_args == {"kernel_size": 9, "backend": "torch"}
    changed = recipe.replace(**{"frontend_args.kernel_size": 5, "feature_args.frame_shift": "0.02"}, betas="0.95,0.999")
    assert changed.frontend_args == {"kernel_size": 5, "backend": "torch"}
    assert recipe.frontend_args["kernel_size"] == 9
    save_recipe(changed, tmp_path / "recipe.toml")
    assert load_recipe(tmp_path / "recipe.toml") == changed
    assert (
        load_recipe(tmp_path / "recipe.toml", **{"feature_args.frame_shift": 0.01}).feature_args["frame_shift"] == 0.01
    )


def test_a_byte_order_mark_in_front_is_no_part_of_a_recipe(tmp_path, shared):
    (tmp_path / "r.toml").write_bytes(b"\xef\xbb\xbf" + b'data = "synthetic"\nepochs = 3\n')
    assert load_recipe(tmp_path / "r.toml").epochs == 3
    assert load_recipe(shared / "awkward" / "recipe_with_bom.toml", root="x").root == "x"
    (tmp_path / "r.toml").write_bytes('data = "folder"\nroot = "Aufnahmen für mich"\n'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"r\.toml: no text in UTF-8 .*; save it as UTF-8"):
        load_recipe(tmp_path / "r.toml")


BOUNDS = {
    name: (field.metadata[0].ge, field.metadata[1].le)
    for name, field in Recipe.model_fields.items()
    if len(field.metadata) > 1 and hasattr(field.metadata[0], "ge")
}


@pytest.mark.parametrize("name", sorted(set(BOUNDS) - {"mean", "std"}))
def test_no_number_is_beyond_its_bounds_or_no_number_at_all(name):
    least, most = BOUNDS[name]
    for value in ("nan", "inf", "-inf", least - 1, most * 10 + 1, 10**400):
        with pytest.raises(ValueError, match=f"{name} = .*: expected a "):
            recipe_for("synthetic", **{name: value})


def test_a_recipe_names_the_teachers_that_its_loss_needs():
    recipe = recipe_for("synthetic", teacher="runs/a + ast:b", teacher_weights="2, 1")
    assert recipe.teachers == ["runs/a", "ast:b"]
    assert recipe.teacher_weights == (2.0, 1.0)
    assert recipe.replace(kd_weight=1.0).teachers == []
    assert recipe.replace(kd_weight=1.0, kd_weight_end=0.5).teachers == ["runs/a", "ast:b"]
    assert recipe.replace(teacher="").teachers == []


def test_text_from_a_command_line_becomes_the_fields_type():
    recipe = recipe_for("synthetic", epochs="3", lr="1e-4", pretrained="True", mean="-5", std="2", frontend="tfa")
    assert recipe == recipe_for("synthetic", epochs=3, lr=1e-4, pretrained=True, mean=-5.0, std=2.0, frontend="tfa")
    assert recipe_for("synthetic", betas="0.95, 0.999").betas == (0.95, 0.999)
    assert isinstance(recipe.mean, float)
    assert recipe.replace(mean=None, std=None).mean is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "esc"}, "data = 'esc': expected one of annotations, audioset, audioset_full, esc50"),
        ({"root": "x"}, "root = 'x': expected a folder for every data set but 'synthetic'"),
        ({"data": "esc50"}, "root = '': expected a folder"),
        ({"data": "esc50", "root": "x", "fold": 6}, "fold = 6: expected 1 to 5"),
        ({"fold": 2}, "fold = 2: expected 1 to 5 with data = 'esc50', else 0"),
        ({"csv": "a.csv"}, "csv = 'a.csv': expected a CSV only with data = 'annotations' or 'folder'"),
        ({"epochs": -1}, "epochs = -1: expected a number from 0 to 100000"),
        ({"epochs": 1.5}, "epochs = 1.5: expected a whole number"),
        ({"epochs": "ten"}, "epochs = 'ten': expected a whole number"),
        ({"epochs": True}, "epochs = 'True': expected a whole number"),
        ({"lr": 0}, "lr = 0.0: expected a number from 1e-12 to 100"),
        ({"lr": float("nan")}, "lr = nan: expected a number, and a finite one"),
        ({"pretrained": "yes"}, "pretrained = 'yes': expected true or false"),
        ({"label_smoothing": 1.0}, "label_smoothing = 1.0: expected a number from 0 to 0.999"),
        ({"noise": -1}, "noise = -1.0: expected a number from 0 to 100"),
        ({"mean": 1.0}, "mean = 1.0: expected mean and std together"),
        ({"mean": 1.0, "std": 0.0}, "std = 0.0: expected a number from 1e-06 to"),
        ({"select": "first"}, "select = 'first': expected 'best' or 'last'"),
        ({"role": "pupil"}, "role = 'pupil': expected 'student' or 'teacher'"),
        ({"role": "teacher", "frontend": "tfe4"}, "frontend = 'tfe4': expected 'identity' with role = 'teacher'"),
        ({"precision": "64"}, "precision = '64': expected '32-true' or 'bf16-mixed' or '16-mixed'"),
        ({"betas": "0.9"}, "betas = .*: expected two numbers from 0 to below 1"),
        ({"betas": (0.9, 1.0)}, "betas = .*: expected two numbers from 0 to below 1"),
        ({"frontend_args": 3}, "frontend_args = 3: expected a table, such as --set frontend_args.KEY=VALUE"),
        ({"schedule": "cosine"}, "schedule = 'cosine': expected 'onecycle' or 'step' or 'constant'"),
        ({"decay": 0}, "decay = 0.0: expected a number from 1e-06 to 1"),
        ({"decay_every": 0}, "decay_every = 0: expected a number from 1 to"),
        ({"loss": "bce"}, "loss = 'bce': expected 'cross_entropy' or 'binary_cross_entropy'"),
        ({"mixup": 1.5}, "mixup = 1.5: expected a number from 0 to 1"),
        ({"mixup_alpha": 0}, "mixup_alpha = 0.0: expected a number from 0.001 to"),
        ({"kd_weight": -0.5}, "kd_weight = -0.5: expected a number from 0 to 1"),
        ({"kd_temperature": 0}, "kd_temperature = 0.0: expected a number from 0.001 to"),
        (
            {"kd_loss": "kl"},
            "kd_loss = 'kl': expected 'paper' or 'hinton' or 'binary' or 'decoupled' or 'feature_mse' or",
        ),
        ({"kd_weight_end": 1.5}, "kd_weight_end = 1.5: expected a number from 0 to 1"),
        ({"teacher": "a + "}, r"teacher = 'a \+ ': expected a name on each side of ' \+ '"),
        (
            {"teacher": "a + b", "teacher_weights": "1"},
            r"teacher_weights = \(1.0,\): expected one for each of the 2 teachers",
        ),
        ({"teacher": "a", "teacher_weights": (0,)}, "teacher_weights = .*: expected a number above 0 for each teacher"),
        (
            {"teacher_weights": "two"},
            "teacher_weights = 'two': expected a number above 0 for each teacher, such as 2,1",
        ),
        ({"teacher_mean": "median"}, "teacher_mean = 'median': expected 'logits' or 'probabilities'"),
        (
            {"teacher": "a + b", "kd_loss": "feature_mse"},
            "kd_loss = 'feature_mse': expected a loss of logits with several",
        ),
        (
            {"kd_loss": "feature_cosine", "kd_temperature_end": 1},
            "kd_temperature_end = 1.0: expected none with kd_loss = 'feature_cosine'",
        ),
        ({"epoch": 3}, r"unknown field 'epoch': did you mean \['epochs'\]"),
    ],
)
def test_what_a_recipe_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        recipe_for(**{"data": "synthetic"} | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 3", 'expected a line such as data = "esc50"'),
        ("data = ", "Invalid value"),
        ('data = "synthetic"\nepoch = 3', "unknown field 'epoch'"),
        ('data = "synthetic"\n[model]\nbackbone = "x"', "unknown field 'model'"),
    ],
)
def test_a_malformed_file_is_refused_with_its_path(text, message, tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"r\.toml: .*{message}"):
        load_recipe(path)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.toml"):
        load_recipe(tmp_path / "none.toml")


def test_a_recipe_cannot_be_changed_in_place():
    with pytest.raises(ValidationError):
        Recipe().epochs = 3


# ---- The paper's.

BOTH = {
    "features": "kaldi",
    "crop": "start",
    "fit": "error",
    "sample_rate": 16000,
    "bins": 128,
    "optimizer": "adam",
    "weight_decay": 5e-7,
    "betas": (0.95, 0.999),
    "clip_norm": 0.0,
    "precision": "16-mixed",
    "layout": "time_freq",
    "pretrained": True,
}
STUDENT = BOTH | {
    **{"role": "student", "backbone": "tf_efficientnetv2_b2", "kd_weight": 0.5, "kd_temperature": 5.0, "shift": 10},
    **{"schedule": "step", "decay": 0.85, "decay_from": 5},
}
TEACHER = BOTH | {
    **{"role": "teacher", "frontend": "identity", "epochs": 5, "schedule": "constant", "shift": 0, "noise": 0.0},
    **{"label_smoothing": 0.0, "teacher": ""},
}
ESC50 = {"data": "esc50", "fold": 0, "frames": 512, "mean": -6.6268077, "std": 5.358466, "batch_size": 48}
ESC50 |= {"loss": "cross_entropy", "time_mask": 96, "freq_mask": 24, "mixup": 0.0, "select": "last"}
SPEECH = {"data": "speech_commands", "frames": 128, "mean": -6.845978, "std": 5.5654526, "batch_size": 128}
SPEECH |= {"loss": "binary_cross_entropy", "time_mask": 48, "freq_mask": 48, "mixup": 0.6, "mixup_alpha": 10.0}
AUDIOSET = "ast:MIT/ast-finetuned-audioset-10-10-0.4593"
PUBLISHED = {
    ("esc50", "student"): STUDENT
    | ESC50
    | {"epochs": 100, "lr": 1e-4, "decay_every": 5, "label_smoothing": 0.1, "noise": 0.05},
    ("esc50", "teacher"): TEACHER | ESC50 | {"lr": 1e-5, "backbone": AUDIOSET},
    ("speech_commands", "student"): STUDENT
    | SPEECH
    | {"epochs": 30, "lr": 5e-4, "decay_every": 1, "label_smoothing": 0.0, "noise": 0.1},
    ("speech_commands", "teacher"): TEACHER
    | SPEECH
    | {"lr": 2.5e-4, "backbone": "ast:deit_base_distilled_patch16_384"},
}


@pytest.mark.parametrize(("data", "role"), list(PUBLISHED))
def test_the_papers_recipes_hold_the_papers_values(data, role):
    recipe = paper_recipe(data, role=role, root="x").model_dump()
    expected = PUBLISHED[data, role]
    assert {name: recipe[name] for name in expected} == expected


def test_there_is_a_file_of_the_papers_for_each_data_set_and_role():
    installed = Path(__file__).parents[2] / "specenhance" / "training" / "recipes"
    assert {path.name for path in installed.iterdir()} == {
        f"{name}{end}.toml" for name in PAPER for end in ("", "_teacher")
    }


def test_a_file_of_the_papers_leaves_nothing_that_matters_to_a_default():
    # Given by the user, or of no effect in the file.
    idle = {"root", "csv", "seed", "teacher", "mixup_alpha", "role", "skip_bad", "allow_truncated", "clip_seconds"}
    idle |= {
        "data_args",
        "init",
        "accumulate",
        "ema",
        "class_weights",
        "sampling",
        "patience",
        "cutmix",
        "cutmix_alpha",
    }
    idle |= {
        "multi_label",
        "focal_gamma",
        "focal_alpha",
        "folds",
        "group",
        "clips_per_class",
        "teacher_input",
        "teacher_views",
        "teacher_mean",
        "teacher_weights",
    }
    idle |= {
        "kd_loss",
        "kd_alpha",
        "kd_beta",
        "kd_weight_end",
        "kd_temperature_end",
    }  # the defaults are the paper's loss
    idle |= {"cycle_from", "frontend_args", "feature_args", "backbone_args"}
    idle |= set().union(*AUGMENTATIONS.values(), {"mixstyle_alpha"})  # none of them is the paper's
    for (data, role), expected in PUBLISHED.items():
        end = "_teacher" if role == "teacher" else ""
        folder = Path(__file__).parents[2] / "specenhance" / "training" / "recipes"
        named = set(parse_toml((folder / f"{data}{end}.toml").read_text()))
        missing = set(Recipe.model_fields) - named - idle
        if data != "esc50":
            missing -= {"fold"}
        if role == "teacher":
            missing -= {"kd_weight", "kd_temperature", "decay", "decay_from", "decay_every"}
        assert not missing, (data, role)
        assert named <= set(expected) | {"frontend", "fit", "select"}


def test_a_teacher_has_the_papers_settings_where_there_are_any():
    assert recipe_for("esc50", role="teacher", root="x") == paper_recipe("esc50", role="teacher", root="x")
    own = recipe_for("folder", role="teacher", root="x", epochs=2)
    assert (own.frontend, own.epochs, own.backbone) == ("identity", 2, "tf_efficientnetv2_b2")


def test_a_change_goes_before_the_files_own_value(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('data = "esc50"\nepochs = 3\n')
    assert load_recipe(path, root="x", epochs="7").epochs == 7
    with pytest.raises(ValueError, match=r"r\.toml: root = '': expected a folder"):
        load_recipe(path)


def test_a_chains_arguments_are_a_table_for_each_link(tmp_path):
    changes = {"frontend": "clipnorm+tfe4", "frontend_args.tfe4.kernel_size": "9", "frontend_args.clipnorm.eps": "1e-3"}
    recipe = recipe_for("synthetic", **changes).replace(**{"frontend_args.tfe4.backend": "torch"})
    assert recipe.frontend_args == {"tfe4": {"kernel_size": 9, "backend": "torch"}, "clipnorm": {"eps": 1e-3}}
    save_recipe(recipe, tmp_path / "r.toml")
    assert load_recipe(tmp_path / "r.toml") == recipe
