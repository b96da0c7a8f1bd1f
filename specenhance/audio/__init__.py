"""Sound files to mono float32 samples at one rate, by NumPy: whole, a part of them, or block by block. Needs no PyTorch.

WAV, FLAC, AIFF, AU, CAF, W64 and their like are read by libsndfile (the package soundfile), everything else (MP3, M4A, OGG,
Opus, WMA, WebM, ...) by FFmpeg (the package av, PyAV, whose wheels bring it). A file is known by its content, not by its
name. It is read whole or refused: one that ends before its header says, or that is damaged in its middle, is an error.
"""

from specenhance.audio.errors import AudioError
from specenhance.audio.opening import SUFFIXES
from specenhance.audio.reading import (
    LONGEST,
    Header,
    probe,
    read_blocks,
    read_excerpt,
    read_samples,
    resampled,
)

__all__ = [
    "LONGEST",
    "SUFFIXES",
    "AudioError",
    "Header",
    "probe",
    "read_blocks",
    "read_excerpt",
    "read_samples",
    "resampled",
]
