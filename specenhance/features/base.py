"""What the feature modules share: the count of frames, the checks, the padding, the normalisation.

Common to all of them:

- A frame counts if it lies wholly within the sound, as in Kaldi. There are ``1 + (samples - window) // hop`` frames. The ends
  are not reflected, so a clip gives the same frames by itself and zero-padded in a batch.
- ``lengths`` is the number of real samples of each row. A frame that reaches past them is padding, with the value 0 *before*
  the normalisation, as AST pads. Then the time axis is padded with 0 or cut at its end to ``frames``. Then the result is
  ``(x - mean) / (2 * std)``.
- The arithmetic is float32 (float64 for a float64 waveform), also under autocast and after ``module.half()``. The result has
  the waveform's dtype. Only the product with the mel filters obeys ``torch.set_float32_matmul_precision``. A half-precision
  waveform has lost its quiet parts: under mixed precision, keep the waveform in float32.
- Constants are buffers. They follow the module's device, keep their dtype and are not in ``state_dict``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from specenhance._compat import is_exporting

__all__ = [
    "LOG_FLOOR",
    "FilterFeatures",
    "HannMelFeatures",
    "MelFeatures",
    "check_band",
    "framed",
    "hann_power_spectrum",
    "log_energies",
    "mel_edges",
    "power_spectrum",
    "real_power_spectrum",
    "slaney_centres",
    "whole_samples",
]

LOG_FLOOR = torch.finfo(torch.float32).eps
"""The minimum energy before the logarithm (Kaldi's): silence is ``log(LOG_FLOOR) = -15.94``, not minus infinity."""

# The number of frames that a CPU transforms together. Their spectra should fit the L2 cache of a core: a whole batch at once is
# four times slower, because of memory traffic.
CHUNK_FRAMES = 500


class MelFeatures(nn.Module):
    """What the feature modules share: checks, lengths, chunks, padding, normalisation.

    A subclass defines ``_log_mel``, or ``analysis`` if it has something to make once a batch.

    Args:
        frames: The frames T of the result, which is padded with 0 or cut at its end; None keeps all frames and adds none.
        sample_rate: The sample rate of the waveform, in Hz.
        window_length: The length of a frame, in samples.
        hop_length: The samples from one frame to the next.
        frequencies: The centre frequencies of the filters, in Hz.
        mean: The mean of the log energies.
        std: The standard deviation of the log energies; the result is ``(x - mean) / (2 * std)``.

    Raises:
        ValueError: for frames, lengths or std out of range.

    >>> class Energy(MelFeatures):
    ...     def _log_mel(self, wave):
    ...         return wave.unfold(-1, 400, 160).square().sum(-1, keepdim=True).clamp(min=LOG_FLOOR).log()
    >>> made = Energy(
    ...     frames=None, sample_rate=16000, window_length=400, hop_length=160, frequencies=[4000.0], mean=0.0, std=0.5
    ... )
    >>> made(torch.zeros(2, 16000)).shape
    torch.Size([2, 1, 98, 1])
    """

    zero_mean = False  # whether the mean of the clip, over its real samples, is subtracted first

    def __init__(
        self,
        *,
        frames: int | None,
        sample_rate: int,
        window_length: int,
        hop_length: int,
        frequencies: list[float],
        mean: float,
        std: float,
    ) -> None:
        super().__init__()
        if frames is not None and frames < 1:
            raise ValueError(f"frames={frames}: expected 1 or more, or None for as many as there are")
        if window_length < 2 or hop_length < 1:
            raise ValueError(
                f"a frame of {window_length} samples every {hop_length} at sample_rate={sample_rate}: expected at least 2 "
                f"samples every 1; lengths and shifts are in seconds, e.g. 0.025 and 0.010"
            )
        if not std > 0:
            raise ValueError(f"std={std}: expected more than 0")
        self.frames = frames
        self.sample_rate = sample_rate
        self.window_length = window_length
        self.hop_length = hop_length
        self.hop_seconds = hop_length / sample_rate
        self.frequencies = frequencies
        self.mean = mean
        self.std = std

    @property
    def samples(self) -> int | None:
        """The number of samples that ``frames`` frames cover; None where ``frames`` is None."""
        return None if self.frames is None else self.window_length + (self.frames - 1) * self.hop_length

    @property
    def padding(self) -> float:
        """The value of a frame that is padding: 0 before the normalisation."""
        return (0 - self.mean) / (2 * self.std)

    def num_frames(self, samples: int) -> int:
        """Count the frames that lie wholly within this number of samples, before the padding or the cut to ``frames``."""
        return max(0, 1 + (samples - self.window_length) // self.hop_length)

    def real_frames(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Mark the frames that lie wholly within the sound.

        Args:
            waveform: The waveforms (B, samples).
            lengths: The number (B,) of real samples of each row. None takes all.

        Returns:
            False for each frame of padding, (B, T), or (1, T) without ``lengths``.

        >>> from specenhance import KaldiFbank
        >>> KaldiFbank(frames=4).real_frames(torch.zeros(1, 800), torch.tensor([600])).tolist()
        [[True, True, False, False]]
        """
        samples = waveform.shape[1]
        frames = self.num_frames(samples) if self.frames is None else self.frames
        ends = self.window_length + self.hop_length * torch.arange(frames, device=waveform.device)
        return (ends <= samples)[None] if lengths is None else ends <= lengths.to(waveform.device)[:, None]

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map waveforms to normalised log-mel spectrograms.

        Args:
            waveform: The waveforms (B, samples) at ``sample_rate`` Hz, floating point, usually within [-1, 1].
            lengths: The number (B,) of real samples of each row, int64; later samples are ignored. None takes all.

        Returns:
            The spectrograms (B, 1, T, F) in the waveform's dtype. T is ``frames`` or, where that is None,
            ``num_frames(samples)``.

        Raises:
            ValueError: for a waveform that is not (B, samples), lengths that do not fit it, or, with ``frames=None``, a
                waveform shorter than one frame.
            TypeError: for an integer or complex waveform, or lengths that are not int64.
        """
        _check_waveform(waveform)
        batch, samples = waveform.shape
        if lengths is not None:
            lengths = _check_lengths(lengths, waveform)
        found = self.num_frames(samples)
        frames = found if self.frames is None else self.frames
        if frames < 1:
            raise ValueError(
                f"{samples} samples are fewer than one frame of {self.window_length}: pass frames= to pad short sounds "
                f"with 0, or leave them out"
            )
        with torch.autocast(waveform.device.type, enabled=False):
            wave = waveform if waveform.dtype == torch.float64 else waveform.float()
            if lengths is not None:
                wave = torch.where(torch.arange(samples, device=wave.device) < lengths[:, None], wave, 0)
            if self.zero_mean:
                real = samples if lengths is None else lengths.clamp(min=1)[:, None]
                wave = wave - wave.sum(dim=-1, keepdim=True) / real
            # The frames that are cut at the end are not computed.
            kept = min(found, frames)
            wave = wave[:, : self.window_length + (kept - 1) * self.hop_length]
            if kept and batch:
                analysis = self.analysis(wave)

                def normalised(rows: Tensor) -> Tensor:
                    return self.normalised(analysis(rows))

                spectrogram = _by_chunks(normalised, wave, math.ceil(CHUNK_FRAMES / kept))
            else:
                spectrogram = wave.new_zeros(batch, kept, len(self.frequencies))
            if lengths is not None:
                counts = 1 + (lengths - self.window_length) // self.hop_length
                beyond = torch.arange(kept, device=wave.device) >= counts[:, None]
                spectrogram = spectrogram.masked_fill(beyond[:, :, None], self.padding)
            spectrogram = F.pad(spectrogram, (0, 0, 0, frames - kept), value=self.padding)
        return rearrange(spectrogram, "b t f -> b 1 t f").to(waveform.dtype)

    def analysis(self, wave: Tensor) -> Callable[[Tensor], Tensor]:
        """Give the function that maps rows of ``wave`` to log energies. Filters that learn are made here, once a batch."""
        return self._log_mel

    def normalised(self, log_energies: Tensor) -> Tensor:
        """Normalise log energies."""
        return (log_energies - self.mean) / (2 * self.std)

    def _log_mel(self, wave: Tensor) -> Tensor:
        """Map (B, samples), float32 or float64 and at least one frame long, to log energies (B, T, F)."""
        raise NotImplementedError

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        # module.half() must not round the constants: only the new device is taken.
        constants = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, constant in constants.items():
            setattr(self, name, constant.to(getattr(self, name).device))
        return self

    def extra_repr(self) -> str:
        """Describe the module in one line, as torch prints it."""
        return (
            f"frames={self.frames}, sample_rate={self.sample_rate}, num_mel_bins={len(self.frequencies)}, "
            f"window_length={self.window_length}, hop_length={self.hop_length}, mean={self.mean}, std={self.std}"
        )


class FilterFeatures(MelFeatures):
    """What features share that filter the waveform, and then sum up each filter's power in windows as long as the filters.

    With filters and windows of K samples, an odd number, a frame sees 2 K - 1 samples.

    Args:
        frames, sample_rate, frequencies, mean, std: As :class:`MelFeatures`.
        frame_length: The length K, in seconds. It is made an odd number of samples.
        frame_shift: The time from one frame to the next, in seconds.

    >>> made = FilterFeatures(None, 16000, [4000.0], 0.025, 0.010, 0.0, 0.5)
    >>> made.middle, made.window_length
    (200, 801)
    """

    def __init__(
        self,
        frames: int | None,
        sample_rate: int,
        frequencies: list[float],
        frame_length: float,
        frame_shift: float,
        mean: float,
        std: float,
    ) -> None:
        middle = whole_samples(frame_length, sample_rate) // 2
        super().__init__(
            frames=frames,
            sample_rate=sample_rate,
            window_length=4 * middle + 1,
            hop_length=whole_samples(frame_shift, sample_rate),
            frequencies=frequencies,
            mean=mean,
            std=std,
        )
        self.middle = middle  # the middle sample of a filter

    def _keep(self, name: str, values: np.ndarray) -> None:
        """Keep a constant as a float32 buffer."""
        self.register_buffer(name, torch.from_numpy(values.astype(np.float32)), persistent=False)


class HannMelFeatures(MelFeatures):
    """What features under a periodic Hann window and on Slaney's mel scale share.

    Args:
        frames, sample_rate, mean, std: As :class:`MelFeatures`.
        num_mel_bins: The number of mel bins F.
        n_fft: The length of the window and of its Fourier transform, in samples.
        frame_shift: The time from one frame to the next, in seconds.
        fmin, fmax: The ends of the band, in Hz; by default 0 and half the sample rate.

    >>> HannMelFeatures(None, 16000, 40, 512, 0.010, 0.0, 0.5).hop_length
    160
    """

    def __init__(
        self,
        frames: int | None,
        sample_rate: int,
        num_mel_bins: int,
        n_fft: int,
        frame_shift: float,
        mean: float,
        std: float,
        fmin: float = 0.0,
        fmax: float | None = None,
    ) -> None:
        super().__init__(
            frames=frames,
            sample_rate=sample_rate,
            window_length=n_fft,
            hop_length=whole_samples(frame_shift, sample_rate),
            frequencies=slaney_centres(num_mel_bins, sample_rate, fmin, fmax),
            mean=mean,
            std=std,
        )

    def _power(self, wave: Tensor) -> Tensor:
        return hann_power_spectrum(wave, self.window_length, self.hop_length)


def power_spectrum(frames: Tensor, n_fft: int) -> Tensor:
    """Map windowed frames (B, T, window) to the power of their Fourier transform (B, T, n_fft // 2 + 1).

    >>> power_spectrum(torch.ones(1, 1, 4), n_fft=4)
    tensor([[[16.,  0.,  0.]]])
    """
    if is_exporting():  # few formats have complex numbers
        return real_power_spectrum(frames, n_fft)
    spectrum = torch.fft.rfft(frames, n=n_fft)
    return spectrum.real.square() + spectrum.imag.square()


def real_power_spectrum(frames: Tensor, n_fft: int) -> Tensor:
    """Compute :func:`power_spectrum` by products of real matrices, for exported models.

    A transform of N = N1 N2 values is N2 transforms of N1 values, a turn of each result, and transforms of N2 values. For
    N = 512 this needs a quarter of the multiplications of one matrix, and for N = 8192 a twelfth. Half of the first results
    are conjugates of the others and are left out.

    Source: Cooley and Tukey, "An algorithm for the machine calculation of complex Fourier series", Mathematics of Computation
    19 (1965), with sample n = N2 n1 + n2 and frequency k = k1 + N1 k2.

    >>> real_power_spectrum(torch.ones(1, 1, 4), n_fft=4).round(decimals=4)
    tensor([[[16.,  0.,  0.]]])
    """

    def constant(values: np.ndarray) -> Tensor:
        # NumPy makes it, so an exported model has it as a constant. PyTorch's cosines would be computed at every call.
        dtype = np.float64 if frames.dtype == torch.float64 else np.float32
        return torch.from_numpy(values.astype(dtype)).to(frames.device)

    n1 = max(d for d in range(1, math.isqrt(n_fft) + 1) if n_fft % d == 0)
    n2, k1 = n_fft // n1, n1 // 2 + 1
    first, turn, second = _angles(n1, n1, k1), _angles(n_fft, n2, k1), _angles(n2, n2, n2)
    samples = rearrange(F.pad(frames, (0, n_fft - frames.shape[-1])), "b t (n1 n2) -> b t n2 n1", n1=n1)
    real, imaginary = (samples @ constant(np.concatenate([np.cos(first), -np.sin(first)], axis=1))).chunk(2, dim=-1)
    cosine, sine = constant(np.cos(turn)), constant(np.sin(turn))
    turned = torch.cat([real * cosine + imaginary * sine, imaginary * cosine - real * sine], dim=-2)
    columns = [np.concatenate([np.cos(second), np.sin(second)]), np.concatenate([-np.sin(second), np.cos(second)])]
    real, imaginary = (turned.transpose(-1, -2) @ constant(np.concatenate(columns, axis=1))).chunk(2, dim=-1)
    power = (real * real + imaginary * imaginary).flatten(-2)
    k = np.arange(n_fft // 2 + 1)
    k = np.where(k % n1 < k1, k, n_fft - k)  # the conjugate has the same power
    return power[..., torch.from_numpy(k % n1 * n2 + k // n1).to(frames.device)]


def _angles(length: int, rows: int, columns: int) -> np.ndarray:
    """Give the angles ``2 pi n k / length`` of a Fourier transform, (rows, columns), float64."""
    return np.outer(np.arange(rows), np.arange(columns)) % length * (2 * math.pi / length)


def framed(wave: Tensor, window: int, hop: int) -> Tensor:
    """Cut (B, samples) into frames (B, T, window), one every ``hop`` samples.

    >>> framed(torch.arange(5.0)[None], window=3, hop=2)
    tensor([[[0., 1., 2.],
             [2., 3., 4.]]])
    """
    if not is_exporting():
        return wave.unfold(-1, window, hop)
    # An exported unfold copies one sample after the other. Frames are made of rows of `hop` samples here.
    frames = 1 + (wave.shape[-1] - window) // hop
    rows = -(-window // hop)
    wave = F.pad(wave, (0, rows * hop))
    parts = [wave[:, i * hop : (i + frames) * hop].reshape(-1, frames, hop) for i in range(rows)]
    return torch.cat(parts, dim=-1)[..., :window]


def hann_power_spectrum(wave: Tensor, n_fft: int, hop: int) -> Tensor:
    """Map (B, samples) to the power spectrum (B, T, n_fft // 2 + 1) under a periodic Hann window.

    >>> hann_power_spectrum(torch.zeros(2, 1600), n_fft=400, hop=160).shape
    torch.Size([2, 8, 201])
    """
    window = torch.hann_window(n_fft, dtype=wave.dtype, device=wave.device)
    return power_spectrum(framed(wave, n_fft, hop) * window, n_fft)


def log_energies(power: Tensor, mel: Tensor) -> Tensor:
    """Map a power spectrum (B, T, K) by filters (K, F) to log energies (B, T, F), at least ``log(LOG_FLOOR)``.

    >>> log_energies(torch.tensor([[[1.0, 0.0]]]), torch.eye(2))
    tensor([[[  0.0000, -15.9424]]])
    """
    return (power @ mel.to(power.dtype)).clamp(min=LOG_FLOOR).log()


def whole_samples(seconds: float, sample_rate: int) -> int:
    """Count the whole samples in the length or shift of a frame.

    Args:
        seconds: The time in seconds.
        sample_rate: The sample rate, in Hz.

    Raises:
        ValueError: for more than a second: 25 is not 25 ms.

    >>> whole_samples(0.025, 16000), whole_samples(0.29, 100)
    (400, 29)
    """
    if seconds > 1:
        raise ValueError(f"a frame of {seconds} seconds, or one every {seconds}: expected at most 1; 25 ms are 0.025")
    # Kaldi rounds down. But 0.29 * 100 must be 29, not 28.999999999999996.
    return int(round(seconds * sample_rate, 6))


def mel_edges(count: int, low: float, high: float) -> list[float]:
    """List frequencies, in Hz, that are equally spaced on the mel scale of HTK.

    Args:
        count: The number of frequencies, with both ends.
        low, high: The ends, in Hz.

    Raises:
        ValueError: for fewer than 3, or ends that are not in order.

    >>> [round(hertz) for hertz in mel_edges(4, 60, 8000)]
    [60, 1013, 3160, 8000]
    """
    if count < 3:
        raise ValueError(f"{count} frequencies on the mel scale: expected 3 or more; num_mel_bins is too small")
    if not 0 <= low < high:
        raise ValueError(f"frequencies from {low} to {high} Hz: expected 0 or more, and the second above the first")
    bottom, top = (1127 * math.log1p(hertz / 700) for hertz in (low, high))
    return [700 * math.expm1((bottom + (top - bottom) * i / (count - 1)) / 1127) for i in range(count)]


def check_band(fmin: float, fmax: float | None, sample_rate: int) -> tuple[float, float]:
    """Give the ends of a band, in Hz. None stands for half the sample rate.

    Raises:
        ValueError: for ends that are not in order, below 0, or above half the sample rate.

    >>> check_band(100.0, None, 16000)
    (100.0, 8000.0)
    """
    top = sample_rate / 2 if fmax is None else float(fmax)
    if not 0 <= fmin < top <= sample_rate / 2:
        raise ValueError(
            f"fmin={fmin}, fmax={fmax}: expected a band in Hz, 0 <= fmin < fmax <= {sample_rate / 2:g}, half the sample rate"
        )
    return float(fmin), top


def slaney_centres(num_mel_bins: int, sample_rate: int, fmin: float = 0.0, fmax: float | None = None) -> list[float]:
    """List the centre frequencies, in Hz, of filters over a band: linear below 1 kHz, logarithmic above.

    Args:
        num_mel_bins: The number of filters.
        sample_rate: The sample rate, in Hz.
        fmin, fmax: The ends of the band, in Hz; by default 0 and half the sample rate.

    >>> [round(hertz) for hertz in slaney_centres(4, 16000)]
    [603, 1237, 2305, 4294]
    """
    step = math.log(6.4) / 27

    def to_hertz(mel: float) -> float:
        return 200 / 3 * mel if mel < 15 else 1000 * math.exp(step * (mel - 15))

    def to_mel(hertz: float) -> float:
        return hertz * 3 / 200 if hertz < 1000 else 15 + math.log(hertz / 1000) / step

    low, high = map(to_mel, check_band(fmin, fmax, sample_rate))
    return [to_hertz(low + (high - low) * (i + 1) / (num_mel_bins + 1)) for i in range(num_mel_bins)]


def _by_chunks(function: Callable[[Tensor], Tensor], wave: Tensor, clips: int) -> Tensor:
    """Apply a function to a number of rows at a time on a CPU, for its cache. A compiled graph is kept whole."""
    if wave.device.type != "cpu" or torch.compiler.is_compiling():
        return function(wave)
    return torch.cat([function(part) for part in wave.split(clips)])


def _check_waveform(waveform: Tensor) -> None:
    shape = tuple(waveform.shape)
    if waveform.ndim == 1:
        raise ValueError(f"waveform of shape {shape}: expected (batch, samples); pass one clip as waveform[None]")
    if waveform.ndim != 2:
        raise ValueError(
            f"waveform of shape {shape}: expected (batch, samples); mix or pick channels first, e.g. waveform.mean(dim=1)"
        )
    if waveform.is_complex():
        raise TypeError(f"waveform of shape {shape} is {waveform.dtype}: expected real sound; pass waveform.real")
    if not waveform.is_floating_point():
        raise TypeError(
            f"waveform of shape {shape} is {waveform.dtype}: expected floating point; for 16-bit sound pass "
            f"waveform.float() / 32768"
        )


def _check_lengths(lengths: Tensor, waveform: Tensor) -> Tensor:
    batch, samples = waveform.shape
    if lengths.dtype != torch.int64:
        raise TypeError(f"lengths is {lengths.dtype}: expected int64, in samples; pass lengths.long()")
    if lengths.shape != (batch,):
        raise ValueError(f"lengths of shape {tuple(lengths.shape)}: expected ({batch},), one for each waveform")
    # A look at the values would halt a GPU or break a graph.
    if lengths.device.type == "cpu" and not torch.compiler.is_compiling() and batch:
        least, most = int(lengths.min()), int(lengths.max())
        if least < 0 or most > samples:
            raise ValueError(f"lengths from {least} to {most}: expected 0 to {samples}, the samples of a row")
    return lengths.to(waveform.device)
