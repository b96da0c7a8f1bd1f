"""Convert an exported file to 8-bit integers (INT8).

Some clips choose the best conversion, other clips measure its loss of accuracy. A file that loses too much is not written.
"""

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
from specenhance.deploy.int8_candidates import interval, judge, latencies, quantise

__all__ = ["Clips", "accuracy", "to_int8"]

_log = logging.getLogger(__name__)


class Clips(NamedTuple):
    """The clips that a conversion to INT8 needs.

    Attributes:
        calibration: a data set, and the numbers of its clips that measure the ranges of the model's inner values.
        choosing: a data set, and the numbers of its clips that choose the best conversion. They must not be calibration clips.
        named: description of the choosing clips, for the log.
        test: the clips that measure the loss of accuracy. They must be neither calibration nor choosing clips.
        max_loss: maximum loss of accuracy on the test clips, in percentage points. None allows any loss.

    >>> from specenhance.data import SyntheticSounds
    >>> train, test = SyntheticSounds("train"), SyntheticSounds("test")
    >>> Clips((train, [0, 1, 2]), (train, [3, 4]), "training clips that calibrate nothing", test).max_loss
    1.0
    """

    calibration: tuple[AudioDataset, list[int]]
    choosing: tuple[AudioDataset, list[int]]
    named: str
    test: AudioDataset
    max_loss: float | None = 1.0


def accuracy(path: Path, data: AudioDataset) -> float:
    """Return the accuracy of an ONNX file on the clips of a data set, in [0, 1]. Each clip has its own length.

    Args:
        path: an ONNX file that takes waveforms.
        data: the clips. The classes are the file's, in the file's order.

    Raises:
        FileNotFoundError, ValueError: as :class:`specenhance.deploy.runtime.OnnxModel`.
    """
    from specenhance.deploy.runtime import OnnxModel

    model = OnnxModel(path)
    return sum(
        int(model.probabilities(waveform).argmax()) == label for waveform, label in _read(data, range(len(data)))
    ) / len(data)


def _read(data: AudioDataset, numbers: Iterable[int]) -> Iterator[tuple[np.ndarray, int]]:
    for i in numbers:
        yield data.waveform(int(i)).numpy(), data.labels[int(i)]


def to_int8(path: Path, out: Path, clips: Clips, about: Mapping[str, Any]) -> None:
    """Replace an ONNX file by its INT8 form.

    Args:
        path: the file in float32. It is overwritten.
        out: the final path of the file, for messages.
        clips: the clips that calibrate, choose and test.
        about: the metadata of the new file.

    Raises:
        ValueError: if the loss of accuracy is more than ``clips.max_loss``. The file is then unchanged.
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
