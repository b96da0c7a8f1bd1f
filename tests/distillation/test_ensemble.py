"""Several teachers as one, against sums in numpy, float64; and values that change over training."""

import numpy as np
import pytest
import torch

from specenhance.distillation.ensemble import from_parts, mean_logits, to_parts
from specenhance.distillation.names import names_of
from specenhance.distillation.schedule import linear

INF = float("inf")


@pytest.fixture
def three():
    return list(4 * torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64))


def softmax(z):
    return np.exp(z) / np.exp(z).sum(1, keepdims=True)


WEIGHTS = [1.0, 2.0, 0.5]
PARTS = np.array(WEIGHTS) / sum(WEIGHTS)


def test_the_mean_of_logits_is_the_geometric_mean_of_probabilities(three):
    found = mean_logits(three, WEIGHTS, "logits").numpy()
    np.testing.assert_allclose(found, sum(w * z.numpy() for w, z in zip(PARTS, three, strict=True)), rtol=1e-12)
    product = np.prod([softmax(z.numpy()) ** w for w, z in zip(PARTS, three, strict=True)], axis=0)
    np.testing.assert_allclose(softmax(found), product / product.sum(1, keepdims=True), rtol=1e-12)


def test_the_mean_of_probabilities_is_their_mean(three):
    found = softmax(mean_logits(three, WEIGHTS).numpy())
    expected = sum(w * softmax(z.numpy()) for w, z in zip(PARTS, three, strict=True))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_mean_of_binary_probabilities_is_that_of_each_class(three):
    found = 1 / (1 + np.exp(-mean_logits(three, WEIGHTS, kind="binary").numpy()))
    expected = sum(w / (1 + np.exp(-z.numpy())) for w, z in zip(PARTS, three, strict=True))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["paper", "binary"])
@pytest.mark.parametrize("mean", ["logits", "probabilities"])
def test_a_mean_of_some_and_the_others_is_the_mean_of_all(three, kind, mean):
    """So teachers whose logits are known may be averaged first, and the live ones at each step."""
    some = mean_logits(three[:2], WEIGHTS[:2], mean, kind)
    found = mean_logits([some, three[2]], [sum(WEIGHTS[:2]), WEIGHTS[2]], mean, kind)
    expected = mean_logits(three, WEIGHTS, mean, kind)
    if kind == "paper":  # logits of one distribution, up to a number that is the same for all classes
        found, expected = found.log_softmax(1), expected.log_softmax(1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_one_teacher_is_left_as_it_is(three):
    assert mean_logits(three[:1], [3.0]) is three[0]


def test_an_excluded_class_is_excluded_in_a_mean_of_logits_and_not_in_one_of_probabilities(three):
    three[0][0, 1] = -INF
    assert mean_logits(three, WEIGHTS, "logits")[0, 1] == -INF
    for kind in ("paper", "binary"):
        assert mean_logits(three, WEIGHTS, kind=kind).isfinite().all()
        for z in three:
            z[0, 1] = -INF
        assert mean_logits(three, WEIGHTS, kind=kind)[0, 1] == -INF
        three[1][0, 1] = three[2][0, 1] = 0.0


def test_logits_of_half_precision_are_averaged_in_float32(three):
    assert mean_logits([z.half() for z in three], WEIGHTS).dtype == torch.float32


def test_what_cannot_be_averaged_is_refused(three):
    with pytest.raises(ValueError, match="2 weights for 3 teachers"):
        mean_logits(three, [1.0, 2.0])
    with pytest.raises(ValueError, match=r"shapes \[\(6, 5\), \(6, 4\)\]"):
        mean_logits([three[0], three[1][:, :4]], [1.0, 1.0])
    with pytest.raises(ValueError, match="mean = 'median': expected one of logits, probabilities"):
        mean_logits(three, WEIGHTS, "median")


@pytest.mark.parametrize("kind", ["paper", "binary", "feature_mse"])
def test_a_mixed_clip_has_parts_of_what_is_said_of_both(three, kind):
    a, b, _ = three
    found = from_parts(0.7 * to_parts(a, kind) + 0.3 * to_parts(b, kind), kind)
    shown = {"paper": lambda z: z.softmax(1), "binary": torch.sigmoid, "feature_mse": lambda z: z}[kind]
    torch.testing.assert_close(shown(found), 0.7 * shown(a) + 0.3 * shown(b), rtol=1e-12, atol=1e-12)


def test_names_of_teachers_are_told_apart():
    assert names_of("a") == ["a"]
    assert names_of("runs/a+b + embedding:x y.npz") == ["runs/a+b", "embedding:x y.npz"]


def test_a_value_changes_linearly_between_the_first_step_and_the_last():
    assert [linear(5.0, 1.0, step, 5) for step in range(7)] == [5, 4, 3, 2, 1, 1, 1]
    assert linear(5.0, None, 3, 5) == 5.0
    assert linear(5.0, 1.0, 0, 1) == 5.0
