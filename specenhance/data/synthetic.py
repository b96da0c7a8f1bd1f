"""The built-in data set: labelled sounds made in memory from a seed. A first run needs no download."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from specenhance.data.base import AudioDataset
from specenhance.data.layout import SPLITS, check_split
from specenhance.data.registry import register_data

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SyntheticSounds"]

Signal = NDArray[np.float64]  # (samples,)

LEAST_RATE = 8000  # Hz, for the pitches and bands below
LEAST_SECONDS = 0.5  # s; a slow rhythm needs this much time


@register_data("synthetic", frames=96, epochs=10, time_mask=8, freq_mask=8, shift=4)
class SyntheticSounds(AudioDataset):
    """Ten classes of sounds that differ in how they change in time and frequency, not in pitch, level or timbre.

    Each clip is one event of its class. Its pitch, timbre, duration, position and level are random. Coloured background
    noise is added at a random signal-to-noise ratio. Half of the clips also have a short, quieter sound.

    Clip i has the class ``i % 10``. It depends only on the seed, the split, i, the sample rate and the length. So it is the
    same in any order, in any process and for any number of clips. ``paths`` is empty.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``. No two splits have a clip in common.
        clips_per_class: Number of clips of each class.
        seed: Seed of the random numbers, >= 0.
        sample_rate: Sample rate of the waveforms, in Hz, >= 8000.
        seconds: Length of each clip, in seconds, >= 0.5.

    Raises:
        ValueError: for an argument out of its range.

    >>> data = SyntheticSounds("test", clips_per_class=2)
    >>> waveform, label = data[13]
    >>> len(data), waveform.shape, data.classes[label]
    (20, torch.Size([16000]), 'clicks')
    """

    def __init__(
        self, split: str, clips_per_class: int = 100, seed: int = 0, sample_rate: int = 16000, seconds: float = 1.0
    ) -> None:
        check_split(split)
        if clips_per_class < 1:
            raise ValueError(f"clips_per_class={clips_per_class}: expected a number >= 1")
        if seed < 0:
            raise ValueError(f"seed={seed}: expected a whole number >= 0")
        if sample_rate < LEAST_RATE:
            raise ValueError(f"sample_rate={sample_rate}: expected a rate in Hz >= {LEAST_RATE}")
        if not seconds >= LEAST_SECONDS:
            raise ValueError(f"seconds={seconds}: expected a length >= {LEAST_SECONDS}")
        classes = list(EVENTS)
        super().__init__(classes, list(range(len(classes))) * clips_per_class, sample_rate=sample_rate)
        self.seed, self.split, self.samples = seed, split, round(seconds * sample_rate)

    def waveform(self, i: int) -> Tensor:
        """Make clip ``0 <= i < len(self)``, float32 ``(samples,)``, within [-1, 1]."""
        import torch

        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), i])
        event = EVENTS[self.classes[self.labels[i]]]
        return torch.from_numpy(_clip(rng, event, self.samples, self.sample_rate).astype(np.float32))


def _clip(rng: np.random.Generator, event: Event, samples: int, rate: int) -> Signal:
    clip = _placed(rng, event, samples, rate, seconds=rng.uniform(0.5, 0.9) * samples / rate)
    if rng.random() < 0.5:
        blip = (_harmonic_tone, _band_noise, _up_chirp, _down_chirp)[rng.integers(4)]
        clip += _decibels(rng.uniform(-18, -9)) * _placed(rng, blip, samples, rate, seconds=rng.uniform(0.05, 0.12))
    clip += _decibels(-rng.uniform(5, 30)) * _coloured_noise(rng, samples, rate)
    return clip * (_decibels(rng.uniform(-30, -1)) / np.abs(clip).max())


def _placed(rng: np.random.Generator, event: Event, samples: int, rate: int, seconds: float) -> Signal:
    """Make one event of unit power, faded in and out, at a random place in silence."""
    length = min(samples, round(seconds * rate))
    sound = event(rng, length, rate)
    sound /= np.sqrt(np.mean(sound**2)) + 1e-12
    fade = min(length // 4, round(0.01 * rate))
    ramp = np.linspace(0, 1, fade)
    sound[:fade] *= ramp
    sound[length - fade :] *= ramp[::-1]
    start = rng.integers(samples - length + 1)
    return np.pad(sound, (start, samples - length - start))


# ---- Events. Each makes `length` samples at `rate` Hz, of any level.

Event = Callable[[np.random.Generator, int, int], Signal]


def _harmonic_tone(rng: np.random.Generator, length: int, rate: int) -> Signal:
    return _voice(rng, np.full(length, _pitch(rng)), rate)


def _up_chirp(rng: np.random.Generator, length: int, rate: int) -> Signal:
    octaves = rng.uniform(0.7, 2) * np.linspace(-0.5, 0.5, length)
    return _voice(rng, _pitch(rng) * 2**octaves, rate)


def _down_chirp(rng: np.random.Generator, length: int, rate: int) -> Signal:
    return _up_chirp(rng, length, rate)[::-1].copy()


def _vibrato(rng: np.random.Generator, length: int, rate: int) -> Signal:
    octaves = rng.uniform(0.12, 0.3) * _wave(rng, rng.uniform(4, 7), length, rate)
    return _voice(rng, _pitch(rng) * 2**octaves, rate)


def _trill(rng: np.random.Generator, length: int, rate: int) -> Signal:
    octaves = rng.uniform(0.2, 0.5) * np.sign(_wave(rng, rng.uniform(3, 6), length, rate))
    return _voice(rng, _pitch(rng) * 2**octaves, rate)


def _beats(rng: np.random.Generator, length: int, rate: int) -> Signal:
    pitch, apart = np.full(length, _pitch(rng)), rng.uniform(4, 12)
    return _voice(rng, pitch, rate, harmonics=1) + rng.uniform(0.6, 1) * _voice(rng, pitch + apart, rate, harmonics=1)


def _band_noise(rng: np.random.Generator, length: int, rate: int) -> Signal:
    low = rng.uniform(100, 0.2 * rate)
    high = low * rng.uniform(1.3, 4)
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequency = np.fft.rfftfreq(length, 1 / rate)
    spectrum[(frequency < low) | (frequency > high)] = 0
    return np.fft.irfft(spectrum, length)


def _modulated_noise(rng: np.random.Generator, length: int, rate: int) -> Signal:
    depth = rng.uniform(0.6, 1)
    return _band_noise(rng, length, rate) * (1 + depth * _wave(rng, rng.uniform(4, 10), length, rate))


def _bursts(rng: np.random.Generator, length: int, rate: int) -> Signal:
    open_share = rng.uniform(0.2, 0.5)
    cycle = (np.arange(length) / rate * rng.uniform(4, 10) + rng.random()) % 1
    return _band_noise(rng, length, rate) * (cycle < open_share)


def _clicks(rng: np.random.Generator, length: int, rate: int) -> Signal:
    decay = np.exp(-np.arange(round(0.03 * rate)) / (rng.uniform(0.001, 0.004) * rate))
    count = max(2, rng.poisson(rng.uniform(6, 14) * length / rate))
    impulses = np.zeros(length)
    impulses[rng.integers(length, size=count)] = rng.uniform(0.3, 1, count)
    return np.convolve(impulses, decay)[:length] * _band_noise(rng, length, rate)


EVENTS: dict[str, Event] = {
    "band_noise": _band_noise,
    "beats": _beats,
    "bursts": _bursts,
    "clicks": _clicks,
    "down_chirp": _down_chirp,
    "harmonic_tone": _harmonic_tone,
    "modulated_noise": _modulated_noise,
    "trill": _trill,
    "up_chirp": _up_chirp,
    "vibrato": _vibrato,
}
"""The classes in the order of their numbers, and the function that makes each one's event."""


