"""The logarithm of torchaudio's mel spectrogram."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from specenhance.features.base import HannMelFeatures, check_band, log_energies
from specenhance.features.registry import register_features

__all__ = ["LogMel"]


@register_features("logmel")
class LogMel(HannMelFeatures):
    """The logarithm of torchaudio's ``MelSpectrogram`` (Slaney's mel scale).

    The filters are triangles of height 1. The window is a periodic Hann window. The frames are not centred (``center=False``).
    The minimum energy is ``LOG_FLOOR``.

    Args:
        frames: The frames T of the result, which is padded with 0 or cut at its end; None keeps all frames and adds none.
        sample_rate: The sample rate of the waveform, in Hz.
        num_mel_bins: The number of mel bins F.
        n_fft: The length of the window and of its Fourier transform, in samples.
        frame_shift: The time from one frame to the next, in seconds.
        fmin, fmax: The ends of the band of the filters, in Hz; by default 0 and half the sample rate.
        mean: The mean of the log energies.
        std: The standard deviation of the log energies; the result is ``(x - mean) / (2 * std)``, by default x itself.

    Attributes:
        frequencies: The centre frequencies of the F filters, in Hz.
        hop_seconds: The time from one frame to the next, in seconds.

    Raises:
        ImportError: where torchaudio cannot be imported; the message has the versions that go together.
        ValueError: for frames, lengths or std out of range.

    >>> LogMel(num_mel_bins=64)(torch.zeros(2, 16000)).shape
    torch.Size([2, 1, 97, 64])
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
        fmin: float = 0.0,
        fmax: float | None = None,
        mean: float = 0.0,
        std: float = 0.5,
    ) -> None:
        super().__init__(frames, sample_rate, num_mel_bins, n_fft, frame_shift, mean, std, fmin, fmax)
        low, high = check_band(fmin, fmax, sample_rate)
        melscale_fbanks = _import_melscale_fbanks()
        with torch.device("cpu"):
            banks = melscale_fbanks(n_fft // 2 + 1, low, high, num_mel_bins, sample_rate, norm=None, mel_scale="slaney")
        self.register_buffer("mel", banks, persistent=False)

    def _log_mel(self, wave: Tensor) -> Tensor:
        return log_energies(self._power(wave), self.mel)


def _import_melscale_fbanks() -> Callable[..., Tensor]:
    try:
        from torchaudio.functional import melscale_fbanks
    except Exception as error:  # with another torch its libraries fail to load: OSError, RuntimeError, ImportError
        raise ImportError(
            f"LogMel needs torchaudio, which cannot be imported here beside torch {torch.__version__} "
            f"({type(error).__name__}: {error}). A torchaudio goes with one torch only, and its last release is 2.11.0: "
            f"pip install 'torch==2.11.*' 'torchaudio==2.11.0', or use KaldiFbank, which does not need it"
        ) from error
    return melscale_fbanks
