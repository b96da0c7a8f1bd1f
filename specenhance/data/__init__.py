"""Data sets of labelled waveforms: published ones, your own recordings, and one that is made in memory."""

from specenhance.data.audio import AudioError, read_audio
from specenhance.data.audioset import AudioSet
from specenhance.data.base import AudioDataset, Batch, collate
from specenhance.data.cache import CachedWaveforms
from specenhance.data.esc50 import ESC50
from specenhance.data.folder import AudioFolder
from specenhance.data.fsd50k import FSD50K
from specenhance.data.registry import list_data, open_data, register_data
from specenhance.data.speech_commands import SpeechCommandsV2
from specenhance.data.synthetic import SyntheticSounds

__all__ = [
    "ESC50",
    "FSD50K",
    "AudioDataset",
    "AudioError",
    "AudioFolder",
    "AudioSet",
    "Batch",
    "CachedWaveforms",
    "SpeechCommandsV2",
    "SyntheticSounds",
    "collate",
    "list_data",
    "open_data",
    "read_audio",
    "register_data",
]
