"""A data set heard under a condition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from specenhance.conditions.registry import Condition, generator
from specenhance.data.base import AudioDataset, own_names

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Altered"]


class Altered(AudioDataset):
    """A data set whose sounds are changed by a condition. The random numbers of a clip depend only on its name.

    Args:
        data: The data set.
        condition: The condition, of :func:`specenhance.conditions.create_condition`.

    Raises:
        ValueError: for a condition that changes the number of samples, when such a sound is asked for.

    >>> from specenhance.conditions import create_condition
    >>> from specenhance.data import SyntheticSounds
    >>> data = SyntheticSounds("test", clips_per_class=1)
    >>> softer = Altered(data, create_condition("gain:-20"))
    >>> round(float(softer.waveform(3).norm() / data.waveform(3).norm()), 3)
    0.1
    """

    def __init__(self, data: AudioDataset, condition: Condition) -> None:
        super().__init__(data.classes, data.labels, data.paths, data.sample_rate)
        self.allow_truncated, self.groups, self.spans = data.allow_truncated, data.groups, data.spans
        self.names = own_names(data, range(len(data)))
        self._data, self._condition = data, condition

    def waveform(self, i: int) -> Tensor:
        """Compute the sound ``0 <= i < len(self)``, float32 ``(samples,)``."""
        import torch

        given = self._data.waveform(i).numpy()
        # Of a file its folder and its name, so that the place of the data set does not matter.
        name = "/".join(self.paths[i].parts[-2:]) + self.fragment(i) if self.paths else f"{i}"
        changed = self._condition(given, self.sample_rate, generator(name))
        if len(changed) != len(given):
            raise ValueError(f"a condition gave {len(changed)} samples of {len(given)}: expected as many as it got")
        return torch.tensor(np.asarray(changed, np.float32))
