"""Augmentations of waveforms ``(B, N)`` as the world makes them: another level, noise behind the sound, a room around it.

They work on batches, with a random draw per clip from PyTorch's global generator. Samples after a clip's length stay 0.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path

import torch
from torch import Tensor

from specenhance.audio import SUFFIXES
from specenhance.data import read_audio
from specenhance.training.recipe import MADE, Recipe

__all__ = [
    "add_background",
    "add_rooms",
    "alter",
    "change_gain",
    "check_folders",
    "pink_noise",
    "simulated_rooms",
    "sounds_of",
]

MOST_SECONDS = 1800.0  # of recordings that are kept in memory: 115 MB at 16 kHz
ROOM_SECONDS = 1.0  # maximum length of a room's response
SHORTEST, LONGEST = 0.1, 0.8  # s; reverberation times of simulated rooms, from a furnished one to a hall
NEAREST, FARTHEST = 12.0, -6.0  # dB; energy of the direct sound against that of the reverberation


def alter(waveform: Tensor, length: Tensor, recipe: Recipe) -> Tensor:
    """Change waveforms ``(B, N)`` as a recipe says: first the room, then the noise, then the level.

    Args:
        waveform: the waveforms, 0 after each clip's length.
        length: number of samples of each clip, ``(B,)``.
        recipe: its fields ``rooms``, ``background`` and ``gain``, and those that belong to them.

    >>> clips = torch.randn(2, 800)
    >>> alter(clips, torch.tensor([800, 800]), Recipe(gain=6.0, background="pink", rooms="simulated")).shape
    torch.Size([2, 800])
    """
    if recipe.rooms:
        count = max(1, min(len(waveform), 64))
        if recipe.rooms == "simulated":
            responses = simulated_rooms(count, recipe.sample_rate, waveform.device)
        else:
            responses = _bank(recipe.rooms, recipe.sample_rate).to(waveform.device)
        waveform = add_rooms(waveform, length, responses, recipe.rooms_probability)
    if recipe.background:
        noise = _background(waveform, recipe)
        waveform = add_background(
            waveform, length, noise, recipe.background_probability, recipe.snr_low, recipe.snr_high
        )
    return change_gain(waveform, recipe.gain)


def check_folders(recipe: Recipe) -> None:
    """Read the recordings that a recipe names, so that a missing or silent folder is found before the training.

    Raises:
        FileNotFoundError, ValueError: for a value that is no kind of noise or room and no folder of sounds.
    """
    for name, read in (("background", _recordings), ("rooms", _bank)):
        place = getattr(recipe, name)
        if place and place not in MADE[name]:
            try:
                read(place, recipe.sample_rate)
            except (OSError, ValueError) as error:
                kinds = ", ".join(map(repr, MADE[name]))
                raise type(error)(
                    f"{name} = {place!r}: expected {kinds}, or a folder of sound files ({error})"
                ) from error


def change_gain(waveform: Tensor, maximum: float) -> Tensor:
    """Multiply each waveform by a gain that is uniform from ``-maximum`` to ``maximum`` in dB.

    >>> bool(change_gain(torch.ones(100, 1), 6.0).log10().abs().max() <= 0.3)
    True
    """
    if maximum == 0:
        return waveform
    decibels = (2 * torch.rand(len(waveform), 1, device=waveform.device) - 1) * maximum
    return waveform * (10 ** (decibels / 20)).to(waveform.dtype)


def add_background(
    waveform: Tensor, length: Tensor, noise: Tensor, probability: float, lowest: float, highest: float
) -> Tensor:
    """Add noise to some waveforms at a signal-to-noise ratio (SNR) that is drawn uniformly in dB.

    Args:
        waveform: ``(B, N)``, 0 after each clip's length.
        length: number of samples of each clip, ``(B,)``.
        noise: the noise of each clip, ``(B, N)``.
        probability: the probability that a clip gets noise.
        lowest: the minimum SNR, in dB. Signal and noise are the mean squares over a clip's samples.
        highest: the maximum SNR, in dB.

    >>> clips, noise = torch.ones(1, 1000), torch.randn(1, 1000)
    >>> noisy = add_background(clips, torch.tensor([1000]), noise, 1.0, 20.0, 20.0)
    >>> round(10 * math.log10(1 / (noisy - clips).square().mean().item()), 2)
    20.0
    """
    B, N = waveform.shape
    device = waveform.device
    inside = torch.arange(N, device=device) < length.to(device)[:, None]
    count = length.to(device).clamp(min=1)[:, None]
    noise = torch.where(inside, noise, 0)
    chosen = torch.rand(B, 1, device=device) < probability
    snr = lowest + (highest - lowest) * torch.rand(B, 1, device=device)
    power, of_noise = (x.square().sum(1, keepdim=True) / count for x in (waveform, noise))
    scale = (power / of_noise.clamp(min=1e-20) * 10 ** (-snr / 10)).sqrt()
    return torch.where(chosen, waveform + scale.to(waveform.dtype) * noise, waveform)


def add_rooms(waveform: Tensor, length: Tensor, responses: Tensor, probability: float) -> Tensor:
    """Put some waveforms into rooms: convolve each with a response that is drawn from a bank.

    The response starts at its direct sound, so a clip keeps its place. A clip keeps its mean square. What sounds on after its
    length is cut.

    Args:
        waveform: ``(B, N)``, 0 after each clip's length.
        length: number of samples of each clip, ``(B,)``.
        responses: the bank ``(R, L)``.
        probability: the probability that a clip is put into a room.

    >>> clips = torch.randn(2, 400)
    >>> bool(torch.allclose(add_rooms(clips, torch.tensor([400, 400]), torch.eye(1, 50), 1.0), clips, atol=1e-5))
    True
    """
    B, N = waveform.shape
    device = waveform.device
    chosen = torch.rand(B, 1, device=device) < probability
    response = responses[torch.randint(len(responses), (B,), device=device)]
    size = N + response.shape[1] - 1
    size = 1 << (size - 1).bit_length()  # a power of two is fastest
    spectrum = torch.fft.rfft(waveform.float(), size) * torch.fft.rfft(response.float(), size)
    wet = torch.fft.irfft(spectrum, size)[:, :N]
    wet = torch.where(torch.arange(N, device=device) < length.to(device)[:, None], wet, 0)
    power, of_wet = (x.square().sum(1, keepdim=True) for x in (waveform.float(), wet))
    wet = wet * (power / of_wet.clamp(min=1e-20)).sqrt()
    return torch.where(chosen, wet.to(waveform.dtype), waveform)


def simulated_rooms(count: int, sample_rate: int, device: torch.device | str = "cpu") -> Tensor:
    """Draw responses of rooms: a direct sound, and behind it noise that decays exponentially.

    The reverberation time, in which the level falls by 60 dB, is uniform from 0.1 to 0.8 s. The energy of the direct sound is
    uniform from -6 to 12 dB above that of the reverberation.

    Returns:
        ``(count, L)``, L the samples of one second.

    >>> simulated_rooms(3, 16000).shape
    torch.Size([3, 16000])

    Source: the statistical model of Polack, 1988.
    """
    L = int(ROOM_SECONDS * sample_rate)
    time = torch.arange(L, device=device) / sample_rate
    decay = SHORTEST + (LONGEST - SHORTEST) * torch.rand(count, 1, device=device)
    direct = FARTHEST + (NEAREST - FARTHEST) * torch.rand(count, 1, device=device)
    tail = torch.randn(count, L, device=device) * (-math.log(1000) * time / decay).exp()
    tail[:, 0] = 0
    tail = tail / tail.square().sum(1, keepdim=True).sqrt() * 10 ** (-direct / 20)
    tail[:, 0] = 1
    return tail


def pink_noise(batch: int, samples: int, device: torch.device | str = "cpu") -> Tensor:
    """Draw noise whose power is proportional to 1 / frequency, ``(batch, samples)``, of mean square 1.

    >>> round(pink_noise(1, 16000).square().mean().item(), 3)
    1.0
    """
    spectrum = torch.fft.rfft(torch.randn(batch, samples, device=device))
    frequency = torch.arange(spectrum.shape[1], device=device).clamp(min=1)
    noise = torch.fft.irfft(spectrum / frequency.sqrt(), samples)
    return noise / noise.square().mean(1, keepdim=True).sqrt().clamp(min=1e-20)


def _background(waveform: Tensor, recipe: Recipe) -> Tensor:
    B, N = waveform.shape
    device = waveform.device
    if recipe.background == "white":
        return torch.randn(B, N, device=device)
    if recipe.background == "pink":
        return pink_noise(B, N, device)
    if recipe.background == "mixed":
        white = torch.rand(B, 1, device=device) < 0.5
        return torch.where(white, torch.randn(B, N, device=device), pink_noise(B, N, device))
    recordings = _recordings(recipe.background, recipe.sample_rate).to(device)
    start = torch.randint(len(recordings), (B, 1), device=device)
    return recordings[(start + torch.arange(N, device=device)) % len(recordings)]


def sounds_of(folder: str | Path) -> list[Path]:
    """List the sound files in a folder and its subfolders, sorted.

    Raises:
        FileNotFoundError: if there is no such folder, or no sound file in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; expected a folder of sound files")
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise FileNotFoundError(f"{folder}: no sound file in it; expected recordings such as {folder}/a.wav")
    return found


