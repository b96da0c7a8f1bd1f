"""A head on an embedding, against scikit-learn's own pipeline; and what cannot be fitted."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from specenhance.distillation import head as module
from specenhance.distillation.head import Head, Headed, fit_head


def clips(count, classes, width=6, seed=0):
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return 5 + 3 * (draw.normal(size=(classes, width))[labels] + draw.normal(size=(count, width))), labels.tolist()


@pytest.mark.parametrize("classes", [2, 4])
def test_it_is_a_standardised_logistic_regression(monkeypatch, classes):
    monkeypatch.setattr(module, "STRENGTHS", (0.1,))
    values, labels = clips(60, classes)
    head = fit_head(values, labels, classes)
    rival = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(values, labels)
    found = head(torch.from_numpy(values)).double().softmax(1).numpy()
    np.testing.assert_allclose(found, rival.predict_proba(values), atol=1e-5)


def test_the_strength_is_the_one_that_held_out_groups_like_best():
    """The values tell the speaker, not the word: by clip a weak penalty looks good, by speaker a strong one."""
    draw = np.random.default_rng(0)
    speaker = np.repeat(np.arange(12), 20)
    label = draw.integers(2, size=240)
    # Each speaker says the same word in their own way, that no other speaker shares.
    values = np.zeros((240, 24))
    values[np.arange(240), 2 * speaker + label] = 3.0
    values += 0.1 * draw.normal(size=values.shape)
    by_clip = fit_head(values, label.tolist(), 2)
    by_speaker = fit_head(values, label.tolist(), 2, [f"s{i}" for i in speaker])
    assert by_speaker.weight.abs().max() < by_clip.weight.abs().max() / 3


def test_a_class_without_clips_is_excluded():
    values, labels = clips(30, 3)
    logits = fit_head(values, labels, classes=5)(torch.from_numpy(values))
    assert torch.isinf(logits[:, 3:]).all()
    assert logits[:, :3].isfinite().all()
    (one,) = {float(x) for x in logits.softmax(1).sum(1).round(decimals=5)}
    assert one == 1.0


def test_a_value_that_never_changes_is_no_division_by_zero():
    values, labels = clips(30, 2)
    values[:, 0] = 7.0
    assert fit_head(values, labels, 2)(torch.from_numpy(values)).isfinite().all()


def test_it_can_be_stored_and_loaded():
    values, labels = clips(30, 3)
    head = fit_head(values, labels, 3)
    again = Head(6, 3)
    again.load_state_dict(head.state_dict())
    x = torch.from_numpy(values)
    assert torch.equal(Headed(lambda x: x, again)(x), head(x))


def test_values_that_are_not_finite_and_a_single_class_are_refused():
    values, labels = clips(30, 3)
    with pytest.raises(ValueError, match="two or more"):
        fit_head(values, [1] * 30, 3)
    values[4, 1] = np.nan
    with pytest.raises(ValueError, match="1 clips are not finite"):
        fit_head(values, labels, 3)


def test_the_accuracy_that_it_tells_is_that_of_clips_it_was_not_fitted_on():
    draw = np.random.default_rng(0)
    values, labels = draw.normal(size=(90, 40)), draw.integers(2, size=90).tolist()
    head = fit_head(values, labels, 2)  # there is nothing to learn
    assert 0.3 < head.held_out < 0.7
    assert fit_head(*clips(60, 3), 3).held_out > 0.8
    assert fit_head(*clips(4, 2), 2, ["one speaker"] * 4).held_out is None
