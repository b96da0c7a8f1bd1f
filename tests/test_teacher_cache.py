"""A teacher's logits on disk: computed once, right for as long as the input is the same, and refused where it is not."""

import copy
import os
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn

from specenhance.data.augment import add_noise, mask_span, shift_frames
from specenhance.distill import DistillationLoss, Distiller
from specenhance.teacher_cache import CachedTeacher


class Counting(nn.Module):
    """A teacher that counts the samples that it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(24 * 16, 5)
        self.asked = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.asked += len(x)
        return self.layer(x.flatten(1))


KEYS = [f"{i}.wav" for i in range(6)]


@pytest.fixture
def x():
    return torch.randn(6, 1, 24, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def teacher():
    return Counting()


def test_every_sample_is_computed_once_and_kept(teacher, x, tmp_path):
    path = tmp_path / "new" / "logits.db"
    cached = CachedTeacher(teacher, path)
    expected = teacher(x)
    teacher.asked = 0
    assert torch.allclose(cached(x[:4], KEYS[:4]), expected[:4])
    assert torch.allclose(cached(x, KEYS), expected)
    order = [5, 0, 3]
    assert torch.allclose(cached(x[order], [KEYS[i] for i in order]), expected[order])
    assert teacher.asked == 6
    again = CachedTeacher(teacher, path)
    assert torch.allclose(again(x, KEYS), expected)
    assert teacher.asked == 6


@pytest.mark.parametrize(
    "augment",
    [
        lambda x: mask_span(x, 12, 2),
        lambda x: mask_span(x, 8, 3),
        lambda x: shift_frames(x, 10),
        lambda x: add_noise(x, 0.1),
        lambda x: 0.9 * x + 0.1 * x.flip(0),
    ],
)
def test_augmented_input_is_refused(teacher, x, tmp_path, augment):
    cached = CachedTeacher(teacher, tmp_path / "logits.db")
    cached(x, KEYS)
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=r"the input of '\d\.wav' is not the one .* cannot see augmented input"):
        cached(augment(x), KEYS)


def test_rounding_is_no_augmentation(teacher, x, tmp_path):
    cached = CachedTeacher(teacher, tmp_path / "logits.db")
    expected = cached(x, KEYS)
    assert torch.equal(cached(x * (1 + 1e-5), KEYS), expected)
    assert torch.equal(cached(x.bfloat16(), KEYS), expected)


def test_a_cache_belongs_to_its_teacher(teacher, x, tmp_path):
    path = tmp_path / "logits.db"
    CachedTeacher(teacher, path)
    other = copy.deepcopy(teacher)
    with torch.no_grad():
        other.layer.bias[0] += 1e-6
    with pytest.raises(ValueError, match="holds the logits of another teacher; remove it, or give another path"):
        CachedTeacher(other, path)
    (tmp_path / "text.db").write_text("nothing of the kind" * 100)
    with pytest.raises(ValueError, match=r"text\.db: no file of a teacher's logits"):
        CachedTeacher(teacher, tmp_path / "text.db")


def test_every_sample_needs_a_key(teacher, x, tmp_path):
    cached = CachedTeacher(teacher, tmp_path / "logits.db")
    with pytest.raises(ValueError, match="no keys for 6 samples: a cached teacher needs one for each"):
        cached(x)
    with pytest.raises(ValueError, match="2 keys for 6 samples"):
        cached(x, KEYS[:2])


def test_a_distiller_hands_the_keys_on(teacher, x, tmp_path):
    student = nn.Sequential(nn.Flatten(), nn.Linear(24 * 16, 5))
    loss = DistillationLoss(nn.CrossEntropyLoss())
    target = torch.arange(6) % 5
    distiller = Distiller(student, CachedTeacher(teacher, tmp_path / "logits.db"), loss)
    live = Distiller(student, teacher, loss)(x, target)
    for _ in range(2):
        assert torch.allclose(distiller(x, target, keys=KEYS).total, live.total)
    assert teacher.asked == 12  # six by the live one, six by the cached one


DIE = """
import os, signal, sys, torch
sys.path.insert(0, {tests!r})
from test_teacher_cache import Counting, KEYS
from specenhance.teacher_cache import CachedTeacher
x = torch.randn(6, 1, 24, 16, generator=torch.Generator().manual_seed(1))
cached = CachedTeacher(Counting(), {path!r})
cached(x[:3], KEYS[:3])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_nothing_that_was_given(teacher, x, tmp_path):
    path = tmp_path / "logits.db"
    code = DIE.format(tests=os.path.dirname(__file__), path=str(path))
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    cached = CachedTeacher(teacher, path)
    assert torch.allclose(cached(x, KEYS), teacher(x))
    assert teacher.asked == 3 + 6