@functools.lru_cache(maxsize=2)
def _recordings(folder: str, sample_rate: int) -> Tensor:
    """Read a folder's recordings, one behind the other, each at the same level, at most half an hour."""
    parts, seconds = [], 0.0
    for path in sounds_of(folder):
        sound = read_audio(path, sample_rate, seconds=MOST_SECONDS)
        level = sound.square().mean().sqrt()
        if level > 0:
            parts.append(sound / level)
            seconds += len(sound) / sample_rate
        if seconds >= MOST_SECONDS:
            break
    if not parts:
        raise ValueError(f"{folder}: all its recordings are silent")
    return torch.cat(parts)


@functools.lru_cache(maxsize=2)
def _bank(folder: str, sample_rate: int) -> Tensor:
    """Read a folder's room responses, each from its direct sound on, ``(R, L)``."""
    L = int(ROOM_SECONDS * sample_rate)
    rows = []
    for path in sounds_of(folder):
        response = read_audio(path, sample_rate, seconds=10.0)
        response = response[int(response.abs().argmax()) :][:L]
        if float(response.abs().max()) > 0:
            rows.append(torch.nn.functional.pad(response / response.abs().max(), (0, L - len(response))))
    if not rows:
        raise ValueError(f"{folder}: all its responses are silent")
    return torch.stack(rows)