# ---- Parts of events.


def _voice(rng: np.random.Generator, pitch: Signal, rate: int, harmonics: int = 6) -> Signal:
    """Sum at most ``harmonics`` harmonics of a pitch, given in Hz for each sample. Those near half the rate are left out."""
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    steepness = rng.uniform(0.5, 2)
    sound = np.zeros(len(pitch))
    for k in range(1, rng.integers(1, harmonics + 1) + 1):
        if k == 1 or k * pitch.max() < 0.45 * rate:
            sound += k**-steepness * np.sin(k * phase + rng.uniform(0, 2 * np.pi))
    return sound


def _pitch(rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(300), np.log(1500))))  # Hz, uniform on a logarithmic scale


def _wave(rng: np.random.Generator, frequency: float, length: int, rate: int) -> Signal:
    return np.sin(2 * np.pi * (frequency * np.arange(length) / rate + rng.random()))


def _coloured_noise(rng: np.random.Generator, length: int, rate: int) -> Signal:
    """Make noise of unit power. Its power spectrum falls as 1/f^a, with a from 0 (white) to 1.5."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequency = np.maximum(np.fft.rfftfreq(length, 1 / rate), 20)
    noise = np.fft.irfft(spectrum * frequency ** (-rng.uniform(0, 1.5) / 2), length)
    return noise / np.sqrt(np.mean(noise**2))


def _decibels(level: float) -> float:
    return float(10 ** (level / 20))
