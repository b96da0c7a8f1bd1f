"""``ast:NAME_OR_PATH``: an Audio Spectrogram Transformer that has learned the student's classes."""

from __future__ import annotations

from torch import nn

from specenhance.distillation.registry import register_teacher
from specenhance.distillation.teachers import Reordered

__all__ = ["ast"]


@register_teacher("ast")
def ast(name: str, classes: list[str], *, frames: int, bins: int) -> nn.Module:
    """Load an AST by a name on the Hugging Face hub or from a folder; its classes are found by their names.

    Raises:
        ValueError: for an AST that has not learned these classes; and as :func:`specenhance.models.ast.ast_teacher`.
        ImportError: where transformers is missing.
    """
    from specenhance.models.ast import ast_teacher  # transformers, which not every user has

    teacher = ast_teacher(name, len(classes), frames=frames, bins=bins)
    known = [teacher.model.config.id2label[i] for i in range(len(classes))]
    if sorted(known) != sorted(classes):
        raise ValueError(
            f"teacher = {'ast:' + name!r} has not learned these classes ({', '.join(classes[:3])}, ...): fine-tune it "
            f"with specenhance train --role teacher --backbone ast:{name}, and give that run"
        )
    return Reordered(teacher, [known.index(name) for name in classes])
