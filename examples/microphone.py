"""Listen to the microphone, and print what an exported model hears.

    specenhance export RUN
    python examples/microphone.py RUN/model.onnx
    python examples/microphone.py RUN/model.onnx --seconds 60 --device 2
    python examples/microphone.py --list                                    # the devices and their numbers

It needs ``pip install sounddevice``, and on Linux PortAudio (``apt-get install libportaudio2``). It loads no PyTorch. Ctrl-C
ends it.
"""

from __future__ import annotations

import argparse
import queue
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from specenhance.audio import resampled
from specenhance.audio.listen import MARGIN, THRESHOLD, events, listen
from specenhance.deploy.runtime import OnnxModel

PATIENCE = 5.0  # s without a block from the device


def portaudio() -> Any:
    """Import sounddevice, or say what is missing."""
    try:
        import sounddevice
    except ImportError as error:
        raise SystemExit(f"{error}; pip install sounddevice") from error
    except OSError as error:  # the package is there, the library that it calls is not
        raise SystemExit(f"{error}; on Debian and Ubuntu: apt-get install libportaudio2") from error
    return sounddevice


def rate_of(sound: Any, device: int | str | None, wanted: int) -> int:
    """Choose the sample rate: the model's if the device has it, else the device's own."""
    try:
        sound.check_input_settings(device=device, channels=1, dtype="float32", samplerate=wanted)
        return wanted
    except sound.PortAudioError:
        return round(sound.query_devices(device, "input")["default_samplerate"])


def blocks(sound: Any, device: int | str | None, rate: int, seconds: float | None) -> Iterator[np.ndarray]:
    """Give what the microphone hears, float32 (samples,), as it comes. End after so many seconds."""
    heard: queue.Queue[np.ndarray] = queue.Queue()

    def callback(samples: np.ndarray, frames: int, time: Any, status: Any) -> None:
        if status:  # samples were lost
            print(status, file=sys.stderr)
        heard.put(samples[:, 0].copy())  # the device uses its array again

    left = None if seconds is None else round(seconds * rate)
    with sound.InputStream(device=device, channels=1, dtype="float32", samplerate=rate, callback=callback):
        while left is None or left > 0:
            try:
                block = heard.get(timeout=PATIENCE)
            except queue.Empty:
                raise SystemExit(f"no sound for {PATIENCE:g} s; is the device still there?") from None
            yield block if left is None else block[:left]
            left = None if left is None else left - len(block)


def main() -> None:
    """Open the model and the microphone, and print each event when it ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="a file that 'specenhance export' wrote")
    parser.add_argument("--device", help="number or name of the device; the default is the system's")
    parser.add_argument("--threshold", type=float, help="minimum probability of what is heard")
    parser.add_argument("--margin", type=float, default=MARGIN, help="by which it must be above the second class")
    parser.add_argument("--seconds", type=float, help="end after so many seconds")
    parser.add_argument("--list", action="store_true", help="list the devices and end")
    options = parser.parse_args()
    if options.list:
        print(str(portaudio().query_devices()) or "PortAudio finds no device")
        return
    if options.model is None:
        parser.error("expected a model, such as RUN/model.onnx")
    try:
        model = OnnxModel(options.model, threads=1)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    device = int(options.device) if options.device and options.device.isdecimal() else options.device
    sound = portaudio()
    threshold = options.threshold
    if threshold is None:
        threshold = THRESHOLD if model.thresholds is None else model.thresholds
    elif model.thresholds is not None:
        threshold = [threshold] * len(model.classes)
    try:
        rate = rate_of(sound, device, model.sample_rate)
        stream = resampled(blocks(sound, device, rate, options.seconds), rate, model.sample_rate)
        windows = listen(model, stream, window=model.clip_samples, hop=max(1, model.clip_samples // 8))
        print(f"listening at {rate} Hz; Ctrl-C ends", file=sys.stderr)
        for event in events(windows, threshold=threshold, margin=options.margin):
            label = model.classes[event.label]
            print(f"{event.start:.2f} to {event.end:.2f} s: {label} {event.probability:.1%}", flush=True)
    except KeyboardInterrupt:
        pass
    except ValueError as error:
        parser.error(str(error))
    except sound.PortAudioError as error:
        parser.error(f"{error}; --list shows the devices that there are")


if __name__ == "__main__":
    main()
