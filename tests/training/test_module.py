"""The training step: what it sees, what it leaves alone, and what it draws."""

from types import SimpleNamespace

import pytest
import timm
import torch

from specenhance.data import Batch
from specenhance.distillation.binary import binary
from specenhance.distillation.decoupled import decoupled
from specenhance.distillation.feature import PooledFeatures, feature_distance, pooled
from specenhance.distillation.softened import softened
from specenhance.distillation.teachers import FrozenTeacher
from specenhance.training.batches import SpectrogramBatch, mix
from specenhance.training.build import build_model
from specenhance.training.module import Classifier
from specenhance.training.teach import Live, Teaching


@pytest.fixture
def module(quick):
    torch.manual_seed(0)
    module = Classifier(build_model(quick.replace(mean=-4.0, std=2.0), 3), quick)
    module.log = lambda *args, **kwargs: None
    return module


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return Batch(
        torch.randn(4, 4000, generator=generator), torch.tensor([4000, 4000, 2000, 1000]), torch.tensor([0, 1, 2, 0])
    )


def test_the_loss_is_smoothed_cross_entropy_of_augmented_spectrograms(module, batch):
    seen = []
    module.model.frontend.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    loss = module.training_step(batch, 0)
    assert loss.requires_grad
    clean = module.model.spectrogram(batch.waveform, batch.length)
    assert seen[0].shape == clean.shape == (4, 1, 24, 32)
    assert not torch.equal(seen[0], clean)
    torch.manual_seed(1)
    logits = module.model.classify(module.augment(clean)[0])
    torch.manual_seed(1)
    shares = torch.full((4, 3), 0.1 / 3).scatter(1, batch.label[:, None], 1 - 0.1 + 0.1 / 3)
    expected = -(shares * logits.log_softmax(1)).sum(1).mean()
    assert torch.allclose(module.training_step(batch, 0), expected)


def test_every_part_of_the_model_gets_a_gradient(module, batch):
    module.training_step(batch, 0).backward()
    for name, parameter in module.model.named_parameters():
        assert parameter.grad is not None, name
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.model.frontend.parameters())


def test_validation_and_test_are_not_augmented(module, batch):
    module.eval()
    seen = []
    module.model.frontend.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        module.validation_step(batch, 0)
        module.test_step(batch, 0)
    clean = module.model.spectrogram(batch.waveform, batch.length)
    assert torch.equal(seen[0], clean)
    assert torch.equal(seen[1], clean)
    assert module.confusion.compute().sum() == 4


def test_padding_does_not_change_what_a_clip_becomes(module, batch):
    alone = module.model.spectrogram(batch.waveform[3:, :1000], batch.length[3:])
    assert torch.allclose(module.model.spectrogram(batch.waveform, batch.length)[3:], alone, atol=1e-5)


def test_the_draws_depend_on_seed_and_step_alone(module, batch):
    def draw(seed: int) -> torch.Tensor:
        module.recipe = module.recipe.replace(seed=seed)
        torch.rand(5)  # whatever was drawn before
        module.on_train_batch_start(batch, 0)
        return module.augment(torch.zeros(4, 1, 24, 32))[0]

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


def trained(model, recipe, teacher=None):
    module = Classifier(model, recipe, Teaching(() if teacher is None else (Live(teacher),)))
    module.log = lambda *args, **kwargs: None
    return module


def test_binary_cross_entropy_counts_every_class_on_its_own(module, batch):
    module = trained(module.model, module.recipe.replace(loss="binary_cross_entropy", label_smoothing=0.1))
    torch.manual_seed(1)
    loss = module.training_step(batch, 0)
    torch.manual_seed(1)
    logits = module.model.classify(module.augment(module.model.spectrogram(batch.waveform, batch.length))[0]).double()
    shares = torch.full((4, 3), 0.1 / 3).scatter(1, batch.label[:, None], 1 - 0.1 + 0.1 / 3)
    yes = logits.sigmoid()
    expected = -(shares * yes.log() + (1 - shares) * (1 - yes).log()).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["cross_entropy", "binary_cross_entropy"])
