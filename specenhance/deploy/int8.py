"""An exported file in 8-bit integers: chosen on clips, judged on others, refused if it loses too much."""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from specenhance.data import AudioDataset
from specenhance.deploy.formats.onnx import sign
from specenhance.deploy.quantise import interval, judge, latencies, quantise

__all__ = ["Clips", "accuracy", "to_int8"]

_log = logging.getLogger(__name__)


class Clips(NamedTuple):
    """The clips that INT8 needs.

    Attributes:
        calibration: a data set and the numbers of its clips that measure the ranges of what flows through the model.
        choosing: likewise; they choose among the candidates; none of them calibrates.
        named: what the choosing clips are, for the news.
        test: they judge the chosen file, and do neither.
        max_loss: maximum loss of accuracy on the test clips, in percentage points; None takes any.
    """

    calibration: tuple[AudioDataset, list[int]]
    choosing: tuple[AudioDataset, list[int]]
    named: str
    test: AudioDataset
    max_loss: float | None = 1.0


def accuracy(path: Path, data: AudioDataset) -> float:
    """Give the part of the clips, in [0, 1], that an ONNX file takes for what they are, each clip as long as it is."""
    from specenhance.deploy.runtime import OnnxModel

    model = OnnxModel(path)
    return sum(
        int(model.probabilities(waveform).argmax()) == label for waveform, label in _read(data, range(len(data)))
    ) / len(data)


def _read(data: AudioDataset, numbers: Iterable[int]) -> Iterator[tuple[np.ndarray, int]]:
    for i in numbers:
        waveform, label = data[int(i)]
        yield waveform.numpy(), label


def to_int8(path: Path, out: Path, clips: Clips, about: Mapping[str, Any]) -> None:
    """Put the INT8 form of an ONNX file in its place.

    Args:
        path: the file in float32, which is replaced.
        out: what it will be called, for messages.
        clips: the clips.
        about: the metadata of the new file.

    Raises:
        ValueError: where the loss of accuracy is more than ``clips.max_loss``.
    """
    allowed = clips.max_loss
    train, numbers = clips.calibration
    _log.info(f"INT8, ranges of {len(numbers)} training clips; accuracy on {len(clips.choosing[1])} {clips.named}:")
    with tempfile.TemporaryDirectory() as folder:
        best = quantise(
            path,
            Path(folder),
            lambda: (waveform for waveform, _ in _read(train, numbers)),
            _read(*clips.choosing),
        )
        sign(best, about)
        tested = judge({"float32": path, "INT8": best}, _read(clips.test, range(len(clips.test))))
        before, after = (result.right for result in tested.values())
        loss, count = 100 * float(before.mean() - after.mean()), len(before)
        low, high = (100 * limit for limit in interval(before, after))
        _log.info(
            f"accuracy on {count} test clips: float32 {before.mean():.2%}, INT8 {after.mean():.2%}, loss {loss:.2f} points "
            f"(95% interval {low:.1f} to {high:.1f}); one clip is {100 / count:.2g} points"
        )
        if allowed is not None and loss > allowed:
            few = " these are too few clips to show so small a loss;" if 100 / count > allowed else ""
            raise ValueError(
                f"{out}: not written, INT8 loses {loss:.2f} points on {count} test clips, more than {allowed:g};{few} "
                f"--max-loss {math.ceil(loss)} or --force takes it, and a larger --calibration may lose less"
            )
        float32, int8 = latencies([path, best], about["samples"])
        _log.info(
            f"one clip, one thread: float32 {1e3 * float32:.2f} ms, INT8 {1e3 * int8:.2f} ms (medians of interleaved runs); "
            f"float32 {path.stat().st_size / 1e6:.1f} MB, INT8 {best.stat().st_size / 1e6:.1f} MB"
        )
        shutil.copyfile(best, path)
