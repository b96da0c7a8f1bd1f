"""``timm:local-dir:FOLDER``: a timm model that has learned the student's classes."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from specenhance.distillation.registry import register_teacher
from specenhance.distillation.teachers import LOCAL, Reordered, timm_teacher

__all__ = ["timm"]


@register_teacher("timm")
def timm(name: str, classes: list[str], *, frames: int, bins: int) -> nn.Module:
    """Load a model of timm from a folder. Its classes are brought into the order of the student's.

    Args:
        name: ``local-dir:FOLDER``, for a folder that ``timm.models.save_for_hf`` wrote.
        classes: The names of the student's classes. The model has learned the same classes, in any order.
        frames: The frames T of the student's spectrograms.
        bins: The bins F of the student's spectrograms.

    Raises:
        ValueError: for a model whose configuration does not name these classes, and as
            :func:`specenhance.distillation.teachers.timm_teacher`.

    >>> import tempfile, timm as library
    >>> learned = library.create_model("test_resnet", in_chans=1, num_classes=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     library.models.save_for_hf(learned, folder, model_config={"label_names": ["yes", "no"]})
    ...     teacher = timm(f"local-dir:{folder}", ["no", "yes"], frames=64, bins=32)
    >>> teacher.order
    [1, 0]
    """
    known: list[str] = []
    if name.startswith(LOCAL):
        config = json.loads((Path(name.removeprefix(LOCAL)) / "config.json").read_text(encoding="utf-8"))
        known = config.get("label_names") or config.get("pretrained_cfg", {}).get("label_names") or []
    if sorted(known) != sorted(classes):
        raise ValueError(
            f"teacher = {'timm:' + name!r} does not say that it has learned these classes ({', '.join(classes[:3])}, ...): "
            f"train it, specenhance train --role teacher --backbone {name}, and give that run"
        )
    return Reordered(
        timm_teacher(name, len(classes), frames=frames, bins=bins), [known.index(name) for name in classes]
    )