def test_mixed_clips_are_learned_with_mixed_labels(module, batch, kind):
    module = trained(module.model, module.recipe.replace(loss=kind, mixup=1.0, label_smoothing=0.0))
    torch.manual_seed(1)
    loss = module.training_step(batch, 0)
    torch.manual_seed(1)
    waveform, shares, _ = mix(batch, module.recipe, 3)
    assert shares.shape == (4, 3)
    assert not torch.equal(waveform, batch.waveform)
    assert ((shares > 0).sum(1) == 2).any()
    logits = module.model.classify(module.augment(module.model.spectrogram(waveform, batch.length))[0]).double()
    if kind == "cross_entropy":
        expected = -(shares * logits.log_softmax(1)).sum(1).mean()
    else:
        expected = -(shares * logits.sigmoid().log() + (1 - shares) * (-logits).sigmoid().log()).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_student_and_teacher_meet_the_same_augmented_spectrograms(module, batch):
    seen = {}

    def teacher(spec: torch.Tensor) -> torch.Tensor:
        seen["teacher"] = spec
        return torch.tensor([[5.0, 0.0, 0.0]]).expand(len(spec), 3)

    recipe = module.recipe.replace(teacher="x", kd_weight=0.25, kd_temperature=2.0, mixup=0.5, label_smoothing=0.0)
    module = trained(module.model, recipe, FrozenTeacher(teacher))
    module.model.frontend.register_forward_pre_hook(lambda _, args: seen.update(student=args[0]))
    torch.manual_seed(1)
    loss = module.training_step(batch, 0)
    assert torch.equal(seen["student"], seen["teacher"])
    torch.manual_seed(1)
    waveform, shares, _ = mix(batch, module.recipe, 3)
    logits = module.model.classify(module.augment(module.model.spectrogram(waveform, batch.length))[0]).double()
    label = -(shares * logits.log_softmax(1)).sum(1).mean()
    taught = torch.tensor([2.5, 0.0, 0.0], dtype=torch.float64).softmax(0)
    divergence = (taught * (taught.log() - logits.log_softmax(1))).sum(1).mean()
    assert loss.item() == pytest.approx((0.25 * label + 0.75 * divergence).item(), rel=1e-5)


def test_the_teacher_is_not_asked_in_evaluation_and_not_stored(module, batch):
    def teacher(spec: torch.Tensor) -> torch.Tensor:
        raise AssertionError("asked")

    module = trained(module.model, module.recipe, FrozenTeacher(teacher)).eval()
    module.validation_step(batch, 0)
    module.test_step(batch, 0)
    stored = trained(module.model, module.recipe, FrozenTeacher(torch.nn.Linear(3, 3)))
    assert {name.split(".")[0] for name in stored.state_dict()} == {"model"}
    assert len(list(stored.parameters())) == len(list(module.model.parameters()))


