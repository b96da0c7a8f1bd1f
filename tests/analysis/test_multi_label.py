"""The scores of multi-label models, against scikit-learn's and against counting."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from specenhance.analysis.multi_label import MultiLabelScore, tuned_thresholds


def clips(seed=0, count=400, classes=6, steps=0):
    draw = torch.Generator().manual_seed(seed)
    p = torch.rand(count, classes, generator=draw)
    y = (torch.rand(count, classes, generator=draw) < 0.1 + 0.3 * p).int()
    return (p.mul(steps).round() / steps if steps else p), y


@pytest.mark.parametrize("steps", [0, 10], ids=["all different", "many equal"])
def test_scores_are_scikit_learns(steps):
    p, y = clips(steps=steps)
    score = MultiLabelScore(p, y, [0.5] * 6)
    assert np.allclose(score.average_precision, average_precision_score(y, p, average=None), atol=1e-6)
    assert abs(score.mean_ap - average_precision_score(y, p, average="macro")) < 1e-6
    assert np.allclose(score.auroc, roc_auc_score(y, p, average=None), atol=1e-6)
    found = (p >= 0.5).int()
    rows = score.each_class()
    for name, judge in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert np.allclose([getattr(row, name) for row in rows], judge(y, found, average=None), atol=1e-9)
    assert [row.clips for row in rows] == y.sum(0).tolist()


def test_a_class_that_no_clip_has_does_not_count():
    p, y = clips()
    y[:, 2] = 0
    score = MultiLabelScore(p, y, [0.5] * 6)
    others = [0, 1, 3, 4, 5]
    assert score.average_precision.isnan().tolist() == [i == 2 for i in range(6)]
    assert abs(score.mean_ap - average_precision_score(y[:, others], p[:, others], average="macro")) < 1e-6
    assert abs(score.mean_f1 - f1_score(y[:, others], (p >= 0.5).int()[:, others], average="macro")) < 1e-6
    assert not np.isnan(list(score.figures().values())).any()


def test_a_class_that_all_clips_have_has_no_auroc():
    p, y = clips()
    y[:, 0] = 1
    assert MultiLabelScore(p, y, [0.5] * 6).auroc.isnan().tolist() == [True] + 5 * [False]


def test_a_single_class():
    p, y = clips(classes=1)
    assert abs(MultiLabelScore(p, y, [0.5]).mean_ap - average_precision_score(y[:, 0], p[:, 0])) < 1e-6


@pytest.mark.parametrize("steps", [0, 10])
@pytest.mark.parametrize("seed", range(3))
def test_thresholds_have_the_highest_f1_of_all(seed, steps):
    p, y = clips(seed, count=150, steps=steps)
    thresholds = tuned_thresholds(p, y)
    for k, threshold in enumerate(thresholds):
        best = max(f1_score(y[:, k], (p[:, k] >= other).int()) for other in p[:, k].unique())
        assert f1_score(y[:, k], (p[:, k] >= threshold).int()) == pytest.approx(best, abs=1e-12)


def test_a_threshold_is_no_clips_probability_so_that_rounding_moves_no_clip():
    p, y = clips()
    assert all((p[:, k] - threshold).abs().min() > 1e-7 for k, threshold in enumerate(tuned_thresholds(p, y)))


def test_the_threshold_of_an_unknown_class_is_a_half():
    assert tuned_thresholds(torch.rand(5, 1), torch.zeros(5, 1)) == [0.5]


def test_the_weakest_classes_come_first():
    p, y = torch.tensor([[0.9, 0.1], [0.1, 0.9]]), torch.tensor([[1, 1], [0, 0]])
    assert MultiLabelScore(p, y, [0.5, 0.5]).weakest(["bark", "rain"], 1) == [
        "rain: average precision 50.0%, F1 0.0%, 1 clips"
    ]
