"""How the benchmarks measure: candidates take turns in one process, times have quartiles, ratios are taken round by round."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

WARM_UP = 2
Times = dict[str, list[float]]


class Spread(NamedTuple):
    """The quartiles of some figures."""

    low: float
    median: float
    high: float

    def scaled(self, factor: float) -> Spread:
        """Give the quartiles in another unit."""
        return Spread(*(factor * value for value in self))


def spread(values: list[float]) -> Spread:
    """Give the quartiles of some figures. The quartiles of a single figure are the figure."""
    return Spread(*(statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * values))


def take_turns(candidates: Mapping[str, Callable[[], Any]], rounds: int) -> Times:
    """Time each candidate once a round, in seconds. The first rounds warm up and are left out."""
    times: Times = {name: [] for name in candidates}
    gc.collect()
    gc.disable()  # a collection would fall on whoever comes next
    try:
        for turn in range(rounds + WARM_UP):
            # In another order each round: what ran before leaves its mark on caches and on the allocator.
            for name, function in random.Random(turn).sample(list(candidates.items()), len(candidates)):
                start = time.perf_counter()
                function()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()  # a GPU's work is only queued when the call returns
                if turn >= WARM_UP:
                    times[name].append(time.perf_counter() - start)
    finally:
        gc.enable()
    return times


def ratio(times: Times, slow: str, fast: str) -> Spread:
    """Say how many times faster one candidate is than another, in each round: a busy machine slows both alike."""
    return spread([a / b for a, b in zip(times[slow], times[fast], strict=True)])


def peak_memory(function: Callable[[], Any]) -> int:
    """Give the maximum number of bytes that a call has in use beyond those in use before, as PyTorch's CPU allocator counts.

    The second call is measured. Memory that a library takes without the allocator, such as oneDNN's scratch, is not counted.
    """
    function()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        function()
    results = profile.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