def rates(recipe, steps_per_epoch: int) -> list[float]:
    """The learning rate of every step, as Lightning would move it."""
    module = Classifier(build_model(recipe.replace(mean=0.0, std=1.0), 3), recipe)
    module.trainer = SimpleNamespace(estimated_stepping_batches=steps_per_epoch * recipe.epochs)
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made.get("lr_scheduler")
    found = []
    for step in range(steps_per_epoch * recipe.epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if schedule and (schedule["interval"] == "step" or (step + 1) % steps_per_epoch == 0):
            schedule["scheduler"].step()
    return found


def test_the_rate_falls_as_the_paper_says(quick):
    settings = {"optimizer": "adam", "schedule": "step", "epochs": 12, "lr": 1.0}
    every_five = rates(quick.replace(**settings, decay_every=5), 2)[::2]
    assert every_five == pytest.approx([1] * 5 + [0.85] * 5 + [0.85**2] * 2)
    every_one = rates(quick.replace(**settings, decay_every=1), 2)
    assert every_one[::2] == every_one[1::2]
    assert every_one[::2] == pytest.approx([1] * 5 + [0.85**k for k in range(1, 8)])
    assert set(rates(quick.replace(schedule="constant", lr=0.5), 2)) == {0.5}
    cycle = rates(quick.replace(lr=0.5, epochs=10), 2)
    assert max(cycle) == pytest.approx(0.5, rel=0.02)
    assert cycle[-1] < 1e-3 < cycle[0] < 0.03


# ---- How the comparison with the teachers reaches the loss.


def step(module, batch):
    torch.manual_seed(1)
    return module.training_step(batch, 0).item()


def said(row):
    """A teacher that says the same of all clips."""
    return FrozenTeacher(lambda spec: torch.tensor(row).expand(len(spec), -1))


LESSON = {"teacher": "x", "kd_weight": 0.25, "kd_temperature": 2.0, "label_smoothing": 0.0}


@pytest.fixture
def logits_and_label(module, batch):
    """What a step computes without a teacher: the logits in float64, and the loss on the labels."""
    torch.manual_seed(1)
    spec = module.model.spectrogram(batch.waveform, batch.length)
    logits = module.model.classify(module.augment(spec)[0]).detach().double()
    return logits, torch.nn.functional.cross_entropy(logits, batch.label).item()


@pytest.mark.parametrize(
    ("changes", "formula"),
    [
        ({"kd_loss": "paper"}, lambda s, t, y: softened(s, t, 2.0)),
        ({"kd_loss": "hinton"}, lambda s, t, y: 4 * softened(s, t, 2.0, 2.0)),
        ({"kd_loss": "binary"}, lambda s, t, y: binary(s, t, 2.0)),
        ({"kd_loss": "decoupled"}, lambda s, t, y: decoupled(s, t, y, 2.0, 1.0, 8.0)),
        ({"kd_loss": "decoupled", "kd_alpha": 0.3, "kd_beta": 2.0}, lambda s, t, y: decoupled(s, t, y, 2.0, 0.3, 2.0)),
    ],
)
def test_the_recipe_chooses_the_comparison(module, batch, logits_and_label, changes, formula):
    logits, label = logits_and_label
    teacher = said([5.0, 1.0, 0.0])
    found = step(trained(module.model, module.recipe.replace(**LESSON, **changes), teacher), batch)
    expected = formula(logits, teacher(logits).double(), batch.label).item()
    assert found == pytest.approx(0.25 * label + 0.75 * expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["feature_mse", "feature_cosine"])
def test_features_are_compared_by_a_projector_that_learns_and_is_not_the_models(module, batch, kind):
    recipe = module.recipe.replace(**LESSON, kd_loss=kind)
    teacher = FrozenTeacher(PooledFeatures(timm.create_model("test_efficientnet", in_chans=1, num_classes=7)))
    made = trained(module.model, recipe, teacher)
    assert made.criterion.projector.weight.shape == (teacher.teacher.model.num_features, 96)
    torch.manual_seed(1)
    loss = made.training_step(batch, 0)
    torch.manual_seed(1)
    augmented = made.augment(made.model.spectrogram(batch.waveform, batch.length))[0]
    with pooled(made.model) as features:
        label = torch.nn.functional.cross_entropy(made.model.classify(augmented), batch.label)
    distance = feature_distance(
        made.criterion.projector(features[0]), teacher(augmented), kind.removeprefix("feature_")
    )
    assert loss.item() == pytest.approx((0.25 * label + 0.75 * distance).item(), rel=1e-5)
    loss.backward()
    assert made.criterion.projector.weight.grad.abs().sum() > 0
    assert {"criterion.projector.weight", "criterion.projector.bias"} <= set(made.state_dict())
    assert not any("projector" in name for name in made.model.state_dict())
    made.trainer = SimpleNamespace(estimated_stepping_batches=10)
    learned = {id(p) for group in made.configure_optimizers()["optimizer"].param_groups for p in group["params"]}
    assert id(made.criterion.projector.weight) in learned


@pytest.mark.parametrize("mean", ["logits", "probabilities"])
@pytest.mark.parametrize("kind", ["paper", "binary"])
@pytest.mark.parametrize("weights", [None, (1.0, 3.0, 2.0)])
def test_live_and_known_teachers_are_averaged(module, batch, logits_and_label, mean, kind, weights):
    """Two that are asked at each step, of which one hears, and one whose logits are known."""
    logits, label = logits_and_label
    heard = []

    def hears(waveform):
        heard.append(waveform)
        return torch.tensor([0.0, 4.0, 1.0]).expand(len(waveform), 3)

    known = torch.tensor([[1.0, 0.0, 3.0]]).expand(4, 3)
    w = weights or (1.0, 1.0, 1.0)
    recipe = module.recipe.replace(
        **LESSON | {"teacher": "x + y + z"}, kd_loss=kind, teacher_mean=mean, teacher_weights=weights
    )
    live = (Live(said([5.0, 1.0, 0.0]), "spectrogram", w[1]), Live(FrozenTeacher(hears), "waveform", w[2]))
    made = Classifier(module.model, recipe, Teaching(live, known, w[0]))
    made.log = lambda *args, **kwargs: None
    found = step(made, batch._replace(taught=known))
    assert torch.equal(heard[0], batch.waveform)
    z = torch.tensor([[1.0, 0.0, 3.0], [5.0, 1.0, 0.0], [0.0, 4.0, 1.0]], dtype=torch.float64)
    w = torch.tensor(w, dtype=torch.float64)[:, None] / sum(w)
    if mean == "logits":
        together = (w * z).sum(0)
    elif kind == "paper":
        together = (w * z.softmax(1)).sum(0).log()
    else:
        together = (w * z.sigmoid()).sum(0).logit()
    together = together.expand(4, 3)
    expected = binary(logits, together, 2.0) if kind == "binary" else softened(logits, together, 2.0)
    assert found == pytest.approx((0.25 * label + 0.75 * expected).item(), rel=1e-5)


def test_a_teacher_that_hears_needs_the_waveforms(module):
    made = Classifier(
        module.model, module.recipe.replace(teacher="x"), Teaching((Live(said([0.0, 0, 0]), "waveform"),))
    )
    label = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="features_on = 'worker': a teacher hears waveforms"):
        made.losses(SpectrogramBatch(torch.zeros(2, 1, 24, 32), label, label))


