"""Balanced classes, early ends, added gradients, averaged weights, cut clips and weights of one's own; also stopped."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import safetensors.torch
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from specenhance.data.base import AudioDataset
from specenhance.training import load_stored, save_recipe
from specenhance.training.augment import cut_waveforms
from specenhance.training.balance import balancing_weights, class_weights
from specenhance.training.batches import TrainingOrder
from specenhance.training.build import build_model
from specenhance.training.module import LOSSES, Classifier
from specenhance.training.recipe import Recipe
from specenhance.training.run import resume, train

CPU = {"device": "cpu"}


def same_weights(first, second):
    ours, theirs = (safetensors.torch.load_file(folder / "model.safetensors") for folder in (first, second))
    return all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def result(run):
    found = json.loads((run / "result.json").read_text())
    return {name: value for name, value in found.items() if name not in ("seconds", "recipe")}


# Balanced classes


def test_class_weights_are_scikit_learns():
    labels = [0] * 7 + [1] * 2 + [2]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert np.allclose(class_weights(AudioDataset(["a", "b", "c"], labels)), expected)
    assert class_weights(AudioDataset(["a", "b"], [0, 0])).tolist() == [1, 1]  # no clip of b
    several = AudioDataset(["a", "b"], [(0, 1), (0,), ()])
    assert torch.allclose(class_weights(several), torch.tensor([3 / (2 * 2), 3 / (2 * 1)]))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_weighs_its_classes(loss):
    draw = torch.Generator().manual_seed(0)
    z, label, w = torch.randn(6, 3, generator=draw), torch.tensor([0, 1, 2, 2, 0, 1]), torch.tensor([0.5, 2.0, 1.5])
    recipe = Recipe(loss=loss, label_smoothing=0.0)
    found, plain = LOSSES[loss](recipe, w)(z, label), LOSSES[loss](recipe, None)(z, label)
    assert not torch.isclose(found, plain)
    assert torch.isclose(LOSSES[loss](recipe, torch.ones(3))(z, label), plain)
    if loss == "cross_entropy":
        expected = (w[label] * nn.functional.cross_entropy(z, label, reduction="none")).sum() / w[label].sum()
    else:
        each = torch.stack(
            [LOSSES[loss](recipe, None)(z[:, k : k + 1], (label == k).float()[:, None]) for k in range(3)]
        )
        expected = (w * each).mean()
    assert torch.isclose(found, expected)


def test_balanced_sampling_draws_all_classes_equally_often():
    data = AudioDataset(["a", "b", "c"], [0] * 800 + [1] * 150 + [2] * 50)
    order = TrainingOrder(len(data), Recipe(batch_size=100, seed=3), weights=balancing_weights(data))
    epochs = []
    for epoch in range(3):
        order.set_epoch(epoch)
        epochs.append([draw.clip for batch in order for draw in batch])
    assert [len(clips) for clips in epochs] == [1000] * 3
    assert epochs[0] != epochs[1]
    counts = Counter(data.labels[clip] for clips in epochs for clip in clips)
    assert all(abs(counts[label] - 1000) < 110 for label in range(3))  # four standard deviations of 3,000 draws


def test_a_clip_of_several_classes_is_drawn_for_each():
    data = AudioDataset(["a", "b"], [(0,), (0, 1), (), (0,)])
    assert torch.allclose(balancing_weights(data), torch.tensor([1 / 3, 1 / 3 + 1, 1, 1 / 3]))


def test_a_run_with_both_is_the_same_when_it_is_killed(quick, tmp_path):
    recipe = quick.replace(class_weights="balanced", sampling="balanced", ema=0.9, cutmix=0.5, patience=3)
    train(recipe, tmp_path / "whole", **CPU)
    killed_at_a_checkpoint(recipe, tmp_path)
    resume(tmp_path / "run", **CPU)
    assert same_weights(tmp_path / "whole", tmp_path / "run")
    assert result(tmp_path / "whole") == result(tmp_path / "run")
    assert (tmp_path / "whole" / "metrics.csv").read_text() == (tmp_path / "run" / "metrics.csv").read_text()


KILLED = """
import os, signal, sys
from pathlib import Path
from specenhance.training import load_recipe
from specenhance.training.checkpoints import AtomicCheckpoints
from specenhance.training.run import train
save = AtomicCheckpoints.save_checkpoint
def save_and_die(self, *args, **kwargs):
    save(self, *args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
AtomicCheckpoints.save_checkpoint = save_and_die
train(load_recipe(sys.argv[1]), Path(sys.argv[2]), device="cpu")
"""


def killed_at_a_checkpoint(recipe, folder):
    save_recipe(recipe, folder / "recipe.toml")
    command = [sys.executable, "-c", KILLED, str(folder / "recipe.toml"), str(folder / "run")]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL


# Early ends


def test_training_ends_when_it_gets_no_better(quick, tmp_path, news):
    recipe = quick.replace(
        epochs=20, patience=2, lr=1e-12, schedule="constant", time_mask=0, freq_mask=0, shift=0, noise=0
    )
    train(recipe, tmp_path / "run", **CPU)
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]
    assert len(rows) < 20
    assert any("no better epoch for 2 epochs: training ends" in line for line in news)
    with pytest.raises(ValueError, match=r"ended early, by patience = 2.*--set init="):
        resume(tmp_path / "run", epochs=30, **CPU)
    assert resume(tmp_path / "run", **CPU)["recipe"]["epochs"] == 20  # it is finished


def test_a_run_that_was_killed_after_its_early_end_does_not_train_on(quick, tmp_path):
    recipe = quick.replace(
        epochs=20, patience=1, lr=1e-12, schedule="constant", time_mask=0, freq_mask=0, shift=0, noise=0
    )
    train(recipe, tmp_path / "run", **CPU)
    ended = (tmp_path / "run" / "metrics.csv").read_text()
    (tmp_path / "run" / "result.json").unlink()
    resume(tmp_path / "run", **CPU)
    assert (tmp_path / "run" / "metrics.csv").read_text() == ended
    assert (tmp_path / "run" / "result.json").is_file()


# Added gradients


def test_accumulated_batches_are_one_large_batch(plain, tmp_path):
    still = plain.replace(epochs=2, label_smoothing=0.0, clip_norm=0.0, optimizer="sgd", schedule="constant", lr=0.05)
    train(still.replace(batch_size=8), tmp_path / "large", **CPU)
    train(still.replace(batch_size=4, accumulate=2), tmp_path / "added", **CPU)
    large, added = (safetensors.torch.load_file(tmp_path / name / "model.safetensors") for name in ("large", "added"))
    # The gradients of two halves are averaged: the same but for the order of sums.
    assert all(torch.allclose(large[name], added[name], atol=2e-4) for name in large)


def test_a_stop_waits_for_the_step_of_the_optimizer(quick, tmp_path):
    recipe = quick.replace(batch_size=4, accumulate=2, epochs=2)  # six batches an epoch
    train(recipe, tmp_path / "whole", **CPU)
    save_recipe(recipe, tmp_path / "recipe.toml")
    script = STOPPED.format(at=3)
    command = [sys.executable, "-c", script, str(tmp_path / "recipe.toml"), str(tmp_path / "run")]
    stopped = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert "stopped after step 4 of 6 in epoch 1" in stopped.stdout + stopped.stderr
    resume(tmp_path / "run", **CPU)
    assert same_weights(tmp_path / "whole", tmp_path / "run")
    assert (tmp_path / "whole" / "metrics.csv").read_text() == (tmp_path / "run" / "metrics.csv").read_text()


STOPPED = """
import os, signal, sys
from pathlib import Path
from specenhance.training import load_recipe
from specenhance.training.module import Classifier
from specenhance.training.run import train
step = Classifier.training_step
def step_and_ask(self, batch, batch_idx):
    if batch_idx + 1 == {at} and self.trainer.current_epoch == 0:
        os.kill(os.getpid(), signal.SIGTERM)
    return step(self, batch, batch_idx)
Classifier.training_step = step_and_ask
try:
    train(load_recipe(sys.argv[1]), Path(sys.argv[2]), device="cpu")
except Exception as error:
    print(error)
"""


# Averaged weights


def test_the_average_is_the_formula_and_is_what_is_kept(quick, tmp_path, monkeypatch):
    decay, seen = 0.8, []
    step = Classifier.on_train_batch_end

    def watch(self, *args):
        step(self, *args)
        seen.append({name: p.detach().clone() for name, p in self.model.named_parameters()})

    monkeypatch.setattr(Classifier, "on_train_batch_end", watch)
    train(quick.replace(ema=decay, epochs=2, select="last"), tmp_path / "run", **CPU)
    expected = seen[0]
    for weights in seen[1:]:
        expected = {name: decay * expected[name] + (1 - decay) * weights[name] for name in expected}
    kept = dict(load_stored(tmp_path / "run").model.named_parameters())
    assert all(torch.allclose(kept[name], value, atol=1e-6) for name, value in expected.items())
    assert not all(torch.allclose(kept[name], value, atol=1e-4) for name, value in seen[-1].items())


# Cut clips


def test_a_cut_clip_has_a_span_of_its_partner_and_its_share_of_the_labels():
    torch.manual_seed(0)
    B, N = 256, 100
    length = torch.randint(40, N + 1, (B,))
    place = torch.arange(N)
    waveform = (torch.arange(1, B + 1)[:, None] * (place < length[:, None])).float()
    cut = cut_waveforms(waveform, length, torch.eye(B), probability=0.5, alpha=1.0)
    changed = cut.waveform != waveform
    touched = changed.any(1)
    assert 0.35 < float(touched.float().mean()) < 0.6
    assert not (changed & (place >= length[:, None])).any()  # nothing after a clip's end
    parts = []
    for i in torch.nonzero(touched)[:, 0].tolist():
        where = torch.nonzero(changed[i])[:, 0]
        assert len(where) == where[-1] - where[0] + 1  # one span
        partner = int(cut.target[i].argsort(descending=True)[:2].tolist()[int(cut.target[i, i] > 0.5)])
        others = set(cut.waveform[i][where].tolist()) - {0.0}
        assert len(others) <= 1
        parts.append(float(1 - cut.target[i, i]))
        assert abs(parts[-1] - len(where) / int(length[i])) < 1e-6 or partner == i
        assert cut.target[i].sum() == pytest.approx(1)
    assert 0.4 < np.mean(parts) < 0.6  # Beta(1, 1) is uniform
    assert torch.equal(cut.target[~touched].argmax(1), torch.nonzero(~touched)[:, 0])


# Weights of one's own


def test_a_run_starts_from_the_weights_of_another(quick, untrained, tmp_path, news):
    train(quick.replace(init=str(untrained), epochs=1, lr=1e-12, weight_decay=0.0), tmp_path / "run", **CPU)
    first, then = (dict(load_stored(folder).model.named_parameters()) for folder in (untrained, tmp_path / "run"))
    assert all(torch.allclose(first[name], then[name], atol=1e-6) for name in first)
    assert any("starting from the weights of" in line and "anew" not in line for line in news)


def test_a_head_for_other_classes_and_another_front_end_start_anew(quick, untrained):
    from specenhance.training.start import load_start

    stored = load_stored(untrained).model.state_dict()
    model = build_model(quick.replace(frontend="tfe1"), num_classes=7)
    text = load_start(model, str(untrained / "model.safetensors"))
    assert "anew: the head (2 tensors) and the front end or features" in text
    body = [name for name in stored if name.startswith("backbone.") and not name.startswith("backbone.fc.")]
    assert body
    assert all(torch.equal(model.state_dict()[name], stored[name]) for name in body)


def test_another_backbone_is_refused_before_training(quick, untrained, tmp_path):
    with pytest.raises(
        ValueError, match=r"its backbone is another one \(backbone\..*expected the weights of the same backbone"
    ):
        train(quick.replace(init=str(untrained), backbone="test_vit", frames=48), tmp_path / "run", **CPU)
    with pytest.raises(FileNotFoundError, match=r"expected a finished run, or a \.safetensors file"):
        train(quick.replace(init=str(tmp_path / "none")), tmp_path / "run", **CPU)
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"broken\.safetensors"):
        train(quick.replace(init=str(tmp_path / "broken.safetensors")), tmp_path / "run", **CPU)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"init = .*: expected none with pretrained = true"):
        quick.replace(init="x", pretrained=True)
