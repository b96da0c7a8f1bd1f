"""A teacher's logits on disk: computed once, right for as long as the input is the same, and refused where it is not."""

import copy
import functools
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
import torch
from torch import nn

from specenhance.distillation.cache import CachedTeacher
from specenhance.distillation.loss import DistillationLoss, Distiller
from specenhance.training.augment import add_noise, mask_span, shift_frames


class _Lambda(nn.Module):
    """A module with a setting that cannot be told from another."""

    def __init__(self) -> None:
        super().__init__()
        self.function = lambda x: x


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


def test_two_samples_under_one_key_are_refused_also_in_one_batch(teacher, x, tmp_path):
    cached = CachedTeacher(teacher, tmp_path / "logits.db")
    with pytest.raises(
        ValueError, match=r"two samples of a batch have the key '0\.wav', and they differ: give each its own"
    ):
        cached(x[:3], ["0.wav", "1.wav", "0.wav"])
    twice = cached(x[[0, 1, 0]], ["0.wav", "1.wav", "0.wav"])  # one sample may come twice
    assert torch.equal(twice[0], twice[2])
    assert teacher.asked == 2


# ---- A cache knows what made it. Each of these gives other logits from the same weights.


class Attention(nn.Module):
    """Whose weights have the same shapes for any number of heads."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.heads = heads
        self.layer = nn.MultiheadAttention(16, heads)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x[:, 0], x[:, 0], x[:, 0])[0].mean(1)


class Hidden(nn.Module):
    """With a buffer that is in no state_dict."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.register_buffer("offset", torch.tensor(offset), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) + self.offset


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x.mean((2, 3))


Doubled.__qualname__ = "Same"


class Tripled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3 * x.mean((2, 3))


Tripled.__qualname__ = "Same"  # as a class whose code was edited


