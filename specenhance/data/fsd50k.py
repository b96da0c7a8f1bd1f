"""FSD50K: 51,197 clips of 200 classes, several of them a clip.

Source: Fonseca et al., "FSD50K: an Open Dataset of Human-Labeled Sound Events", arXiv:2010.00475.
"""

from __future__ import annotations

import os
from pathlib import Path

from specenhance.data.base import AudioDataset
from specenhance.data.layout import check_split, require_files, require_folder
from specenhance.data.registry import register_data
from specenhance.data.tables import read_rows, read_table

__all__ = ["FSD50K"]

TABLES = "FSD50K.ground_truth"


# The settings of PSLA's public code for FSD50K (Gong et al., arXiv:2102.01243), whose authors wrote CMKD too.
@register_data(
    "fsd50k", multi_label=True, mean=-4.6476, std=4.5699,
    frames=1024, crop="random", epochs=40, batch_size=24, optimizer="adam", lr=5e-4, betas=(0.95, 0.999), weight_decay=5e-7,
    schedule="step", decay=0.5, decay_from=10, decay_every=5, time_mask=192, freq_mask=48, mixup=0.5,
)  # fmt: skip
class FSD50K(AudioDataset):
    """FSD50K as it is published: ``FSD50K.dev_audio/``, ``FSD50K.eval_audio/`` and ``FSD50K.ground_truth/``.

    The development clips train and validate, as the column ``split`` of ``dev.csv`` says. The evaluation clips test.
    ``classes`` are those of ``vocabulary.csv``, in its order.

    Args:
        root: Folder that holds these three.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        sample_rate: Sample rate of the waveforms, in Hz. The published clips have 44100.

    Raises:
        FileNotFoundError: for a missing folder, table, or file that a table names.
        ValueError: for a malformed table, a label that is not in the vocabulary, or a split without a clip.

    >>> import tempfile, numpy as np, soundfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for name in ("FSD50K.dev_audio", "FSD50K.eval_audio", TABLES):
    ...         Path(root, name).mkdir()
    ...     _ = Path(root, TABLES, "vocabulary.csv").write_text("0,Bark,/m/1\\n1,Rain,/m/2\\n")
    ...     _ = Path(root, TABLES, "dev.csv").write_text('fname,labels,mids,split\\n64,"Bark,Rain","/m/1,/m/2",train\\n')
    ...     soundfile.write(f"{root}/FSD50K.dev_audio/64.wav", np.zeros(1600), 16000)
    ...     data = FSD50K(root, "train")
    >>> data.classes, data.labels
    (['Bark', 'Rain'], [(0, 1)])
    """

    def __init__(self, root: str | os.PathLike[str], split: str, sample_rate: int = 16000) -> None:
        check_split(split)
        root = require_folder(
            Path(root), "FSD50K's folders FSD50K.dev_audio, FSD50K.eval_audio and FSD50K.ground_truth"
        )
        vocabulary = root / TABLES / "vocabulary.csv"
        classes = [row[1] for _, row in read_rows(vocabulary, 3)]
        numbers = {name: number for number, name in enumerate(classes)}
        part = "eval" if split == "test" else "dev"
        table = root / TABLES / f"{part}.csv"
        labels, paths = [], []
        for where, row in read_table(table, ["fname", "labels", *(["split"] if part == "dev" else [])]):
            if part == "dev" and row["split"] != {"train": "train", "validation": "val"}[split]:
                continue
            names = [name.strip() for name in row["labels"].split(",")]
            unknown = [name for name in names if name not in numbers]
            if unknown:
                raise ValueError(f"{where}: label {unknown[0]!r} is not in {vocabulary}; take the published tables")
            labels.append(tuple(sorted({numbers[name] for name in names})))
            paths.append(root / f"FSD50K.{part}_audio" / f"{row['fname']}.wav")
        if not paths:
            raise ValueError(f"{table}: no clip of the split {split!r}; take the published table")
        require_files(paths, named_in=table)
        super().__init__(classes, labels, paths, sample_rate)
