"""Speech Commands V2: spoken keywords of one second (Warden, "Speech Commands", arXiv:1804.03209)."""

from __future__ import annotations

import os
from pathlib import Path

from specenhance._published import NORMALISATION
from specenhance.audio import SUFFIXES
from specenhance.data.base import AudioDataset
from specenhance.data.layout import audio_names, check_split, others, require_folder, subfolders
from specenhance.data.registry import register_data
from specenhance.data.tables import read_list

__all__ = ["SpeechCommandsV2", "speaker_of"]

NOISE_FOLDER = "_background_noise_"
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}


MEAN, STD = NORMALISATION["speech_commands"]


@register_data("speech_commands", mean=MEAN, std=STD, frames=128, epochs=20, time_mask=16, freq_mask=16, shift=10)
class SpeechCommandsV2(AudioDataset):
    """Speech Commands V2 as it is published: one folder per keyword, and lists of the validation and test files.

    ``validation_list.txt`` and ``testing_list.txt`` name files as ``keyword/file.wav``; the suffix is that of the file.
    All other files are for training. ``classes`` are the names of the keywords' folders, sorted, without
    ``_background_noise_``. ``groups`` has the kind ``"speaker"``.

    Args:
        root: Folder that holds the keywords' folders and the two lists.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        sample_rate: Sample rate of the waveforms, in Hz.

    Raises:
        FileNotFoundError: for a missing folder or list, and for a missing file that a list names.
        ValueError: for an unknown split, a file in both lists, a keyword without a file, or a split without a file. Also for
            one sound in two formats: the second would be in training even if the first is in a list.

    >>> import tempfile, numpy as np, soundfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     Path(root, "yes").mkdir()
    ...     for name in ("a.wav", "b.wav", "c.wav"):
    ...         soundfile.write(f"{root}/yes/{name}", np.zeros(1600), 16000)
    ...     _ = Path(root, "validation_list.txt").write_text("yes/a.wav")
    ...     _ = Path(root, "testing_list.txt").write_text("yes/b.wav")
    ...     train = SpeechCommandsV2(root, "train")
    >>> train.classes, [path.name for path in train.paths]
    (['yes'], ['c.wav'])
    """

    def __init__(self, root: str | os.PathLike[str], split: str, sample_rate: int = 16000) -> None:
        check_split(split)
        root = require_folder(Path(root), "a folder for each keyword, validation_list.txt and testing_list.txt")
        listed = {name: read_list(root / file) for name, file in LISTS.items()}
        both = sorted(listed["validation"] & listed["test"])
        if both:
            raise ValueError(f"{root}: {both[0]} and {len(both) - 1} more are in both {' and '.join(LISTS.values())}")
        classes = [name for name in subfolders(root) if name != NOISE_FOLDER]
        sounds = {name: audio_names(root / name) for name in classes}
        files = {f"{name}/{file}": label for label, name in enumerate(classes) for file in sounds[name]}
        for name, members in listed.items():
            missing = sorted(members - files.keys())
            if missing:
                raise FileNotFoundError(
                    f"{root / LISTS[name]} names {len(missing)} files that are not there: {', '.join(missing[:3])}"
                    f"{', ...' if len(missing) > 3 else ''}; unpack the data set again, or correct the list"
                )
        chosen = listed[split] if split in listed else files.keys() - listed["validation"] - listed["test"]
        if not chosen:
            raise ValueError(f"{root}: no file in the split {split!r}; {len(files)} files in {len(classes)} keywords")
        # Of the other files at the root, a user can miss only sounds.
        self.passed_over = [name for name in others(root, classes) if Path(name).suffix.lower() in SUFFIXES] + [
            f"{name}/{other}" for name in classes for other in others(root / name, sounds[name])
        ]
        names = sorted(chosen)
        super().__init__(classes, [files[name] for name in names], [root / name for name in names], sample_rate)
        self.groups = {"speaker": [speaker_of(name) for name in names]}


def speaker_of(path: str) -> str:
    """Give the speaker of a file of Speech Commands, which is the first part of its name.

    >>> speaker_of("yes/004ae714_nohash_0.wav")
    '004ae714'
    """
    return path.rpartition("/")[2].partition("_")[0]
