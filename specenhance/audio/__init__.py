"""Reading sound files: whole, in part, or block by block. The result is mono float32 at one sample rate.

This package needs NumPy, not PyTorch. libsndfile (the package soundfile) reads WAV, FLAC, AIFF, AU, CAF, W64 and similar
formats. FFmpeg (the package av, also called PyAV) reads all others: MP3, M4A, OGG, Opus, WMA, WebM, ... The content of a file
decides its format, not its name. A file that ends early or is damaged is an error.
"""

from specenhance.audio.errors import AudioError
from specenhance.audio.memory import SoundBytes
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
    "SoundBytes",
    "probe",
    "read_blocks",
    "read_excerpt",
    "read_samples",
    "resampled",
]
