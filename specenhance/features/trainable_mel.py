"""nnAudio's mel spectrogram, whose filters learn."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from specenhance.features.base import MelFeatures, hann_power_spectrum, log_energies, slaney_centres, whole_samples
from specenhance.features.registry import register_features

__all__ = ["TrainableMel"]


@register_features("trainable_mel")
class TrainableMel(MelFeatures):
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
            hop_length=whole_samples(frame_shift, sample_rate),
            frequencies=slaney_centres(num_mel_bins, sample_rate),
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
            power = hann_power_spectrum(wave, self.window_length, self.hop_length)
        return log_energies(power, rearrange(self.mel_basis, "f k -> k f"))
