"""nnAudio's mel spectrogram with filters that learn."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from specenhance.features.base import HannMelFeatures, log_energies
from specenhance.features.registry import register_features

__all__ = ["TrainableMel"]


@register_features("trainable_mel")
class TrainableMel(HannMelFeatures):
    """The logarithm of nnAudio's mel spectrogram, with filters that learn.

    It starts as :class:`LogMel` does. ``mel_basis`` (F, n_fft // 2 + 1) is a parameter. With ``trainable_stft`` the Fourier
    kernels ``wcos`` and ``wsin`` (n_fft // 2 + 1, 1, n_fft) are parameters too. nnAudio makes these parameters; this module
    does the arithmetic. It uses the power, where nnAudio uses its square root: in digital silence the root's gradient is not
    finite. It computes in float32 also where the parameters are half precision. An energy below ``LOG_FLOOR``, for example
    of a filter that has become negative, is raised to ``LOG_FLOOR`` and has no gradient.

    Args:
        frames: The frames T of the result, which is padded with 0 or cut at its end; None keeps all frames and adds none.
        sample_rate: The sample rate of the waveform, in Hz.
        num_mel_bins: The number of mel bins F.
        n_fft: The length of the window and of its Fourier transform, in samples.
        frame_shift: The time from one frame to the next, in seconds.
        trainable_stft: Whether the Fourier kernels learn too. They are then a convolution, which is several times slower than
            the FFT of fixed ones.
        fmin, fmax: The ends of the band of the filters, in Hz; by default 0 and half the sample rate.
        mean: The mean of the log energies.
        std: The standard deviation of the log energies; the result is ``(x - mean) / (2 * std)``, by default x itself.

    Attributes:
        frequencies: The centre frequencies of the F filters before training, in Hz.
        hop_seconds: The time from one frame to the next, in seconds.

    Raises:
        ImportError: where nnAudio is not installed.
        ValueError: for frames, lengths or std out of range.

    >>> features = TrainableMel(frames=64, num_mel_bins=40)
    >>> features(torch.zeros(2, 16000)).shape
    torch.Size([2, 1, 64, 40])
    >>> [name for name, _ in features.named_parameters()]
    ['mel_basis']

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
        fmin: float = 0.0,
        fmax: float | None = None,
        mean: float = 0.0,
        std: float = 0.5,
    ) -> None:
        super().__init__(frames, sample_rate, num_mel_bins, n_fft, frame_shift, mean, std, fmin, fmax)
        from nnAudio.features.mel import MelSpectrogram

        source = MelSpectrogram(
            sr=sample_rate,
            n_fft=n_fft,
            n_mels=num_mel_bins,
            hop_length=self.hop_length,
            fmin=fmin,
            fmax=fmax,
            # Height 1: filters of unit area are 0.003 high, and an optimiser's first steps of 1e-4 to 1e-3 would make them
            # negative.
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
            power = self._power(wave)
        return log_energies(power, rearrange(self.mel_basis, "f k -> k f"))
