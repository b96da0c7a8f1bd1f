"""The logarithm of torchaudio's mel spectrogram."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from specenhance.features.base import MelFeatures, hann_power_spectrum, log_energies, slaney_centres, whole_samples
from specenhance.features.registry import register_features

__all__ = ["LogMel"]


@register_features("logmel")
class LogMel(MelFeatures):
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
            hop_length=whole_samples(frame_shift, sample_rate),
            frequencies=slaney_centres(num_mel_bins, sample_rate),
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
        return log_energies(hann_power_spectrum(wave, self.window_length, self.hop_length), self.mel)


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
