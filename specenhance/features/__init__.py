"""Features: modules that map a waveform ``(B, samples)`` to a log-mel spectrogram ``(B, 1, T, F)``.

B is the batch, T the time frames, F the mel bins. :func:`create_features` makes a feature module by its name, and
:func:`register_features` adds a name:

- ``kaldi``: :class:`KaldiFbank`, the features of the Audio Spectrogram Transformer (AST) and the recipes. It needs only torch.
- ``logmel``: :class:`LogMel`, the logarithm of torchaudio's ``MelSpectrogram``. It needs torchaudio.
- ``trainable_mel``: :class:`TrainableMel`, nnAudio's mel spectrogram with filters that learn. It needs nnAudio.
- ``leaf``: :class:`Leaf`, Gabor filters and Gaussian windows that learn.
- ``sincnet``: :class:`SincNet`, band-pass filters whose edges learn.

:mod:`specenhance.features.base` says what is common to them.
"""

from specenhance._published import NORMALISATION
from specenhance.features.base import LOG_FLOOR
from specenhance.features.kaldi import KaldiFbank, kaldi_mel_banks
from specenhance.features.leaf import Leaf
from specenhance.features.logmel import LogMel
from specenhance.features.registry import create_features, list_features, register_features
from specenhance.features.sincnet import SincNet
from specenhance.features.trainable_mel import TrainableMel

__all__ = [
    "LOG_FLOOR",
    "NORMALISATION",
    "KaldiFbank",
    "Leaf",
    "LogMel",
    "SincNet",
    "TrainableMel",
    "create_features",
    "kaldi_mel_banks",
    "list_features",
    "register_features",
]
