"""LEAF: Gabor filters and Gaussian windows that learn, in the efficient form."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from specenhance.features.base import LOG_FLOOR, FilterFeatures, mel_edges
from specenhance.features.registry import register_features

__all__ = ["Leaf"]

REACH = 1.5  # by this factor a filter's length may change in either direction
CUT = 2.5  # a filter ends at this many of its greatest standard deviations, if the window does not end before
STEPS = 5  # the fewest steps from one frame to the next


@register_features("leaf")
class Leaf(FilterFeatures):
    """The logarithm of LEAF's energies, from filters and windows that learn.

    A Gabor filter of each bin, ``g(n) = exp(i c n - n^2 / (2 s^2)) / (sqrt(2 pi) s)``, makes a complex signal of the waveform
    x. Its power is smoothed by a Gaussian window: ``E_t = sum_n exp(-(n / (w K / 2))^2 / 2) |x * g|^2 (t hop + n)``. K is the
    length of filter and window in samples, so a frame sees 2 K - 1 samples. LEAF's last part is PCEN, the front end ``pcen``.

    The efficient form computes ``|x * g|^2`` only at every few samples, because it varies as slowly as the filter is long, and
    cuts the filter where it is almost 0. Filters of one step are computed together. So that steps and lengths are constants,
    a filter's length s stays within a factor of 1.5 of its first value.

    Args:
        frames: The frames T of the result, which is padded with 0 or cut at its end; None keeps all frames and adds none.
        sample_rate: The sample rate of the waveform, in Hz.
        num_mel_bins: The number of filters F. LEAF has 40.
        frame_length: The length K of the filters and of the windows, in seconds. It is made an odd number of samples.
        frame_shift: The time from one frame to the next, in seconds.
        low_frequency: Where the mel scale of the first filters starts, in Hz. It ends at half the sample rate.
        mean: The mean of the log energies.
        std: The standard deviation of the log energies; the result is ``(x - mean) / (2 * std)``, by default x itself.

    Attributes:
        centre: The learned change (F,) of c, 0 at the start.
        length: The learned change (F,) of s, 0 at the start, where s is that of a mel filter.
        width: The learned change (F,) of w, 0 at the start, where w is 0.4.
        frequencies: The centre frequencies of the filters before training, in Hz.
        hop_seconds: The time from one frame to the next, in seconds.

    Raises:
        ValueError: for frames, num_mel_bins, lengths, frequencies or std out of range.

    >>> features = Leaf(frames=64, num_mel_bins=40)
    >>> features(torch.zeros(2, 16000)).shape
    torch.Size([2, 1, 64, 40])

    Source: Zeghidour et al., "LEAF: A Learnable Frontend for Audio Classification", ICLR 2021, arXiv:2101.08596; Schlueter and
    Gutenbrunner, "EfficientLEAF: A Faster LEarnable Audio Frontend of Questionable Use", EUSIPCO 2022, arXiv:2207.05508.
    """

    first_centre: Tensor
    first_length: Tensor
    spacing: Tensor

    def __init__(
        self,
        frames: int | None = None,
        *,
        sample_rate: int = 16000,
        num_mel_bins: int = 128,
        frame_length: float = 0.025,
        frame_shift: float = 0.010,
        low_frequency: float = 60.0,
        mean: float = 0.0,
        std: float = 0.5,
    ) -> None:
        edges = np.array(mel_edges(num_mel_bins + 2, low_frequency, sample_rate / 2))
        super().__init__(frames, sample_rate, edges[1:-1].tolist(), frame_length, frame_shift, mean, std)
        longest = (2 * self.middle + 1) * math.sqrt(2 * math.log(2)) / math.pi
        lengths = np.minimum(sample_rate / 2 / (edges[2:] - edges[:-2]), longest)
        radians = 2 * math.pi / sample_rate
        self._keep("first_centre", edges[1:-1] * radians)
        self._keep("first_length", lengths)
        self._keep("spacing", (edges[2:] - edges[:-2]) / 2 * radians)
        self.centre = nn.Parameter(torch.zeros(num_mel_bins))
        self.length = nn.Parameter(torch.zeros(num_mel_bins))
        self.width = nn.Parameter(torch.zeros(num_mel_bins))
        self.groups = _groups(lengths, self.hop_length, self.middle)

    def filters(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
        """Compute c in radians a sample, s in samples, and w: three times (F,)."""
        first_centre, first_length, spacing, centre, length, width = (
            x.to(dtype)
            for x in (self.first_centre, self.first_length, self.spacing, self.centre, self.length, self.width)
        )
        return (
            (first_centre + spacing * centre).clamp(min=0.0, max=math.pi),
            first_length * REACH ** length.tanh(),
            0.4 * 1.25 ** width.tanh(),
        )

    def analysis(self, wave: Tensor) -> Callable[[Tensor], Tensor]:
        """Give the function that maps rows of ``wave`` to log energies."""
        return partial(self._energies, self._filters_and_windows(wave))

    def _filters_and_windows(self, wave: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Make each group's filters ``(2 filters, 1, taps)``, real parts first, and windows ``(filters, 1, steps)``."""
        centre, length, width = self.filters(wave.dtype)
        made = []
        for step, half, first, last in self.groups:
            of = slice(first, last)
            n = torch.arange(-half, half + 1, dtype=wave.dtype, device=wave.device)
            turn = centre[of, None] * n
            bell = (-0.5 * (n / length[of, None]).square()).exp() / (math.sqrt(2 * math.pi) * length[of, None])
            gabor = torch.cat([bell * turn.cos(), bell * turn.sin()])
            side = self.middle // step
            n = step * torch.arange(-side, side + 1, dtype=wave.dtype, device=wave.device)
            # Each step stands for the samples around it, the last ones for the rest of the window.
            cells = torch.full_like(n, step)
            cells[0] = cells[-1] = self.middle + 0.5 - (side - 0.5) * step
            window = cells * (-0.5 * (n / (width[of, None] * self.middle)).square()).exp()
            made.append((gabor[:, None], window[:, None]))
        return made

    def _energies(self, filters: list[tuple[Tensor, Tensor]], wave: Tensor) -> Tensor:
        T = self.num_frames(wave.shape[1])
        energies = []
        for (step, half, _, _), (gabor, window) in zip(self.groups, filters, strict=True):
            # The middle of frame 0 is sample 2 * self.middle. Its window takes the signal `side` steps before and after it.
            side = self.middle // step
            start = 2 * self.middle - side * step - half
            steps = (T - 1) * (self.hop_length // step) + 2 * side
            part = wave[:, start : start + steps * step + 2 * half + 1]
            real, imaginary = F.conv1d(part[:, None], gabor, stride=step).chunk(2, dim=1)
            power = real.square() + imaginary.square()
            energies.append((power.unfold(2, 2 * side + 1, self.hop_length // step) * window).sum(-1))
        return rearrange(torch.cat(energies, dim=1), "b f t -> b t f").clamp(min=LOG_FLOOR).log()


def _groups(lengths: np.ndarray, hop: int, half: int) -> list[tuple[int, int, int, int]]:
    """Divide filters into groups of one step.

    Returns:
        Of each group: the step, half the filters' length without their middle, both in samples, and the first filter of this
        and of the next group.
    """
    divisors = [step for step in range(1, hop + 1) if hop % step == 0]
    steps = [max(d for d in divisors if d <= max(1, min(s / REACH, hop / STEPS))) for s in lengths]
    bounds = [0, *(i for i in range(1, len(steps)) if steps[i] != steps[i - 1]), len(steps)]
    return [(steps[a], min(half, math.ceil(CUT * REACH * lengths[a:b].max())), a, b) for a, b in pairwise(bounds)]
