"""The training step: what it sees, what it leaves alone, and what it draws."""

import pytest
import torch

from specenhance.data import Batch
from specenhance.training.build import build_model
from specenhance.training.module import Classifier


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
    logits = module.model.classify(module.augment(clean))
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
        return module.augment(torch.zeros(4, 1, 24, 32))

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
