"""Whether a mask changes: measured against plain sums, and said where a user would want to know."""

import math

import pytest
import timm
import torch

from specenhance import KaldiFbank, with_frontend
from specenhance.analysis.masks import CONSTANT, constant_mask, flat_mask, mask_change, real_frames
from specenhance.data import AudioDataset, collate


def deviation(values: list[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def literal(e_t: torch.Tensor, e_f: torch.Tensor, real: torch.Tensor) -> tuple[float, float, float]:
    """The measure of one channel by plain sums: root mean squares over all that counts, in parts of the factor's mean."""
    found = []
    for factor, kept in ((e_t, real.bool()), (e_f, torch.ones_like(e_f).bool())):
        mean = factor[kept].mean().item()
        over_clips, along = [], []
        for place in range(factor.shape[1]):
            values = factor[kept[:, place], place].tolist()
            over_clips += [deviation(values) ** 2] * len(values) if values else []
        for clip in range(len(factor)):
            values = factor[clip, kept[clip]].tolist()
            along += [deviation(values) ** 2] * len(values) if values else []
        found.append([math.sqrt(math.fsum(v) / len(v)) / mean for v in (over_clips, along)])
    return max(found[0][0], found[1][0]), found[0][1], found[1][1]


def test_the_measure_is_the_formula():
    generator = torch.Generator().manual_seed(0)
    e_t, e_f = (torch.rand(5, 2, size, generator=generator, dtype=torch.float64) for size in (7, 4))
    real = torch.ones(5, 7)
    real[0, 3:] = real[1, 5:] = real[2] = real[:, 6] = 0  # short clips, one without a frame, a frame that none has
    expected = [literal(e_t[:, c], e_f[:, c], real) for c in range(2)]
    found = mask_change(e_t, e_f, real)
    assert found == pytest.approx([max(values) for values in zip(*expected, strict=True)], rel=1e-12)
    assert mask_change(e_t[:, :1], e_f[:, :1]) == pytest.approx(
        literal(e_t[:, 0], e_f[:, 0], torch.ones(5, 7)), rel=1e-12
    )


def test_constant_means_over_clips_and_flat_means_over_the_picture():
    ramp, one = torch.linspace(0.1, 0.9, 10), torch.full((10,), 0.5)

    def change(e_t: list[torch.Tensor]) -> tuple[bool, bool]:
        found = mask_change(torch.stack(e_t)[:, None], torch.stack([one] * len(e_t))[:, None])
        return found.constant, found.flat

    assert change([ramp, ramp]) == (True, False)
    assert change([one, one]) == (True, True)
    assert change([one, 1.1 * one]) == (False, True)
    assert change([ramp, ramp.flip(0)]) == (False, False)
    assert change([one]) == (False, True)  # one clip cannot say
    # The threshold: of two clips, 1 - x and 1 + x, the deviation is x of the mean.
    assert [change([one * (1 - x * CONSTANT), one * (1 + x * CONSTANT)])[0] for x in (0.99, 1.01)] == [True, False]
    # In parts of the mean: a small mask that doubles is not constant.
    assert not change([1e-4 * one, 2e-4 * one])[0]


@pytest.fixture
def model():
    torch.manual_seed(0)
    backbone = timm.create_model("test_resnet", in_chans=1, num_classes=3)
    return with_frontend(backbone, "tfe1", features=KaldiFbank(frames=24, num_mel_bins=32))


class Noises(AudioDataset):
    """Noises of several lengths and levels."""

    def __init__(self, count: int) -> None:
        super().__init__(["a"], [0] * count)
        self.asked: list[int] = []

    def waveform(self, i: int) -> torch.Tensor:
        self.asked.append(i)
        generator = torch.Generator().manual_seed(i)
        return 0.1 * (1 + i % 3) * torch.randn(2000 + 400 * (i % 4), generator=generator)


def test_a_constant_mask_is_said_with_its_size_the_threshold_and_what_to_try(model):
    assert constant_mask(model, "tfe1", Noises(8)) is None
    with torch.no_grad():
        for path in (model.frontend.blocks[0].time, model.frontend.blocks[0].freq):
            path.conv2.weight.zero_()  # what a dead hidden channel comes to
    line = constant_mask(model, "tfe1", Noises(8))
    assert line.startswith(
        "warning: the mask of tfe1 is constant: from clip to clip its factors change by 0.00% of their mean"
    )
    assert "below 1% counts as constant" in line
    assert "identity" in line
    assert "\n" not in line
    assert "flat on this sound" in flat_mask(model, "tfe1", Noises(1).waveform(0))


def test_a_mask_that_changes_is_not_called_flat(model):
    with torch.no_grad():
        model.frontend.blocks[0].time.conv2.weight.mul_(10)
    assert flat_mask(model, "tfe1", Noises(1).waveform(0)) is None


def test_so_many_clips_are_looked_at_evenly_spread(model):
    data = Noises(50)
    constant_mask(model, "tfe1", data, clips=10)
    assert data.asked == list(range(0, 50, 5))
    assert constant_mask(model, "tfe1", Noises(1)) is None  # one clip cannot say
    assert constant_mask(model, "tfe1", Noises(0)) is None


def test_a_front_end_without_a_mask_has_nothing_to_say(model):
    bare = with_frontend(model.backbone, "identity", features=model.features)
    assert constant_mask(bare, "identity", Noises(4)) is None
    assert flat_mask(bare, "identity", Noises(1).waveform(0)) is None


def test_padding_is_no_sound(model):
    batch = collate([Noises(4)[i] for i in range(4)])
    assert real_frames(model, batch).sum(1).tolist() == [1 + (n - 400) // 160 for n in (2000, 2400, 2800, 3200)]
