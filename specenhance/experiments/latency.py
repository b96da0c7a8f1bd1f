"""How long each arm takes for a clip, measured side by side on this machine's processor."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from specenhance.models.adapter import FrontendModel
from specenhance.training.store import load_stored

__all__ = ["Latency", "latencies"]

ROUNDS = 30


class Latency(NamedTuple):
    """The time from one clip's waveform to its logits, in milliseconds, and its ratio to the baseline's in the same round.

    Attributes:
        milliseconds: The median.
        ratio: The median of the ratio.
        low: The 10th percentile of the ratio.
        high: The 90th percentile of the ratio.
    """

    milliseconds: float
    ratio: float
    low: float
    high: float


def latencies(runs: Mapping[str, Path], rounds: int = ROUNDS) -> dict[str, Latency]:
    """Measure the latency of stored models: PyTorch on the CPU, one clip, one thread. Each round measures every model once.

    Args:
        runs: The run folder of each arm, the baseline first.
        rounds: The number of rounds, after one that warms up.

    Raises:
        FileNotFoundError, ValueError: as :func:`specenhance.training.store.load_stored`.

    >>> latencies({})
    {}
    """
    models = {arm: load_stored(run).model.eval() for arm, run in runs.items()}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        taken = np.array([[_milliseconds(model) for model in models.values()] for _ in range(1 + rounds)])[1:]
    finally:
        torch.set_num_threads(threads)
    found = {}
    for arm, times in zip(models, taken.T, strict=True):
        ratio = times / taken[:, 0]
        found[arm] = Latency(*map(float, (np.median(times), np.median(ratio), *np.percentile(ratio, [10, 90]))))
    return found


@torch.inference_mode()
def _milliseconds(model: FrontendModel) -> float:
    waveform = 0.1 * torch.randn(1, model.features.samples)
    start = time.perf_counter()
    model(waveform)
    return 1000 * (time.perf_counter() - start)
