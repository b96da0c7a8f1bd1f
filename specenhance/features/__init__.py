"""Features: modules that map a waveform ``(B, samples)`` to a log-mel spectrogram ``(B, 1, T, F)``.

B is the batch, T the time frames, F the mel bins. Each has a name for
:func:`create_features`; :func:`register_features` adds one:

- ``kaldi``: :class:`KaldiFbank`, what the Audio Spectrogram Transformer (AST) and the recipes use. Needs torch alone.
- ``logmel``: :class:`LogMel`, torchaudio's ``MelSpectrogram``. Needs torchaudio when it is made.
- ``trainable_mel``: :class:`TrainableMel`, nnAudio's, whose filters learn. Needs nnAudio when it is made.

:mod:`specenhance.features.base` says what holds for all of them.
"""

from specenhance._published import NORMALISATION
from specenhance.features.base import LOG_FLOOR
from specenhance.features.kaldi import KaldiFbank, kaldi_mel_banks
from specenhance.features.logmel import LogMel
from specenhance.features.registry import create_features, list_features, register_features
from specenhance.features.trainable_mel import TrainableMel

__all__ = [
    "LOG_FLOOR",
    "NORMALISATION",
    "KaldiFbank",
    "LogMel",
    "TrainableMel",
    "create_features",
    "kaldi_mel_banks",
    "list_features",
    "register_features",
]
