"""Spectrograms that are made where the clips are read."""

import pytest
import torch

from specenhance.features import create_features
from specenhance.training.batches import Draw, SpectrogramBatch, loader, mix
from specenhance.training.build import build_split


def features(recipe):
    return create_features("kaldi", frames=recipe.frames, num_mel_bins=recipe.bins)


def batches(recipe, workers=0, train=True, epoch=0):
    made = loader(build_split(recipe, "train"), recipe, train=train, workers=workers, features=features(recipe))
    if train:
        made.batch_sampler.set_epoch(epoch)
    return list(made)


@pytest.mark.parametrize("train", [True, False])
def test_they_are_those_that_the_model_would_make(quick, train):
    waveforms = loader(build_split(quick, "train"), quick, train=train)
    for made, batch in zip(batches(quick, train=train), waveforms, strict=True):
        assert isinstance(made, SpectrogramBatch)
        torch.testing.assert_close(made.spec, features(quick)(batch.waveform, batch.length))
        assert torch.equal(made.target, batch.label)
        assert torch.equal(made.label, batch.label)


def test_mixing_depends_on_seed_and_epoch_and_not_on_the_workers(quick):
    recipe = quick.replace(mixup=0.5)

    def drawn(**settings):
        return torch.cat([batch.target for batch in batches(recipe, **settings)])

    torch.manual_seed(1)
    first = drawn()
    torch.manual_seed(2)
    assert torch.equal(first, drawn())
    assert torch.equal(first, drawn(workers=2))
    assert not torch.equal(first, drawn(epoch=1))
    torch.testing.assert_close(first.sum(1), torch.ones(len(first)))
    assert (first.amax(1) < 1).any()


def test_it_leaves_the_generator_of_its_process_alone(quick):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    made = loader(build_split(quick, "train"), quick.replace(mixup=1.0), train=True, features=features(quick))
    dataset = made.dataset
    dataset.__getitems__([Draw(0, 0), Draw(1, 0), Draw(2, 0)])
    assert torch.equal(torch.rand(1), expected)


def test_nothing_is_mixed_in_evaluation(quick):
    for batch in batches(quick.replace(mixup=1.0), train=False):
        assert torch.equal(batch.target, batch.label)


def test_a_recipe_without_mixing_keeps_waveforms_and_numbers(quick):
    (batch, *_) = loader(build_split(quick, "train"), quick, train=True)
    waveform, target, _ = mix(batch, quick, 3)
    assert waveform is batch.waveform
    assert target is batch.label