def test_weight_and_temperature_change_from_the_first_step_to_the_last(module, batch, logits_and_label):
    logits, label = logits_and_label
    ends = {"kd_weight_end": 1.0, "kd_temperature_end": 6.0, "epochs": 3}
    asked = []

    def teacher(spec):
        asked.append(len(spec))
        return torch.tensor([5.0, 1.0, 0.0]).expand(len(spec), 3)

    made = trained(module.model, module.recipe.replace(**LESSON, **ends), FrozenTeacher(teacher))
    z = torch.tensor([5.0, 1.0, 0.0]).expand(4, 3)
    for number, weight, temperature in ((0, 0.25, 2.0), (4, 0.625, 4.0), (8, 1.0, 6.0)):
        made._trainer = SimpleNamespace(estimated_stepping_batches=9, global_step=number)
        made._fabric = None
        assert made.balance() == pytest.approx((weight, temperature))
        expected = weight * label + (1 - weight) * softened(logits, z, temperature).item()
        assert step(made, batch) == pytest.approx(expected, rel=1e-5)
    assert len(asked) == 2  # not where only the labels count
    made.recipe = made.recipe.replace(epochs=6, cycle_from=3)  # a finished run of 9 steps gets as many again
    made._trainer = SimpleNamespace(estimated_stepping_batches=18, global_step=9)
    assert made.balance() == (1.0, 6.0)
