"""What does a teacher cost in a training step, asked live, and read from a cache?

A step of mobilenetv3_small_050 behind TFE(4), batch 64, spectrograms of 128 x 128: from the labels alone; with a live teacher
(tf_efficientnet_lite0); and with the same teacher behind ``CachedTeacher``, which has met these clips before, as it has from
the second epoch on. The process keeps the memory that it frees, as in a run.

    python benchmarks/teaching.py --threads 2
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from command import Benchmark, main
from side_by_side import ratio, spread, take_turns
from torch import nn

from specenhance import CachedTeacher, DistillationLoss, Distiller, FrozenTeacher, with_frontend
from specenhance._memory import freed_memory_kept

B, CLASSES = 64, 35
ALONE, LIVE, CACHED = "labels alone", "live teacher", "cached teacher"


def measure(rounds: int = 10) -> dict[str, Any]:
    """Give the rows of the table, and the ratios by which the suite is checked."""
    torch.manual_seed(0)
    spec, labels = torch.randn(B, 1, 128, 128), torch.randint(CLASSES, (B,))
    keys = [f"clip {i}" for i in range(B)]
    backbone = timm.create_model("mobilenetv3_small_050", in_chans=1, num_classes=CLASSES)
    student = with_frontend(backbone, "tfe4").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    teacher = timm.create_model("tf_efficientnet_lite0", in_chans=1, num_classes=CLASSES).to(
        memory_format=torch.channels_last
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    with tempfile.TemporaryDirectory() as folder:
        cached = CachedTeacher(teacher, Path(folder) / "logits.db")
        expected = FrozenTeacher(teacher)(spec)
        for _ in range(2):  # computed, then read
            torch.testing.assert_close(cached(spec, keys), expected)

        def alone() -> None:
            criterion(student(spec), labels).backward()

        def taught(by: Any, **more: Any) -> Callable[[], None]:
            distiller = Distiller(student, by, DistillationLoss(criterion))
            return lambda: distiller(spec, labels, **more).total.backward()

        with freed_memory_kept():
            times = take_turns({ALONE: alone, LIVE: taught(teacher), CACHED: taught(cached, keys=keys)}, rounds)
    rows = [
        {"step": name, "ms": spread(values).scaled(1e3), "of labels alone": ratio(times, name, ALONE)}
        for name, values in times.items()
    ]
    return {"rows": rows, "ratios": {f"teaching: {LIVE} / {CACHED}": ratio(times, LIVE, CACHED)}}


BENCHMARK = Benchmark("A teacher's cost", __doc__, measure, {"ms": ".0f", "of labels alone": ".2f"})

if __name__ == "__main__":
    main(BENCHMARK)
