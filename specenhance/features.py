"""Features: modules that map a waveform ``(B, samples)`` to a log-mel spectrogram ``(B, 1, T, F)``.

B is the batch, T the time frames, F the mel bins. Three of them, each by its name for :func:`create_features`:

- ``kaldi``: :class:`KaldiFbank`, what the Audio Spectrogram Transformer (AST) and the recipes use. Needs torch alone.
- ``logmel``: :class:`LogMel`, torchaudio's ``MelSpectrogram``. Needs torchaudio when it is made.
- ``trainable_mel``: :class:`TrainableMel`, nnAudio's, whose filters learn. Needs nnAudio when it is made.

What holds for all three:

- A frame is counted where it lies wholly within the sound, as in Kaldi: ``1 + (samples - window) // hop`` of them. No
  sound is reflected at the ends, so a clip gives the same frames alone and zero-padded in a batch.
- ``lengths`` says how many samples of each row are real. A frame that reaches past them is padding: 0 *before* the
  normalisation, as AST pads. Then the time axis is padded with 0 or cut at its end to ``frames``, and
  ``(x - mean) / (2 * std)`` is taken.
- The arithmetic is float32 (float64 for a float64 waveform) whatever autocast or ``module.half()`` say, and the result
  has the waveform's dtype. Only the product with the mel filters obeys ``torch.set_float32_matmul_precision``. A
  half-precision waveform has already lost its quiet parts: under mixed precision, keep the waveform in float32 and let
  autocast do the rest.
- Constants are buffers that follow the module's device, keep their dtype and stay out of ``state_dict``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from specenhance.compat import is_exporting
from specenhance.published import NORMALISATION

__all__ = [
    "NORMALISATION",
    "KaldiFbank",
    "LogMel",
    "TrainableMel",
    "create_features",
    "describe_features",
    "kaldi_mel_banks",
    "list_features",
]

LOG_FLOOR = torch.finfo(torch.float32).eps
"""The least energy that the logarithm sees (Kaldi's): silence is ``log(LOG_FLOOR) = -15.94``, not minus infinity."""

# The frames that go through the FFT together on a CPU: their spectra should fit the L2 cache of a core. A whole batch at
# once is four times slower, for nothing but memory traffic.
CHUNK_FRAMES = 500


class _MelFeatures(nn.Module):
    """What the three features share: checks, lengths, chunks, padding, normalisation. A subclass gives `_log_mel`."""

    # Whether the mean of the clip, over its real samples, is taken off first.
    zero_mean = False

    def __new__(cls, *frames: Any, **arguments: Any) -> _MelFeatures:
        features = super().__new__(cls)
        # How to make it again: the subclasses take frames alone without its name.
        features.arguments = dict(zip(("frames",), frames, strict=False)) | arguments
        return features

    arguments: dict[str, Any]

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
        """How many samples ``frames`` frames look at; None where that is as many as there are."""
        return None if self.frames is None else self.window_length + (self.frames - 1) * self.hop_length

    def num_frames(self, samples: int) -> int:
        """Count the frames that lie wholly within so many samples, before padding or cutting to ``frames``."""
        return max(0, 1 + (samples - self.window_length) // self.hop_length)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map waveforms to normalised log-mel spectrograms.

        Args:
            waveform: (B, samples) at ``sample_rate`` Hz, floating point, usually within [-1, 1].
            lengths: (B,) int64, the samples of each row that are real; what lies after them is ignored. None: all.

        Returns:
            (B, 1, T, F) in the waveform's dtype; T is ``frames``, or ``num_frames(samples)`` where that is None.

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
            # What is cut at the end need not be computed.
            kept = min(found, frames)
            wave = wave[:, : self.window_length + (kept - 1) * self.hop_length]
            if kept and batch:
                spectrogram = _by_chunks(self._normalised_log_mel, wave, clips=math.ceil(CHUNK_FRAMES / kept))
            else:
                spectrogram = wave.new_zeros(batch, kept, len(self.frequencies))
            padding = (0 - self.mean) / (2 * self.std)
            if lengths is not None:
                counts = 1 + (lengths - self.window_length) // self.hop_length
                beyond = torch.arange(kept, device=wave.device) >= counts[:, None]
                spectrogram = spectrogram.masked_fill(beyond[:, :, None], padding)
            spectrogram = F.pad(spectrogram, (0, 0, 0, frames - kept), value=padding)
        return rearrange(spectrogram, "b t f -> b 1 t f").to(waveform.dtype)

    def _normalised_log_mel(self, wave: Tensor) -> Tensor:
        return (self._log_mel(wave) - self.mean) / (2 * self.std)

    def _log_mel(self, wave: Tensor) -> Tensor:
        """Map (B, samples), float32 or float64 and at least a frame, to log energies (B, T, F)."""
        raise NotImplementedError

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        # module.half() and the like must not round the constants: only the device of the result is taken.
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


class KaldiFbank(_MelFeatures):
    """Kaldi's log-mel filter bank energies, batched and on any device, as AST computes them.

    For each clip x ``(samples,)`` it is ``torchaudio.compliance.kaldi.fbank(x - x.mean(), htk_compat=True,
    sample_frequency=16000, use_energy=False, window_type="hanning", num_mel_bins=128, dither=0.0, frame_shift=10)``, to
    the rounding of float32, without torchaudio.

    Args:
        frames: T, the frames of the result, padded with 0 or cut at the end; None: as many as there are.
        sample_rate: of the waveform, Hz.
        num_mel_bins: F, 4 or more.
        frame_length: of the window, seconds.
        frame_shift: from one frame to the next, seconds.
        mean: of the log energies; see ``NORMALISATION``. The default is AudioSet's.
        std: their standard deviation; the result is ``(x - mean) / (2 * std)``.

    Attributes:
        frequencies: centre frequencies of the F filters, Hz.
        hop_seconds: seconds from one frame to the next.

    Raises:
        ValueError: for frames, num_mel_bins, lengths or std out of range.

    Source: Kaldi's ``feature-fbank`` as in torchaudio 2.11; the settings are those of Gong et al., arXiv:2104.01778.
    """

    zero_mean = True
    mel: Tensor

    def __init__(
        self,
        frames: int | None = None,
        *,
        sample_rate: int = 16000,
        num_mel_bins: int = 128,
        frame_length: float = 0.025,
        frame_shift: float = 0.010,
        mean: float = NORMALISATION["audioset"][0],
        std: float = NORMALISATION["audioset"][1],
    ) -> None:
        window_length = _samples(frame_length, sample_rate)
        n_fft = 1 << max(1, window_length - 1).bit_length()
        banks, frequencies = kaldi_mel_banks(num_mel_bins, n_fft, sample_rate)
        super().__init__(
            frames=frames,
            sample_rate=sample_rate,
            window_length=window_length,
            hop_length=_samples(frame_shift, sample_rate),
            frequencies=frequencies,
            mean=mean,
            std=std,
        )
        self.n_fft = n_fft
        self.register_buffer("mel", rearrange(banks, "f k -> k f").contiguous(), persistent=False)

    def _log_mel(self, wave: Tensor) -> Tensor:
        # These steps, in this order, round as Kaldi's do. Cheaper orders exist (pre-emphasis of the whole waveform, say) and
        # are as close to the true value, but bins far below their frame's loudest are mostly rounding in float32: there
        # two orders differ by up to 1e-2. The window's first sample is 0, so Kaldi's rule for x[-1] falls away.
        frames = wave.unfold(-1, self.window_length, self.hop_length)
        frames = frames - frames.mean(dim=-1, keepdim=True)
        # hann_window(n, periodic=False) less its last sample, a 0: that form cannot be exported to ONNX.
        window = torch.hann_window(self.window_length - 1, dtype=wave.dtype, device=wave.device)
        frames = (frames[..., 1:-1] - 0.97 * frames[..., :-2]).mul_(window[1:])
        frames = F.pad(frames, (1, 1))
        return _log_energies(_power_spectrum(frames, self.n_fft), self.mel)


class LogMel(_MelFeatures):
    """The logarithm of torchaudio's ``MelSpectrogram`` (Slaney's mel scale, 0 Hz to Nyquist).

    The filters are triangles of height 1, the window is a periodic Hann window, the frames are not centred
    (``center=False``), the least energy is ``LOG_FLOOR``.

    Args:
        frames: T, the frames of the result, padded with 0 or cut at the end; None: as many as there are.
        sample_rate: of the waveform, Hz.
        num_mel_bins: F.
        n_fft: length of the window and of its Fourier transform, samples.
        frame_shift: from one frame to the next, seconds.
        mean: of the log energies.
        std: their standard deviation; the result is ``(x - mean) / (2 * std)``, with the defaults x itself.

    Attributes:
        frequencies: centre frequencies of the F filters, Hz.
        hop_seconds: seconds from one frame to the next.

    Raises:
        ImportError: where torchaudio cannot be imported; the message has the versions that go together.
        ValueError: for frames, lengths or std out of range.
    """

    mel: Tensor

    def __init__(
        self,
        frames: int | None = None,
        *,
        sample_rate: int = 16000,
        num_mel_bins: int = 128,
        n_fft: int = 512,
        frame_shift: float = 0.010,
        mean: float = 0.0,
        std: float = 0.5,
    ) -> None:
        super().__init__(
            frames=frames,
            sample_rate=sample_rate,
            window_length=n_fft,
            hop_length=_samples(frame_shift, sample_rate),
            frequencies=_slaney_centres(num_mel_bins, sample_rate),
            mean=mean,
            std=std,
        )
        melscale_fbanks = _import_melscale_fbanks()
        with torch.device("cpu"):
            banks = melscale_fbanks(
                n_fft // 2 + 1, 0.0, sample_rate / 2, num_mel_bins, sample_rate, norm=None, mel_scale="slaney"
            )
        self.register_buffer("mel", banks, persistent=False)

    def _log_mel(self, wave: Tensor) -> Tensor:
        return _log_energies(_hann_power_spectrum(wave, self.window_length, self.hop_length), self.mel)


class TrainableMel(_MelFeatures):
    """nnAudio's mel spectrogram, the logarithm of it, with filters that learn.

    It starts as :class:`LogMel` does. ``mel_basis`` (F, n_fft // 2 + 1) is a parameter; with ``trainable_stft`` so are the
    Fourier kernels ``wcos`` and ``wsin`` (n_fft // 2 + 1, 1, n_fft). nnAudio gives these; the arithmetic is done here, on
    the power instead of on nnAudio's square root of it, whose gradient is not finite in digital silence, and in float32
    also where the parameters are half precision. An energy below ``LOG_FLOOR``, as where a filter has gone negative, is
    raised to it and passes no gradient.

    Args:
        frames: T, the frames of the result, padded with 0 or cut at the end; None: as many as there are.
        sample_rate: of the waveform, Hz.
        num_mel_bins: F.
        n_fft: length of the window and of its Fourier transform, samples.
        frame_shift: from one frame to the next, seconds.
        trainable_stft: whether the Fourier kernels learn too. They are then a convolution, several times slower than the
            FFT that serves where they are fixed.
        mean: of the log energies.
        std: their standard deviation; the result is ``(x - mean) / (2 * std)``, with the defaults x itself.

    Attributes:
        frequencies: centre frequencies of the F filters as they start, Hz.
        hop_seconds: seconds from one frame to the next.

    Raises:
        ImportError: where nnAudio is not installed.
        ValueError: for frames, lengths or std out of range.

    Source: Cheuk et al., "nnAudio: An on-the-fly GPU audio to spectrogram conversion toolbox", IEEE Access 2020.
    """

    def __init__(
        self,
        frames: int | None = None,
        *,
        sample_rate: int = 16000,
        num_mel_bins: int = 128,
        n_fft: int = 512,
        frame_shift: float = 0.010,
        trainable_stft: bool = False,
        mean: float = 0.0,
        std: float = 0.5,
    ) -> None:
        super().__init__(
            frames=frames,
            sample_rate=sample_rate,
            window_length=n_fft,
            hop_length=_samples(frame_shift, sample_rate),
            frequencies=_slaney_centres(num_mel_bins, sample_rate),
            mean=mean,
            std=std,
        )
        from nnAudio.features.mel import MelSpectrogram

        source = MelSpectrogram(
            sr=sample_rate,
            n_fft=n_fft,
            n_mels=num_mel_bins,
            hop_length=self.hop_length,
            # Height 1: an optimiser's first steps of 1e-4 to 1e-3 would turn filters of unit area, 0.003 high, negative.
            norm=None,
            trainable_mel=True,
            trainable_STFT=trainable_stft,
            verbose=False,
        )
        self.mel_basis: nn.Parameter = source.mel_basis
        self.trainable_stft = trainable_stft
        if trainable_stft:
            self.wcos: nn.Parameter = source.stft.wcos
            self.wsin: nn.Parameter = source.stft.wsin

    def _log_mel(self, wave: Tensor) -> Tensor:
        if self.trainable_stft:
            kernels = torch.cat([self.wcos, self.wsin]).to(wave.dtype)
            spectrum = F.conv1d(wave[:, None], kernels, stride=self.hop_length)
            real, imaginary = rearrange(spectrum, "b (part k) t -> part b t k", part=2)
            power = real.square() + imaginary.square()
        else:
            power = _hann_power_spectrum(wave, self.window_length, self.hop_length)
        return _log_energies(power, rearrange(self.mel_basis, "f k -> k f"))


_FEATURES: dict[str, type[_MelFeatures]] = {"kaldi": KaldiFbank, "logmel": LogMel, "trainable_mel": TrainableMel}


def list_features() -> list[str]:
    """List the names that :func:`create_features` knows, sorted."""
    return sorted(_FEATURES)


def create_features(name: str, **kwargs: Any) -> nn.Module:
    """Make a feature module by name.

    Args:
        name: one of :func:`list_features`.
        **kwargs: what the module's class takes, e.g. ``frames=512, mean=-6.63, std=5.36``.

    Raises:
        ValueError: for an unknown name; the message has the known ones.
        TypeError: for an argument that the class does not take.
    """
    if name not in _FEATURES:
        raise ValueError(f"unknown features {name!r}: known are {', '.join(list_features())}")
    return _FEATURES[name](**kwargs)


def describe_features(features: nn.Module) -> dict[str, Any] | None:
    """Give the arguments, the name among them, with which :func:`create_features` makes such a module again.

    Returns:
        They, or None for a module that is none of those in :func:`list_features`.
    """
    for name, kind in _FEATURES.items():
        if type(features) is kind:
            return {"name": name, **features.arguments}
    return None


def kaldi_mel_banks(num_mel_bins: int, n_fft: int, sample_rate: int) -> tuple[Tensor, list[float]]:
    """Make Kaldi's triangular mel filters, from 20 Hz to half the sample rate.

    Args:
        num_mel_bins: F, 4 or more.
        n_fft: length of the Fourier transform, samples.
        sample_rate: Hz.

    Returns:
        The filters (F, n_fft // 2 + 1) in float32, the last column 0, and their F centre frequencies in Hz.

    Raises:
        ValueError: for fewer than 4 bins, or a sample rate of 40 Hz or less.

    Source: ``get_mel_banks`` of torchaudio 2.11's ``compliance.kaldi``; equal to it bit for bit, so computed in float32.
    """
    if num_mel_bins < 4:
        raise ValueError(f"num_mel_bins={num_mel_bins}: expected 4 or more")
    if sample_rate <= 40:
        raise ValueError(f"sample_rate={sample_rate}: expected Hz, more than 40")
    low = 1127.0 * math.log(1.0 + 20.0 / 700.0)
    high = 1127.0 * math.log(1.0 + sample_rate / 2 / 700.0)
    width = (high - low) / (num_mel_bins + 1)
    bins = torch.arange(num_mel_bins, dtype=torch.float32, device="cpu")[:, None]
    left, centre, right = (low + (bins + i) * width for i in range(3))
    hertz = (sample_rate / n_fft) * torch.arange(n_fft // 2, dtype=torch.float32, device="cpu")
    mel = 1127.0 * (1.0 + hertz / 700.0).log()
    banks = torch.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)).clamp(min=0)
    frequencies = [700.0 * math.expm1((low + (i + 1) * width) / 1127.0) for i in range(num_mel_bins)]
    return F.pad(banks, (0, 1)), frequencies


def _power_spectrum(frames: Tensor, n_fft: int) -> Tensor:
    """Map windowed frames (B, T, window) to the power of their Fourier transform (B, T, n_fft // 2 + 1)."""
    if is_exporting():  # few formats know complex numbers
        dtype = np.float64 if frames.dtype == torch.float64 else np.float32
        matrix = torch.from_numpy(_fourier_matrix(frames.shape[-1], n_fft).astype(dtype))
        real, imaginary = (frames @ matrix.to(frames.device)).chunk(2, dim=-1)
        return real.square() + imaginary.square()
    spectrum = torch.fft.rfft(frames, n=n_fft)
    return spectrum.real.square() + spectrum.imag.square()


def _fourier_matrix(window: int, n_fft: int) -> np.ndarray:
    """Make the real and the imaginary part, side by side, of the Fourier transform of a frame: (window, n_fft + 2), float64.

    By NumPy, and so a constant of what is exported: its cosines by PyTorch would be computed again at every call.
    """
    turns = np.outer(np.arange(window), np.arange(n_fft // 2 + 1)) % n_fft
    angles = turns * (2 * math.pi / n_fft)
    return np.concatenate([np.cos(angles), -np.sin(angles)], axis=1)


def _hann_power_spectrum(wave: Tensor, n_fft: int, hop: int) -> Tensor:
    """Map (B, samples) to the power spectrum (B, T, n_fft // 2 + 1) under a periodic Hann window."""
    window = torch.hann_window(n_fft, dtype=wave.dtype, device=wave.device)
    return _power_spectrum(wave.unfold(-1, n_fft, hop) * window, n_fft)


def _log_energies(power: Tensor, mel: Tensor) -> Tensor:
    """Map a power spectrum (B, T, K) by filters (K, F) to log energies (B, T, F), floored at `LOG_FLOOR`."""
    return (power @ mel.to(power.dtype)).clamp(min=LOG_FLOOR).log()


def _by_chunks(function: Callable[[Tensor], Tensor], wave: Tensor, clips: int) -> Tensor:
    """Apply a function to so many rows at a time where a CPU's cache gains by it; a compiled graph is kept whole."""
    if wave.device.type != "cpu" or torch.compiler.is_compiling():
        return function(wave)
    return torch.cat([function(part) for part in wave.split(clips)])


def _samples(seconds: float, sample_rate: int) -> int:
    # Rounded down as Kaldi does, but 0.29 * 100 is 29, not 28.999999999999996.
    return int(round(seconds * sample_rate, 6))


def _slaney_centres(num_mel_bins: int, sample_rate: int) -> list[float]:
    """List the centre frequencies, Hz, of filters from 0 Hz to Nyquist: linear below 1 kHz, logarithmic above."""
    step = math.log(6.4) / 27

    def to_hertz(mel: float) -> float:
        return 200 / 3 * mel if mel < 15 else 1000 * math.exp(step * (mel - 15))

    nyquist = sample_rate / 2
    top = nyquist * 3 / 200 if nyquist < 1000 else 15 + math.log(nyquist / 1000) / step
    return [to_hertz(top * (i + 1) / (num_mel_bins + 1)) for i in range(num_mel_bins)]


def _import_melscale_fbanks() -> Callable[..., Tensor]:
    try:
        from torchaudio.functional import melscale_fbanks
    except Exception as error:  # beside another torch its libraries fail to load: OSError, RuntimeError, ImportError
        raise ImportError(
            f"LogMel needs torchaudio, which cannot be imported here beside torch {torch.__version__} "
            f"({type(error).__name__}: {error}). A torchaudio goes with one torch only, and its last release is 2.11.0: "
            f"pip install 'torch==2.11.*' 'torchaudio==2.11.0', or use KaldiFbank, which does not need it"
        ) from error
    return melscale_fbanks


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
    # Looking at values would stop a GPU or break a graph.
    if lengths.device.type == "cpu" and not torch.compiler.is_compiling() and batch:
        least, most = int(lengths.min()), int(lengths.max())
        if least < 0 or most > samples:
            raise ValueError(f"lengths from {least} to {most}: expected 0 to {samples}, the samples of a row")
    return lengths.to(waveform.device)
