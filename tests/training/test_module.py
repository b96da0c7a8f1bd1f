"""The training step: what it sees, what it leaves alone, and what it draws."""

from types import SimpleNamespace

import pytest
import torch

from specenhance.data import Batch
from specenhance.distillation.teachers import FrozenTeacher
from specenhance.training.batches import mix
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