class Times:
    """A transform that is no module."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


def closed_over(factor: float) -> nn.Module:
    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return factor * x.mean((2, 3))

    return Scaled()


def hooked(teacher: nn.Module, factor: float) -> nn.Module:
    teacher = copy.deepcopy(teacher)
    teacher.register_forward_hook(_Hook(factor))
    return teacher


class _Hook:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        return self.factor * output


OTHERS = {
    "a setting": lambda t: ({"teacher": Attention(2)}, {"teacher": Attention(4)}, "teacher.heads"),
    "a buffer outside the state_dict": lambda t: (
        {"teacher": Hidden(0.0)},
        {"teacher": Hidden(1.0)},
        "teacher.offset",
    ),
    "a layer's slope": lambda t: (
        {"teacher": nn.Sequential(t, nn.LeakyReLU(0.1))},
        {"teacher": nn.Sequential(t, nn.LeakyReLU(0.2))},
        "teacher.1.negative_slope",
    ),
    "another layer without weights": lambda t: (
        {"teacher": nn.Sequential(t, nn.ReLU())},
        {"teacher": nn.Sequential(t, nn.GELU())},
        "teacher.1",
    ),
    "code": lambda t: ({"teacher": Doubled()}, {"teacher": Tripled()}, "test_teacher_cache.Same.forward"),
    "what code closes over": lambda t: (
        {"teacher": closed_over(1.0)},
        {"teacher": closed_over(2.0)},
        r"test_teacher_cache.closed_over.<locals>.Scaled.forward.factor",
    ),
    "a hook": lambda t: ({"teacher": hooked(t, 1.0)}, {"teacher": hooked(t, 2.0)}, "teacher.hook 0.factor"),
    "a transform": lambda t: ({"teacher": t}, {"teacher": t, "transform": nn.ReLU()}, "transform"),
    "a transform's setting": lambda t: (
        {"teacher": t, "transform": nn.Threshold(0.1, 0.0)},
        {"teacher": t, "transform": nn.Threshold(0.2, 0.0)},
        "transform.threshold",
    ),
    "a transform that is no module": lambda t: (
        {"teacher": t, "transform": Times(2.0)},
        {"teacher": t, "transform": Times(3.0)},
        "transform.factor",
    ),
    "a function of PyTorch's": lambda t: (
        {"teacher": t, "transform": torch.relu},
        {"teacher": t, "transform": torch.abs},
        "transform",
    ),
    "a type": lambda t: ({"teacher": t}, {"teacher": copy.deepcopy(t), "dtype": torch.bfloat16}, "dtype"),
    "an identity": lambda t: (
        {"teacher": t, "transform": lambda x: x, "identity": "plain"},
        {"teacher": t, "transform": lambda x: 2 * x, "identity": "doubled"},
        "identity",
    ),
    "weights under one identity": lambda t: (
        {"teacher": t, "transform": lambda x: x, "identity": "plain"},
        {"teacher": nn.Sequential(t), "transform": lambda x: x, "identity": "plain"},
        "teacher",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_cache_knows_what_made_it(teacher, x, tmp_path, kind):
    first, second, path = OTHERS[kind](teacher)
    logits = CachedTeacher(path=tmp_path / "logits.db", **first)(x, KEYS)
    with pytest.raises(ValueError, match=rf"another teacher; remove it, or give another path\. What differs: .*{path}"):
        CachedTeacher(path=tmp_path / "logits.db", **second)
    again = CachedTeacher(path=tmp_path / "logits.db", **first)
    assert torch.equal(again(x, KEYS), logits)


def plain(x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3))


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"teacher": plain}, "teacher is the function plain"),
        ({"teacher": lambda x: x.mean((2, 3))}, "teacher is the function <lambda>"),
        ({"teacher": functools.partial(plain)}, r"teacher\.func is the function plain"),
        ({"transform": lambda x: x}, "transform is the function <lambda>"),
        ({"transform": nn.Sequential(nn.ReLU(), _Lambda())}, r"transform\.1\.function is"),
        (
            {"teacher": object.__new__(type("Opaque", (), {"__slots__": (), "__call__": plain}))},
            "teacher is of type .*Opaque",
        ),
    ],
)
def test_what_cannot_be_told_from_another_needs_an_identity(teacher, x, tmp_path, arguments, path):
    arguments = {"teacher": teacher} | arguments
    with pytest.raises(ValueError, match=rf"^{path}.*, and cannot be told from another .* identity=\"NAME\""):
        CachedTeacher(path=tmp_path / "logits.db", **arguments)
    assert not (tmp_path / "logits.db").exists()
    cached = CachedTeacher(path=tmp_path / "logits.db", identity="one", **arguments)
    CachedTeacher(path=tmp_path / "logits.db", identity="one", **arguments)
    assert cached.identity == "one"


def test_a_teacher_that_changes_under_its_cache_is_refused(teacher, x, tmp_path):
    cached = CachedTeacher(teacher, tmp_path / "logits.db")
    cached(x, KEYS)
    with torch.no_grad():
        teacher.layer.weight.mul_(1.0)  # written to, and the same
    cached(x, KEYS)
    with torch.no_grad():
        teacher.layer.weight[0] += 1
    with pytest.raises(ValueError, match=r"another teacher.*What differs: teacher\.layer\.weight"):
        cached(x, KEYS)


def test_what_a_teacher_changes_itself_is_no_setting(x, tmp_path):
    class Remembers(Counting):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.last = x
            return super().forward(x)

    teacher = Remembers()
    logits = CachedTeacher(teacher, tmp_path / "logits.db")(x, KEYS)
    assert teacher.asked == 6
    assert torch.equal(CachedTeacher(teacher, tmp_path / "logits.db")(x, KEYS), logits)
    assert torch.equal(CachedTeacher(Remembers(), tmp_path / "logits.db")(x, KEYS), logits)


def test_neither_autocast_nor_a_cast_of_the_student_reaches_what_is_kept(teacher, x, tmp_path):
    expected = teacher(x)
    cached = CachedTeacher(teacher, tmp_path / "logits.db", transform=nn.Identity())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(cached(x[:2], KEYS[:2]), expected[:2])
    cached.half()
    assert torch.equal(cached(x[2:4], KEYS[2:4]), expected[2:4])
    assert cached(x[4:].bfloat16(), KEYS[4:]).dtype == torch.float32
    assert teacher.layer.weight.dtype == torch.float32


def test_logits_of_another_number_of_classes_are_refused(x, tmp_path):
    path = tmp_path / "logits.db"
    CachedTeacher(lambda x: x.mean(2)[:, 0, :5], path, identity="means")(x[:3], KEYS[:3])
    other = CachedTeacher(lambda x: x.mean(2)[:, 0, :7], path, identity="means")
    with pytest.raises(ValueError, match=r"logits\.db: holds logits of 5 classes, the teacher gives 7; remove it"):
        other(x[3:], KEYS[3:])


def test_a_file_of_another_version_is_refused(teacher, tmp_path):
    with closing(sqlite3.connect(tmp_path / "old.db")) as database, database:
        database.execute("CREATE TABLE teacher (identity TEXT PRIMARY KEY)")
    with pytest.raises(ValueError, match=r"old\.db: another version of specenhance made it; remove it"):
        CachedTeacher(teacher, tmp_path / "old.db")


def test_a_file_that_cannot_be_opened_is_named(teacher, tmp_path):
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(OSError, match=r"folder\.db: unable to open database file"):
        CachedTeacher(teacher, tmp_path / "folder.db")


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
from specenhance.distillation.cache import CachedTeacher
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
