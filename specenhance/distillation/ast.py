"""``ast:NAME_OR_PATH``: an Audio Spectrogram Transformer that has learned the student's classes."""

from __future__ import annotations

from torch import nn

from specenhance.distillation.registry import register_teacher
from specenhance.distillation.teachers import Reordered

__all__ = ["ast"]


@register_teacher("ast")
def ast(name: str, classes: list[str], *, frames: int, bins: int) -> nn.Module:
    """Load an AST from the Hugging Face hub or from a folder. Its classes are brought into the order of the student's.

    Args:
        name: The name on the hub, or the path of the folder.
        classes: The names of the student's classes. The AST has learned the same classes, in any order.
        frames: The frames T of the student's spectrograms.
        bins: The bins F of the student's spectrograms.

    Raises:
        ValueError: for an AST that has not learned these classes, and as :func:`specenhance.models.ast.ast_teacher`.
        ImportError: if transformers is missing.

    >>> import tempfile
    >>> from specenhance.models.ast import ast_teacher
    >>> learned = ast_teacher("deit_tiny_distilled_patch16_224", 2, frames=64, bins=32, pretrained=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     learned.save_pretrained(folder, ["yes", "no"])
    ...     teacher = ast(folder, ["no", "yes"], frames=64, bins=32)
    >>> teacher.order
    [1, 0]
    """
    from specenhance.models.ast import ast_teacher  # here, because transformers is optional

    teacher = ast_teacher(name, len(classes), frames=frames, bins=bins)
    known = [teacher.model.config.id2label[i] for i in range(len(classes))]
    if sorted(known) != sorted(classes):
        raise ValueError(
            f"teacher = {'ast:' + name!r} has not learned these classes ({', '.join(classes[:3])}, ...): fine-tune it "
            f"with specenhance train --role teacher --backbone ast:{name}, and give that run"
        )
    return Reordered(teacher, [known.index(name) for name in classes])
