"""Kaldi's log-mel filter bank energies, the features of the Audio Spectrogram Transformer (AST) and of the recipes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from specenhance._published import NORMALISATION
from specenhance.features.base import MelFeatures, check_band, framed, log_energies, power_spectrum, whole_samples
from specenhance.features.registry import register_features

__all__ = ["KaldiFbank", "kaldi_mel_banks"]


@register_features("kaldi")
class KaldiFbank(MelFeatures):
    """Kaldi's log-mel filter bank energies as AST computes them, batched and on any device.

    For each clip x ``(samples,)`` the result is ``torchaudio.compliance.kaldi.fbank(x - x.mean(), htk_compat=True,
    sample_frequency=16000, use_energy=False, window_type="hanning", num_mel_bins=128, dither=0.0, frame_shift=10)``, up
    to the rounding of float32. It does not need torchaudio.

    Args:
        frames: The frames T of the result, which is padded with 0 or cut at its end; None keeps all frames and adds none.
        sample_rate: The sample rate of the waveform, in Hz.
        num_mel_bins: The number of mel bins F, 4 or more.
        frame_length: The length of the window, in seconds.
        frame_shift: The time from one frame to the next, in seconds.
        fmin, fmax: The ends of the band of the filters, in Hz; by default 20 and half the sample rate.
        mean: The mean of the log energies; by default AudioSet's, see ``NORMALISATION``.
        std: The standard deviation of the log energies; the result is ``(x - mean) / (2 * std)``.

    Attributes:
        frequencies: The centre frequencies of the F filters, in Hz.
        hop_seconds: The time from one frame to the next, in seconds.

    Raises:
        ValueError: for frames, num_mel_bins, lengths or std out of range.

    >>> KaldiFbank(frames=128)(torch.zeros(2, 16000)).shape
    torch.Size([2, 1, 128, 128])

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
        fmin: float = 20.0,
        fmax: float | None = None,
        mean: float = NORMALISATION["audioset"][0],
        std: float = NORMALISATION["audioset"][1],
    ) -> None:
        window_length = whole_samples(frame_length, sample_rate)
        n_fft = 1 << max(1, window_length - 1).bit_length()
        banks, frequencies = kaldi_mel_banks(num_mel_bins, n_fft, sample_rate, fmin, fmax)
        super().__init__(
            frames=frames,
            sample_rate=sample_rate,
            window_length=window_length,
            hop_length=whole_samples(frame_shift, sample_rate),
            frequencies=frequencies,
            mean=mean,
            std=std,
        )
        self.n_fft = n_fft
        self.register_buffer("mel", rearrange(banks, "f k -> k f").contiguous(), persistent=False)

    def analysis(self, wave: Tensor) -> Callable[[Tensor], Tensor]:
        """Give the function that maps rows of ``wave`` to log energies. The window is made once a batch."""
        # It is hann_window(n, periodic=False) without its last sample, a 0. That form cannot be exported to ONNX.
        window = torch.hann_window(self.window_length - 1, dtype=wave.dtype, device=wave.device)[1:]

        def log_mel(wave: Tensor) -> Tensor:
            # These steps, in this order, round as Kaldi's do. A cheaper order (for example pre-emphasis of the whole waveform)
            # is as close to the true value. But bins far below their frame's maximum are mostly rounding in float32, and there
            # two orders differ by up to 1e-2. The window's first sample is 0, so Kaldi's rule for x[-1] has no effect.
            frames = framed(wave, self.window_length, self.hop_length)
            frames = frames - frames.mean(dim=-1, keepdim=True)
            frames = (frames[..., 1:-1] - 0.97 * frames[..., :-2]).mul_(window)
            frames = F.pad(frames, (1, self.n_fft - self.window_length + 1))  # the transform then pads no more
            return log_energies(power_spectrum(frames, self.n_fft), self.mel)

        return log_mel


def kaldi_mel_banks(
    num_mel_bins: int, n_fft: int, sample_rate: int, fmin: float = 20.0, fmax: float | None = None
) -> tuple[Tensor, list[float]]:
    """Make Kaldi's triangular mel filters.

    Args:
        num_mel_bins: The number of mel bins F, 4 or more.
        n_fft: The length of the Fourier transform, in samples.
        sample_rate: The sample rate, in Hz.
        fmin, fmax: The ends of the band, in Hz, Kaldi's ``low_freq`` and ``high_freq``; by default 20 and half the sample rate.

    Returns:
        The filters (F, n_fft // 2 + 1) in float32, with 0 in the last column, and their F centre frequencies in Hz.

    Raises:
        ValueError: for fewer than 4 bins, a sample rate of 40 Hz or less, or a band out of range.

    >>> banks, frequencies = kaldi_mel_banks(num_mel_bins=4, n_fft=512, sample_rate=16000)
    >>> banks.shape, [round(hertz) for hertz in frequencies]
    (torch.Size([4, 257]), [485, 1251, 2511, 4585])

    Source: ``get_mel_banks`` of torchaudio 2.11's ``compliance.kaldi``. The values are equal bit for bit, so they are computed
    in float32.
    """
    if num_mel_bins < 4:
        raise ValueError(f"num_mel_bins={num_mel_bins}: expected 4 or more")
    if sample_rate <= 40:
        raise ValueError(f"sample_rate={sample_rate}: expected Hz, more than 40")
    low, high = (1127.0 * math.log(1.0 + end / 700.0) for end in check_band(fmin, fmax, sample_rate))
    width = (high - low) / (num_mel_bins + 1)
    bins = torch.arange(num_mel_bins, dtype=torch.float32, device="cpu")[:, None]
    left, centre, right = (low + (bins + i) * width for i in range(3))
    hertz = (sample_rate / n_fft) * torch.arange(n_fft // 2, dtype=torch.float32, device="cpu")
    mel = 1127.0 * (1.0 + hertz / 700.0).log()
    banks = torch.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)).clamp(min=0)
    frequencies = [700.0 * math.expm1((low + (i + 1) * width) / 1127.0) for i in range(num_mel_bins)]
    return F.pad(banks, (0, 1)), frequencies
